//! Bulk void: exactly the selected codes, whatever else happens to them and to the workers.

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::job::void_codes::{Chunk, Filter};
use cuponera_domain::job::{Job, JobStatus, Task};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Claim, ClaimState, RejectedRowCursor, Store, VoidSelection};
use cuponera_store::{Error, Result};
use cuponera_testkit::{World, claim, generate, race, rules};
use serde_json::json;
use sqlx::{query, query_scalar};

use super::{held, redeemed, void};

async fn try_submit(world: &World, selection: VoidSelection) -> std::result::Result<Job, Rejection> {
    let answer = world.store().submit_void(None, world.business, "service:test", selection, "leaked").await;
    answer.unwrap().outcome
}

async fn submit(world: &World, selection: VoidSelection) -> Job {
    try_submit(world, selection).await.unwrap()
}

fn whole_book(world: &World) -> VoidSelection {
    VoidSelection::Book(world.book, Filter::default())
}

/// Does what a worker does with a chunk of a bulk void.
async fn work(store: &Store, claim: &Claim) -> Result<ClaimState> {
    let Task::VoidCodes(spec, chunk) = &claim.task else { panic!("not a void: {:?}", claim.task) };
    match chunk {
        Chunk::Listed { codes, waits } => store.finish_voided_list(claim, spec, codes, *waits).await,
        Chunk::Positions { positions, ends_at_other_job, waits } => {
            store.finish_voided_positions(claim, spec, positions, *ends_at_other_job, *waits).await
        }
    }
}

async fn work_all(world: &World, job: &Job) -> Job {
    while let Some(claim) = claim(world.store(), "worker").await {
        assert_eq!(work(world.store(), &claim).await.unwrap(), ClaimState::Held);
    }
    world.store().get_job(world.business, job.id).await.unwrap()
}

