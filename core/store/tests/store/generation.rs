//! Generation: exactly the requested number of distinct codes, up to the last code of a space, despite foreign codes.

use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

use cuponera_domain::book::{BookPatch, BookStatus, Change};
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::space::{CodeSpace, Codes};
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::job::{Job, JobKind, JobStatus, Task, generate};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{BulkOutcome, Claim};
use cuponera_testkit::{World, claim, generate, generation_of, race, rules, waits_for, work_generation};
use sqlx::error::DatabaseError;
use sqlx::{PgConnection, query, query_scalar};

const PATTERN: &str = "S-{9999}";

async fn submit(world: &World, pattern: &str, quantity: u64) -> Result<Job, Rejection> {
    let pattern = Pattern::parse(pattern).unwrap();
    let store = world.store();
    store
        .submit_generation(None, world.business, "test", world.book, &pattern, quantity)
        .await
        .unwrap()
        .outcome
}

/// The codes of these indexes, in the order of the indexes.
async fn codes(world: &World, indexes: Range<u64>) -> Codes {
    let space = world.store().find_space(world.business, PATTERN).await.unwrap().unwrap();
    CodeSpace::new(Pattern::parse(PATTERN).unwrap(), &space.key).codes(indexes).unwrap()
}

async fn used(world: &World) -> u64 {
    world.store().find_space(world.business, PATTERN).await.unwrap().map_or(0, |space| space.used)
}

/// Inserts the codes of these indexes into another book, as an import of the same codes would, one commit each.
async fn plant_foreign(world: &World, indexes: &[u64]) {
    let book = world.another_book(&rules()).await;
    for index in indexes {
        let codes = codes(world, *index..index + 1).await;
        let mut connection = world.pool().acquire().await.unwrap();
        insert_foreign(&mut connection, world.business, book, codes.get(0).unwrap()).await;
    }
}

async fn insert_foreign(connection: &mut PgConnection, business: BusinessId, book: BookId, code: &str) {
    let planted = query(
        "with place as (
           update coupon_book set next_position = next_position + 1 where id = $2 returning next_position - 1 as position),
         count as (insert into book_delta (book_id, generated, available) values ($2, 1, 1))
         insert into coupon (business_id, book_id, job_id, position, code) select $1, $2, $2, position, $3 from place",
    )
    .bind(business.0)
    .bind(book.0)
    .bind(code)
    .execute(connection)
    .await;
    // A worker may have created the code meanwhile: then it is not foreign, and nothing was changed.
    if let Err(error) = planted {
        assert!(error.as_database_error().is_some_and(DatabaseError::is_unique_violation), "{error}");
    }
}

/// One attempt of a chunk around foreign codes, with the top-ups stored with the chunk.
async fn work_around(world: &World, claim: &Claim, further: &[Range<u64>]) -> BulkOutcome {
    let (indexes, first_position, edge) = generation_of(claim);
    let mut candidates = vec![codes(world, indexes.clone()).await];
    for range in further {
        candidates.push(codes(world, range.clone()).await);
    }
    let wanted = indexes.end - indexes.start;
    world.store().finish_generated_around(claim, &candidates, wanted, first_position, edge).await.unwrap()
}

fn top_ups(claim: &Claim) -> Vec<Range<u64>> {
    let Task::GenerateCodes(_, generate::Chunk { top_ups, .. }) = &claim.task else {
        panic!("not a generation")
    };
    top_ups.clone()
}

async fn top_up(world: &World, claim: &Claim, count: u64) -> Option<Range<u64>> {
    let pattern = Pattern::parse(PATTERN).unwrap();
    world.store().reserve_top_up_if_held(claim, &pattern, count).await.unwrap()
}

/// Executes a chunk as a worker would; `false` if its claim was lost meanwhile.
async fn work_whatever_it_takes(world: &World, claim: &Claim) -> bool {
    let mut further = top_ups(claim);
    if further.is_empty() {
        match work_generation(world.store(), claim).await {
            BulkOutcome::Finished => return true,
            BulkOutcome::Lost => return false,
            BulkOutcome::Conflict | BulkOutcome::MissingCodes(_) => {}
        }
    }
    loop {
        match work_around(world, claim, &further).await {
            BulkOutcome::Finished => return true,
            BulkOutcome::Lost => return false,
            BulkOutcome::Conflict => {}
            BulkOutcome::MissingCodes(missing) => match top_up(world, claim, missing).await {
                Some(range) => further.push(range),
                None => return false,
            },
        }
    }
}

/// The book's codes have positions from 0 without a gap.
async fn assert_dense(world: &World, count: i64) {
    let found: (i64, Option<i32>, Option<i32>) = sqlx::query_as(
        "select count(distinct position), min(position), max(position) from coupon where book_id = $1",
    )
    .bind(world.book.0)
    .fetch_one(world.pool())
    .await
    .unwrap();
    let last = i32::try_from(count - 1).unwrap();
    assert_eq!(found, (count, Some(0), Some(last)), "positions");
}

