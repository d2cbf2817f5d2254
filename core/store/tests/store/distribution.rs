//! Distributions: each code has one holder, the numbers are fair, limits hold, and no reservation outlives its job.

mod ends;
mod numbers;
mod reservations;
mod take_back;

use std::collections::BTreeMap;

use cuponera_domain::book::BookRules;
use cuponera_domain::distribution::{Amount, Mode, OnShortage, Rules};
use cuponera_domain::id::{BookId, JobId, PoolId};
use cuponera_domain::job::distribute::Chunk;
use cuponera_domain::job::{Job, JobStatus, Task};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Claim, ClaimState, NewDistribution, ReportRow, Step, Store};
use cuponera_store::{Error, Result};
use cuponera_testkit::{World, claim, rules};
use sqlx::{query, query_as, query_scalar};

use crate::user_pool::{ids, new_pool};

pub(crate) const PER_USER: fn(u32) -> Amount = Amount::PerUser;
pub(crate) const TOTAL: fn(u64) -> Amount = Amount::Total;

fn limited_to(codes: i32) -> BookRules {
    BookRules { max_codes_per_user: Some(codes), ..rules() }
}

/// A pool with this number of members, inserted with plain SQL.
pub(crate) async fn pool_of(world: &World, members: i32) -> PoolId {
    let pool = new_pool(world, "Pool").await;
    query(
        "with added as (insert into pool_member (pool_id, user_id)
                        select $1, 'user-' || lpad(n::text, 6, '0') from generate_series(0, $2 - 1) n)
         update user_pool set member_count = $2 where id = $1",
    )
    .bind(pool.0)
    .bind(members)
    .execute(world.pool())
    .await
    .unwrap();
    pool
}

fn new(world: &World, pool: PoolId, mode: Mode, amount: Amount, on_shortage: OnShortage) -> NewDistribution {
    NewDistribution {
        pool,
        book: world.book,
        rules: Rules { mode, amount, seed: 42, on_shortage },
        dry_run: false,
    }
}

async fn submit(world: &World, new: NewDistribution) -> Result<Job, Rejection> {
    world.store().submit_distribution(None, world.business, "service:test", new).await.unwrap().outcome
}

/// Does what a worker does with a chunk of a distribution.
async fn work(store: &Store, claim: &Claim) -> Result<Step> {
    let Task::Distribute(spec, step) = &claim.task else { panic!("not a distribution: {:?}", claim.task) };
    match *step {
        Chunk::NoteMembers if spec.dry_run => store.finish_previewed(claim, spec).await,
        Chunk::NoteMembers => store.finish_noted_members(claim, spec).await,
        Chunk::Reserve { needed, from_position, waits } => {
            store.finish_reserved_codes(claim, spec, needed, from_position, waits).await
        }
        Chunk::Allocate { needed } => store.finish_allocated(claim, spec, needed).await,
        Chunk::Assign { slice } => store.finish_assigned_slice(claim, spec, slice).await,
    }
}

async fn next(world: &World) -> Claim {
    claim(world.store(), "worker").await.expect("there is a runnable chunk")
}

fn is_assign(claim: &Claim) -> bool {
    matches!(claim.task, Task::Distribute(_, Chunk::Assign { .. }))
}

/// Works the chunks up to the first that assigns codes, and returns it.
async fn up_to_assign(world: &World) -> Claim {
    loop {
        let chunk = next(world).await;
        if is_assign(&chunk) {
            return chunk;
        }
        assert_eq!(work(world.store(), &chunk).await.unwrap(), Step::Finished);
    }
}

/// Works all chunks to their ends.
async fn work_all(world: &World) {
    while let Some(claim) = claim(world.store(), "worker").await {
        match work(world.store(), &claim).await {
            Ok(Step::Finished | Step::Stopped) => {}
            Err(Error::Rejected(rejection)) => {
                assert_eq!(
                    world.store().stop_job_if_held(&claim, &rejection).await.unwrap(),
                    ClaimState::Held
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn job(world: &World, id: JobId) -> Job {
    world.store().get_job(world.business, id).await.unwrap()
}

/// The whole report.
async fn report(world: &World, id: JobId) -> Vec<ReportRow> {
    let mut rows: Vec<ReportRow> = Vec::new();
    loop {
        let page = world.store().list_report(id, rows.last().map(|row| row.ordinal)).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        rows.extend(page);
    }
}

/// How many codes of a book each holder has.
async fn held(world: &World, book: BookId) -> BTreeMap<String, i64> {
    let held =
        "select holder, count(*) from coupon where book_id = $1 and holder is not null group by holder";
    let held: Vec<(String, i64)> = query_as(held).bind(book.0).fetch_all(world.pool()).await.unwrap();
    held.into_iter().collect()
}

async fn reserved(world: &World) -> i64 {
    let reserved = "select (select count(*) from coupon where reserved_by is not null)
                           + (select count(*) from distribution_slice where positions is not null)";
    query_scalar(reserved).fetch_one(world.pool()).await.unwrap()
}

/// Nothing of a distribution is left that could keep a code.
async fn assert_released(world: &World) {
    assert_eq!(reserved(world).await, 0);
    world.assert_invariants().await;
}

/// Assigns a code as a program of the version before does, which knows no reservation.
async fn give_as_before(world: &World, code: &str, user: &str) {
    let give = "with done as (
        update coupon set status = 'ASSIGNED', holder = $2, assignment_id = gen_random_uuid(), assigned_at = now(),
                          version = version + 1
        where code = $1 and status = 'AVAILABLE' returning *),
      event as (
        insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
        select gen_random_uuid(), business_id, book_id, position, version, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', $2, 'test' from done),
      delta as (insert into book_delta (book_id, available, assigned) select book_id, -1, 1 from done)
      insert into user_quota as q (book_id, user_id, held, granted) select book_id, $2, 1, 1 from done
      on conflict (book_id, user_id) do update set held = q.held + 1";
    assert_eq!(query(give).bind(code).bind(user).execute(world.pool()).await.unwrap().rows_affected(), 1);
}