async fn void_codes_of(world: &World, prefix: &str) -> i64 {
    query_scalar("select count(*) from coupon where status = 'VOID' and starts_with(code, $1)")
        .bind(prefix)
        .fetch_one(world.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_book_is_voided_except_for_what_is_redeemed() {
    let (world, codes) = held(6, 1).await;
    world.insert_codes_into(world.book, "FREE", 12_000).await;
    let used = &codes[0];
    redeemed(&world, used).await;
    world.locked(&codes[1], "ana").await;
    world.run_batch(void(&world, &codes[2])).await.outcome.unwrap();
    let preview = world.store().preview_void(world.business, &whole_book(&world)).await.unwrap();
    let counts = preview.counts;
    let seen = (counts.available, counts.assigned, counts.locked, counts.redeemed, counts.void);
    assert_eq!(seen, (12_000, 3, 1, 1, 1));
    assert_eq!(world.counts().await, counts, "counting changes nothing");
    let job = submit(&world, whole_book(&world)).await;
    assert_eq!(job.total, Some(12_004));
    let job = work_all(&world, &job).await;
    assert_eq!((job.status, job.succeeded, job.failed), (JobStatus::Succeeded, 12_004, 0));
    assert_eq!((&job.result["voidedCount"], &job.result["redeemedCount"]), (&json!(12_004), &json!(1)));
    assert_eq!(world.coupon(used).await.status, CouponStatus::Redeemed);
    assert_eq!(world.counts().await.void, 12_005);
    world.assert_invariants().await;
    let again = submit(&world, whole_book(&world)).await;
    assert_eq!(work_all(&world, &again).await.succeeded, 0);
}

#[tokio::test]
async fn a_filter_selects_by_status_prefix_and_time() {
    let (world, codes) = held(4, 1).await;
    world.insert_codes_into(world.book, "A", 30).await;
    world.insert_codes_into(world.book, "B", 30).await;
    world.locked(&codes[0], "ana").await;
    world.locked(&codes[1], "ana").await;
    world.expire_all_locks().await;
    query("update coupon set created_at = now() - interval '2 days' where code < 'A000010'")
        .execute(world.pool())
        .await
        .unwrap();
    let since = chrono::Utc::now() - chrono::TimeDelta::days(1);
    let only = |filter| VoidSelection::Book(world.book, filter);
    let run = async |filter| {
        let job = submit(&world, only(filter)).await;
        work_all(&world, &job).await.succeeded
    };
    let of_a = Filter { prefix: Some("A".into()), created_before: Some(since), ..Filter::default() };
    assert_eq!((run(of_a).await, void_codes_of(&world, "A").await), (10, 10));
    let locked = Filter { status: Some(CouponStatus::Locked), ..Filter::default() };
    assert_eq!(run(locked).await, 0, "expired locks count as absent");
    let assigned = Filter { status: Some(CouponStatus::Assigned), ..Filter::default() };
    assert_eq!((run(assigned).await, void_codes_of(&world, "C").await), (4, 4));
    assert_eq!(void_codes_of(&world, "B").await, 0);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_list_reports_what_it_does_not_void() {
    let (world, codes) = held(3, 1).await;
    redeemed(&world, &codes[0]).await;
    world.run_batch(void(&world, &codes[1])).await.outcome.unwrap();
    let mut list = codes.clone();
    list.insert(1, "NONE".to_owned());
    let selection = VoidSelection::Codes(list);
    let preview = world.store().preview_void(world.business, &selection).await.unwrap();
    assert_eq!((preview.counts.all(), preview.counts.assigned, preview.not_found), (3, 1, 1));
    let job = submit(&world, selection).await;
    let job = work_all(&world, &job).await;
    assert_eq!((job.status, job.succeeded, job.failed), (JobStatus::Succeeded, 2, 2));
    let expected = json!({ "voidedCount": 1, "alreadyVoidCount": 1, "redeemedCount": 1, "notFoundCount": 1,
                           "couponBookId": world.book });
    assert_eq!(job.result, expected);
    let page = world.store().list_rejected_rows(job.id, RejectedRowCursor::default()).await.unwrap();
    let rejected: Vec<_> =
        page.rejections.iter().map(|row| (row.line, row.code.as_str(), row.reason.as_ref())).collect();
    assert_eq!(rejected, [(1, codes[0].as_str(), "coupon_already_redeemed"), (2, "NONE", "not_found")]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_codes_of_a_generation_are_voided_and_no_others() {
    let world = World::new().await;
    world.insert_codes_into(world.book, "BEFORE", 10).await;
    let generation = generate(world.store(), world.business, world.book, "G-{XXXXXXXX}", 300).await;
    generate(world.store(), world.business, world.book, "H-{XXXXXXXX}", 50).await;
    let selection = VoidSelection::Job(generation.id);
    let preview = world.store().preview_void(world.business, &selection).await.unwrap();
    assert_eq!((preview.counts.available, preview.counts.all()), (300, 300));
    let job = submit(&world, selection).await;
    let job = work_all(&world, &job).await;
    assert_eq!(
        (job.succeeded, void_codes_of(&world, "").await, void_codes_of(&world, "G-").await),
        (300, 300, 300)
    );
    assert_eq!(try_submit(&world, VoidSelection::Job(job.id)).await.unwrap_err().code(), "invalid");
    let elsewhere = world.another_business().await;
    let foreign = VoidSelection::Job(generation.id);
    let foreign =
        world.store().submit_void(None, elsewhere, "service:test", foreign, "leaked").await.unwrap();
    assert_eq!(foreign.outcome.unwrap_err(), Rejection::not_found("job"));
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_codes_of_a_job_that_still_runs_are_not_voided() {
    let world = World::new().await;
    let pattern = Pattern::parse("G-{XXXXXXXX}").unwrap();
    let generation = world
        .store()
        .submit_generation(None, world.business, "service:test", world.book, &pattern, 10)
        .await
        .unwrap()
        .outcome
        .unwrap();
    let refused = try_submit(&world, VoidSelection::Job(generation.id)).await.unwrap_err();
    assert_eq!(refused.code(), "wrong_job_state");
}

/// A code that another transaction holds is left to a later chunk, and calls go on meanwhile.
#[tokio::test]
async fn a_held_code_is_voided_later_and_delays_no_other() {
    let (world, codes) = held(50, 1).await;
    let mut other = world.pool().begin().await.unwrap();
    query("select from coupon where code = $1 for update")
        .bind(&codes[7])
        .execute(&mut *other)
        .await
        .unwrap();
    let job = submit(&world, whole_book(&world)).await;
    let first = claim(world.store(), "worker").await.unwrap();
    assert_eq!(work(world.store(), &first).await.unwrap(), ClaimState::Held);
    assert_eq!(void_codes_of(&world, "").await, 49);
    let second = claim(world.store(), "worker").await.unwrap();
    assert!(
        matches!(work(world.store(), &second).await, Err(Error::Unavailable(_))),
        "it is tried again later"
    );
    other.rollback().await.unwrap();
    assert_eq!(work(world.store(), &second).await.unwrap(), ClaimState::Held);
    let job = world.store().get_job(world.business, job.id).await.unwrap();
    assert_eq!((job.status, job.succeeded), (JobStatus::Succeeded, 50));
    world.assert_invariants().await;
}

/// Each chunk is worked twice at once, as after a lease that ended too early.
#[tokio::test]
async fn a_chunk_that_two_workers_have_counts_once() {
    let (world, _) = held(20, 1).await;
    world.insert_codes_into(world.book, "FREE", 6_000).await;
    let job = submit(&world, whole_book(&world)).await;
    while let Some(claim) = claim(world.store(), "worker").await {
        let (first, second) = futures::join!(work(world.store(), &claim), work(world.store(), &claim));
        let settled = [&first, &second].iter().filter(|one| matches!(one, Ok(ClaimState::Held))).count();
        assert_eq!(settled, 1, "{first:?} {second:?}");
    }
    let job = world.store().get_job(world.business, job.id).await.unwrap();
    assert_eq!((job.status, job.succeeded, world.counts().await.void), (JobStatus::Succeeded, 6_020, 6_020));
    world.assert_invariants().await;
}

/// Random assignments, locks and redemptions run while two workers void the free codes: no code that a user holds is voided.
#[tokio::test]
async fn codes_that_are_assigned_meanwhile_are_not_voided_as_free_ones() {
    let world = World::with(rules()).await;
    world.insert_codes(3_000).await;
    let free = Filter { status: Some(CouponStatus::Available), ..Filter::default() };
    let job = submit(&world, VoidSelection::Book(world.book, free)).await;
    let workers = race(2, 0..2, async |_| {
        while let Some(claim) = claim(world.store(), "worker").await {
            while work(world.store(), &claim).await.is_err() {}
        }
    });
    let users = race(8, 0..200, async |n| {
        let user = format!("user-{n}");
        let Ok(mut given) = world.store().run_batch(&[world.random(&user)]).await else { return 0 };
        i64::from(given.pop().unwrap().outcome.is_ok())
    });
    let (_, given) = futures::join!(workers, users);
    let counts = world.counts().await;
    assert_eq!((counts.assigned, counts.void), (given.iter().sum(), 3_000 - given.iter().sum::<i64>()));
    let job = world.store().get_job(world.business, job.id).await.unwrap();
    assert_eq!((job.status, job.succeeded), (JobStatus::Succeeded, counts.void));
    world.assert_invariants().await;
}