/// Every index that was ever reserved is an existing code: no index is lost.
async fn assert_no_index_burned(world: &World) {
    let used = codes(world, 0..used(world).await).await;
    let standing: Vec<String> =
        query_scalar("select code from coupon").fetch_all(world.pool()).await.unwrap();
    let standing: HashSet<&str> = standing.iter().map(String::as_str).collect();
    let burned: Vec<&str> = used.iter().filter(|code| !standing.contains(code)).collect();
    assert!(burned.is_empty(), "{} of {} indexes are lost", burned.len(), used.len());
}

#[tokio::test]
async fn all_ten_thousand_codes_of_a_space_can_be_made() {
    let world = World::new().await;
    let job = generate(world.store(), world.business, world.book, PATTERN, 10_000).await;
    assert_eq!((job.status, job.succeeded), (JobStatus::Succeeded, 10_000));
    let distinct: i64 = query_scalar("select count(distinct code) from coupon where code ~ '^S-[0-9]{4}$'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(distinct, 10_000);
    assert_eq!(submit(&world, PATTERN, 1).await, Err(Rejection::PatternExhausted { remaining: 0 }));
    assert_dense(&world, 10_000).await;
    world.assert_invariants().await;
}

#[tokio::test]
async fn one_more_than_remains_is_refused_with_nothing_written() {
    let world = World::new().await;
    assert_eq!(submit(&world, PATTERN, 10_001).await, Err(Rejection::PatternExhausted { remaining: 10_000 }));
    generate(world.store(), world.business, world.book, PATTERN, 9_990).await;
    assert_eq!(submit(&world, PATTERN, 11).await, Err(Rejection::PatternExhausted { remaining: 10 }));
    let jobs: i64 = query_scalar("select count(*) from job").fetch_one(world.pool()).await.unwrap();
    let next: i32 =
        query_scalar("select next_position from coupon_book").fetch_one(world.pool()).await.unwrap();
    assert_eq!((jobs, next, used(&world).await), (1, 9_990, 9_990));
    generate(world.store(), world.business, world.book, PATTERN, 10).await;
    world.assert_invariants().await;
}

#[tokio::test]
async fn jobs_racing_for_the_rest_of_a_space_share_it_without_a_collision() {
    let world = World::new().await;
    let submitted = race(12, 0..30, async |_| submit(&world, PATTERN, 500).await).await;
    assert_eq!(submitted.iter().filter(|job| job.is_ok()).count(), 20);
    assert!(
        submitted.iter().all(|job| job.is_ok() || *job == Err(Rejection::PatternExhausted { remaining: 0 }))
    );
    let worked = race(6, 0..20, async |_| {
        let claim = claim(world.store(), "worker").await?;
        Some(work_generation(world.store(), &claim).await)
    });
    for taken in worked.await.into_iter().flatten() {
        assert_eq!(taken, BulkOutcome::Finished, "codes of one space never collide");
    }
    while let Some(claim) = claim(world.store(), "worker").await {
        assert_eq!(work_generation(world.store(), &claim).await, BulkOutcome::Finished);
    }
    assert_dense(&world, 10_000).await;
    world.assert_invariants().await;
}

/// Jobs of one book already wait for the book's row; jobs of different books compete only for the space.
#[tokio::test]
async fn jobs_of_several_books_that_reserve_at_once_get_ranges_of_their_own() {
    let world = World::new().await;
    generate(world.store(), world.business, world.book, PATTERN, 50).await;
    let mut books = Vec::new();
    for _ in 0..6 {
        books.push(world.another_book(&rules()).await);
    }
    let mut holding = world.pool().begin().await.unwrap();
    query("select from code_space for update").fetch_one(&mut *holding).await.unwrap();
    let pattern = Pattern::parse(PATTERN).unwrap();
    let submits = race(6, &books, async |book| {
        world.store().submit_generation(None, world.business, "test", *book, &pattern, 100).await.unwrap()
    });
    waits_for(world.pool(), 6, holding.rollback(), submits).await;
    assert_eq!(used(&world).await, 650);
    while let Some(claim) = claim(world.store(), "worker").await {
        assert_eq!(work_generation(world.store(), &claim).await, BulkOutcome::Finished);
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn foreign_codes_in_the_way_are_replaced_from_the_space() {
    let world = World::new().await;
    submit(&world, PATTERN, 500).await.unwrap();
    // Three codes of the chunk, and the first of their replacements.
    plant_foreign(&world, &[0, 77, 499, 500]).await;
    let claim = claim(world.store(), "worker").await.unwrap();
    assert_eq!(work_generation(world.store(), &claim).await, BulkOutcome::Conflict);
    assert_eq!(work_around(&world, &claim, &[]).await, BulkOutcome::MissingCodes(3));
    let first = top_up(&world, &claim, 3).await.unwrap();
    assert_eq!(first, 500..503);
    assert_eq!(work_around(&world, &claim, std::slice::from_ref(&first)).await, BulkOutcome::MissingCodes(1));
    let second = top_up(&world, &claim, 1).await.unwrap();
    assert_eq!(work_around(&world, &claim, &[first, second]).await, BulkOutcome::Finished);
    assert_dense(&world, 500).await;
    assert_no_index_burned(&world).await;
    assert_eq!(used(&world).await, 504);
    world.assert_invariants().await;
}

/// The foreign code did not exist when the chunk checked, and exists when the chunk writes.
#[tokio::test]
async fn a_foreign_code_that_is_committed_at_the_same_moment_is_passed_over_as_well() {
    let world = World::new().await;
    submit(&world, PATTERN, 100).await.unwrap();
    let claim = claim(world.store(), "worker").await.unwrap();
    let book = world.another_book(&rules()).await;
    let codes = codes(&world, 41..43).await;
    for (place, quickly) in [(0, true), (1, false)] {
        let mut importing = world.pool().begin().await.unwrap();
        insert_foreign(&mut importing, world.business, book, codes.get(place).unwrap()).await;
        let working = Box::pin(async {
            if quickly {
                work_generation(world.store(), &claim).await
            } else {
                work_around(&world, &claim, &[]).await
            }
        });
        let taken = waits_for(world.pool(), 1, importing.commit(), working).await;
        assert_eq!(taken, if quickly { BulkOutcome::Conflict } else { BulkOutcome::MissingCodes(2) });
    }
    assert!(work_whatever_it_takes(&world, &claim).await);
    assert_dense(&world, 100).await;
    assert_no_index_burned(&world).await;
    world.assert_invariants().await;
}

/// Invariant I-22.
#[tokio::test]
async fn redoing_a_chunk_uses_the_top_up_of_the_worker_that_died() {
    let world = World::new().await;
    submit(&world, PATTERN, 200).await.unwrap();
    plant_foreign(&world, &[3, 4, 5]).await;
    let mut dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
    assert_eq!(top_up(&world, &dead, 3).await, Some(200..203));
    for _ in 0..3 {
        dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
        assert_eq!(top_ups(&dead).first(), Some(&(200..203)));
    }
    let alive = claim(world.store(), "alive").await.unwrap();
    assert_eq!(top_up(&world, &dead, 3).await, None, "another worker has claimed its chunk");
    assert!(work_whatever_it_takes(&world, &alive).await);
    assert_eq!(used(&world).await, 203);
    assert_no_index_burned(&world).await;
    assert_dense(&world, 200).await;
    world.assert_invariants().await;
}

/// A tenth of the codes is foreign, more are added meanwhile, and workers die before and after they reserve top-ups.
#[tokio::test]
async fn eight_jobs_among_foreign_codes_and_dying_workers_end_exact() {
    let world = World::new().await;
    for _ in 0..8 {
        submit(&world, PATTERN, 250).await.unwrap();
    }
    let early: Vec<u64> = (0..2_000).step_by(10).collect();
    plant_foreign(&world, &early).await;
    for doomed in 0..4 {
        let dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
        if doomed % 2 == 0 {
            top_up(&world, &dead, 25).await.unwrap();
        }
    }
    let late: Vec<u64> = (2_003..2_400).step_by(10).collect();
    let planting = plant_foreign(&world, &late);
    let working = race(5, 0..8, async |_| {
        let claim = claim(world.store(), "worker").await.expect("a chunk for each");
        assert!(work_whatever_it_takes(&world, &claim).await);
    });
    futures::join!(planting, working);
    assert_dense(&world, 2_000).await;
    assert_no_index_burned(&world).await;
    let exact: i64 = query_scalar("select count(*) from job where succeeded = 250 and status = 'SUCCEEDED'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(exact, 8);
    world.assert_invariants().await;
}

#[tokio::test]
async fn two_businesses_have_different_codes_in_one_pattern() {
    let world = World::new().await;
    let other = world.another_business().await;
    let book = world.store().create_book(None, other, &rules()).await.unwrap().outcome.unwrap().id;
    generate(world.store(), world.business, world.book, PATTERN, 50).await;
    generate(world.store(), other, book, PATTERN, 50).await;
    let first = "select code from coupon where business_id = $1 order by position";
    let ours: Vec<String> = query_scalar(first).bind(world.business.0).fetch_all(world.pool()).await.unwrap();
    let theirs: Vec<String> = query_scalar(first).bind(other.0).fetch_all(world.pool()).await.unwrap();
    assert_ne!(ours, theirs, "each space has a separate key");
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_book_that_closed_takes_no_more_codes() {
    let world = World::new().await;
    submit(&world, PATTERN, 10).await.unwrap();
    let claim = claim(world.store(), "worker").await.unwrap();
    let closed = BookPatch { status: Change::Set(BookStatus::Closed), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, closed).await.unwrap().outcome.unwrap();
    let (indexes, first_position, edge) = generation_of(&claim);
    let codes = codes(&world, indexes).await;
    let rejected = world.store().finish_generated(&claim, &codes, first_position, edge).await;
    assert!(matches!(rejected, Err(Error::Rejected(Rejection::BookClosed))));
    assert_eq!(submit(&world, PATTERN, 10).await, Err(Rejection::BookClosed));
    world.assert_invariants().await;
}
