//! Deletion of books: only while no code was ever assigned, in one call or by a job, and never of an assigned code.

use std::time::Duration;

use cuponera_domain::book::{Book, BookStatus};
use cuponera_domain::id::{BookId, JobId};
use cuponera_domain::job::delete_book::Chunk;
use cuponera_domain::job::{Job, JobError, JobKind, JobStatus, Task};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Claim, ClaimState, Deletion, MAX_CODES_DELETED_AT_ONCE, Notifier, Revoke, Step, Store};
use cuponera_store::{Error, Result};
use cuponera_testkit::{World, claim, race, rules, waits_for};
use serde_json::json;
use sqlx::{AssertSqlSafe, query, query_scalar};

/// The smallest book that a job deletes.
const LARGE: i32 = 10_001;

async fn delete(world: &World, book: BookId) -> Result<Deletion> {
    world.store().delete_book_if_unused(world.business, "service:test", book).await
}

async fn submit(world: &World, book: BookId) -> Job {
    match delete(world, book).await.unwrap() {
        Deletion::Job(job) => *job,
        Deletion::Done => panic!("the book was deleted by the call"),
    }
}

fn assert_in_use<T: std::fmt::Debug>(outcome: &Result<T>) {
    assert!(matches!(outcome, Err(Error::Rejected(Rejection::BookInUse))), "{outcome:?}");
}

async fn book(world: &World, id: BookId) -> Result<Book> {
    world.store().get_book(world.business, id).await
}

async fn status_of(world: &World, id: BookId) -> BookStatus {
    book(world, id).await.unwrap().status
}

async fn job(world: &World, id: JobId) -> Job {
    world.store().get_job(world.business, id).await.unwrap()
}

async fn count(world: &World, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(world.pool()).await.unwrap()
}

/// Makes the delayed first chunk runnable. It is delayed for statements that began before the book was closed.
async fn let_time_pass(world: &World) {
    query("update job_chunk set run_at = now() where status = 'READY'").execute(world.pool()).await.unwrap();
}

async fn next(world: &World) -> Claim {
    let_time_pass(world).await;
    claim(world.store(), "worker").await.expect("there is a runnable chunk")
}

/// Executes a chunk of a deletion as a worker does.
async fn work(store: &Store, claim: &Claim) -> Result<Step> {
    let Task::DeleteBook(_, step) = &claim.task else { panic!("not a deletion: {:?}", claim.task) };
    match step {
        Chunk::CheckUnused { status_before } => store.finish_unused_check(claim, *status_before).await,
        Chunk::DeleteCodes { from_position } => store.finish_deleted_codes(claim, *from_position).await,
        Chunk::DeleteBook => store.finish_deleted_book(claim).await,
    }
}

/// Executes all chunks; returns their number.
async fn work_all(world: &World) -> usize {
    let mut chunks = 0;
    let_time_pass(world).await;
    while let Some(claim) = claim(world.store(), "worker").await {
        chunks += 1;
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
    chunks
}

/// A statement that assigns a code to Ana, in a transaction that is still open.
async fn give_without_commit(world: &World, code: &str) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut open = world.pool().begin().await.unwrap();
    let give = "with done as (
        update coupon set status = 'ASSIGNED', holder = 'ana', assignment_id = gen_random_uuid(), assigned_at = now(), version = 1
        where code = $1 returning *),
      event as (
        insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
        select gen_random_uuid(), business_id, book_id, position, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'ana', 'test' from done),
      delta as (insert into book_delta (book_id, available, assigned) select book_id, -1, 1 from done)
      insert into user_quota (book_id, user_id, held, granted) select book_id, 'ana', 1, 1 from done";
    assert_eq!(query(give).bind(code).execute(&mut *open).await.unwrap().rows_affected(), 1);
    open
}

#[tokio::test]
async fn a_small_book_is_deleted_or_its_code_is_given_but_never_both() {
    let world = World::new().await;
    for round in 0..30 {
        let id = world.another_book(&rules()).await;
        let codes = world.insert_codes_into(id, &format!("R{round}-"), 3).await;
        let give = world.run_batch(world.named(&codes[1], "ana"));
        let (deleted, given) = futures::join!(delete(&world, id), give);
        match (deleted, given.outcome) {
            (Ok(Deletion::Done), Err(Rejection::NotFound { .. })) => {
                assert!(world.store().get_coupon(world.business, &codes[0]).await.is_err());
            }
            (Err(Error::Rejected(Rejection::BookInUse)), Ok(_)) => {
                assert_eq!(world.coupon(&codes[0]).await.book, id, "a book in use keeps all its codes");
            }
            both => panic!("{both:?}"),
        }
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_large_book_is_deleted_slice_by_slice_by_a_job() {
    let world = World::new().await;
    let id = world.another_book(&rules()).await;
    world.insert_codes_into(id, "LARGE", 25_000).await;
    world.insert_codes(10).await;
    query("insert into user_quota (book_id, user_id, held, granted) values ($1, 'ana', 0, 0)")
        .bind(id.0)
        .execute(world.pool())
        .await
        .unwrap();
    let submitted = submit(&world, id).await;
    assert_eq!(
        (submitted.kind, submitted.status, submitted.total),
        (JobKind::DeleteBook.as_str().to_owned(), JobStatus::Queued, Some(25_000))
    );
    assert_eq!(submitted.result, json!({ "deletedCount": 0, "couponBookId": id }));
    assert_eq!(status_of(&world, id).await, BookStatus::Closed);

    for deleted in [0, 10_000, 20_000, 25_000] {
        let chunk = next(&world).await;
        assert!(claim(world.store(), "worker").await.is_none(), "its chunks run one after the other");
        assert_eq!(work(world.store(), &chunk).await.unwrap(), Step::Finished);
        let running = job(&world, submitted.id).await;
        assert_eq!((running.status, running.succeeded), (JobStatus::Running, deleted));
        assert_eq!(book(&world, id).await.unwrap().counts.available, 25_000 - deleted);
        world.assert_invariants().await;
    }
    world.store().roll_up_counts().await.unwrap();
    assert_eq!(work_all(&world).await, 1);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded, done.percent()), (JobStatus::Succeeded, 25_000, Some(100.0)));
    assert_eq!(done.result, json!({ "deletedCount": 25_000, "couponBookId": id }));
    assert!(matches!(book(&world, id).await, Err(Error::Rejected(Rejection::NotFound { .. }))));
    for table in ["coupon", "book_count", "book_delta", "user_quota"] {
        let left = format!("select count(*) from {table} where book_id = $1");
        let left: i64 = query_scalar(AssertSqlSafe(left)).bind(id.0).fetch_one(world.pool()).await.unwrap();
        assert_eq!(left, 0, "{table}");
    }
    assert_eq!(world.counts().await.all(), 10, "another book keeps its codes");
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_limit_between_call_and_job_is_exact() {
    let world = World::new().await;
    let most = i32::try_from(MAX_CODES_DELETED_AT_ONCE).unwrap();
    let id = world.another_book(&rules()).await;
    world.insert_codes_into(id, "SMALL", most).await;
    assert_eq!(delete(&world, id).await.unwrap(), Deletion::Done);
    world.insert_codes(most + 1).await;
    submit(&world, world.book).await;
    world.assert_invariants().await;
}

/// Statements that began before the closing committed see an active book until they end.
#[tokio::test]
async fn a_deletion_begins_once_all_statements_of_the_time_before_are_over() {
    let world = World::new().await;
    world.insert_codes(LARGE).await;
    submit(&world, world.book).await;
    assert!(claim(world.store(), "worker").await.is_none());
    let due = world.store().next_chunk_due(&JobKind::ALL).await.unwrap().unwrap();
    assert!(due > Duration::from_secs(5) && due <= Duration::from_secs(6), "{due:?}");
    let rejected = world.run_batch(world.random("ana")).await.outcome;
    assert_eq!(rejected, Err(Rejection::BookNotActive), "a code of a closed book was assigned");
}

#[tokio::test]
async fn an_assignment_that_began_before_the_book_was_closed_keeps_the_book_and_all_its_codes() {
    let world = World::new().await;
    for (round, moment) in ["before the check", "after the check"].into_iter().enumerate() {
        let id = world.another_book(&rules()).await;
        let codes = world.insert_codes_into(id, &format!("R{round}-"), LARGE).await;
        let open = give_without_commit(&world, &codes[5]).await;
        let submitted = submit(&world, id).await;
        let check = next(&world).await;
        if round == 0 {
            open.commit().await.unwrap();
            assert_eq!(work(world.store(), &check).await.unwrap(), Step::Stopped, "{moment}");
            assert_eq!(status_of(&world, id).await, BookStatus::Active, "{moment}");
        } else {
            assert_eq!(work(world.store(), &check).await.unwrap(), Step::Finished, "{moment}");
            let slice = next(&world).await;
            let slice = waits_for(world.pool(), 1, open.commit(), work(world.store(), &slice)).await;
            assert_in_use(&slice);
            query("update job_chunk set lease_until = now() where status = 'RUNNING'")
                .execute(world.pool())
                .await
                .unwrap();
            assert_eq!(work_all(&world).await, 1);
            assert_eq!(status_of(&world, id).await, BookStatus::Closed, "{moment}");
        }
        let failed = job(&world, submitted.id).await;
        let code = failed.error.map(|error| error.code);
        assert_eq!((failed.status, code.as_deref()), (JobStatus::Failed, Some("book_in_use")), "{moment}");
        assert_eq!((failed.succeeded, world.coupon(&codes[5]).await.holder.as_deref()), (0, Some("ana")));
        assert_eq!(book(&world, id).await.unwrap().counts.all(), i64::from(LARGE), "{moment}");
        assert_in_use(&delete(&world, id).await);
        world.assert_invariants().await;
    }
}

/// The book's status was restored, and its owner has closed it since.
#[tokio::test]
async fn a_retry_of_a_stopped_deletion_changes_no_later_status() {
    let world = World::new().await;
    let codes = world.insert_codes(LARGE).await;
    let open = give_without_commit(&world, &codes[0]).await;
    let submitted = submit(&world, world.book).await;
    open.commit().await.unwrap();
    assert_eq!(work_all(&world).await, 1);
    query("update coupon_book set status = 'CLOSED'").execute(world.pool()).await.unwrap();
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    assert_eq!(work_all(&world).await, 1);
    let failed = job(&world, submitted.id).await;
    assert_eq!((failed.status, failed.error.unwrap().code.as_str()), (JobStatus::Failed, "book_in_use"));
    assert_eq!(status_of(&world, world.book).await, BookStatus::Closed);
    world.assert_invariants().await;
}

/// An assignment and a deletion, in every order of their statements and commits.
/// Invariant I-28.
#[tokio::test]
async fn assignments_that_race_with_the_deletion_of_a_large_book_are_refused_or_keep_the_book() {
    let world = World::new().await;
    for round in 0..12 {
        let id = world.another_book(&rules()).await;
        let codes = world.insert_codes_into(id, &format!("R{round}-"), LARGE).await;
        let gives = race(8, 0..8, async |user| {
            for _ in 0..(user * round) % 5 {
                world.store().ping().await.unwrap();
            }
            world.run_batch(world.named(&codes[user * 7], "ana")).await.outcome
        });
        let (deleted, gives) = futures::join!(delete(&world, id), gives);
        let is_given = gives.iter().any(Result::is_ok);
        match deleted {
            Ok(Deletion::Job(_)) => drop(work_all(&world).await),
            Err(Error::Rejected(Rejection::BookInUse)) => assert!(is_given),
            other => panic!("{other:?}"),
        }
        if is_given {
            assert_eq!(status_of(&world, id).await, BookStatus::Active);
            assert_eq!(book(&world, id).await.unwrap().counts.all(), i64::from(LARGE));
        } else {
            assert!(book(&world, id).await.is_err());
        }
        for given in gives.iter().flatten() {
            assert_eq!(world.coupon(&given.code).await.holder.as_deref(), Some("ana"));
        }
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_book_with_a_revoked_code_stays_as_it_is() {
    let world = World::new().await;
    for (round, size) in [3, LARGE].into_iter().enumerate() {
        let id = world.another_book(&rules()).await;
        let codes = world.insert_codes_into(id, &format!("R{round}-"), size).await;
        world.give(&codes[1], "ana").await;
        let reason = "given by mistake".to_owned();
        let revoke = Revoke { code: codes[1].clone(), user: None, assignment: None, reason };
        world.run_batch(world.call(revoke)).await.outcome.unwrap();
        let before = book(&world, id).await.unwrap();
        assert_eq!((before.counts.given_out(), before.counts.all()), (0, i64::from(size)));
        assert_in_use(&delete(&world, id).await);
        assert_eq!(book(&world, id).await.unwrap(), before);
        assert_eq!(count(&world, "select count(*) from job").await, 0);
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn calls_at_once_and_later_ones_are_answered_with_one_job() {
    let world = World::new().await;
    world.insert_codes(25_000).await;
    let jobs = race(8, 0..8, async |_| submit(&world, world.book).await.id).await;
    for _ in 0..3 {
        assert_eq!(submit(&world, world.book).await.id, jobs[0]);
        assert_eq!(work(world.store(), &next(&world).await).await.unwrap(), Step::Finished);
    }
    assert!(jobs.iter().all(|id| *id == jobs[0]), "{jobs:?}");
    let other = world.another_business().await;
    let stranger = world.store().delete_book_if_unused(other, "service:test", world.book).await;
    assert!(matches!(stranger, Err(Error::Rejected(Rejection::NotFound { .. }))));
    work_all(&world).await;
    assert!(matches!(delete(&world, world.book).await, Err(Error::Rejected(Rejection::NotFound { .. }))));
    assert_eq!(count(&world, "select count(*) from job").await, 1);
}

#[tokio::test]
async fn a_cancelled_deletion_keeps_what_is_left_and_another_call_deletes_it() {
    let world = World::new().await;
    world.insert_codes(45_000).await;
    for left in [35_000, 25_000] {
        let submitted = submit(&world, world.book).await;
        assert_eq!(submitted.total, Some(left + 10_000));
        for _ in 0..2 {
            assert_eq!(work(world.store(), &next(&world).await).await.unwrap(), Step::Finished);
        }
        let at_work = next(&world).await;
        let cancelled = world.store().cancel_job_if_open(None, world.business, submitted.id).await.unwrap();
        assert_eq!(cancelled.outcome.unwrap().succeeded, 10_000);
        assert_eq!(work(world.store(), &at_work).await.unwrap(), Step::Lost);
        let closed = book(&world, world.book).await.unwrap();
        assert_eq!((closed.status, closed.counts.all()), (BookStatus::Closed, left));
        world.assert_invariants().await;
    }
    submit(&world, world.book).await;
    assert_eq!(work_all(&world).await, 5);
    assert!(book(&world, world.book).await.is_err());
    world.assert_invariants().await;
}

#[tokio::test]
async fn each_step_may_be_begun_by_workers_that_die_and_may_fail_and_be_retried() {
    let world = World::new().await;
    world.insert_codes(15_000).await;
    let submitted = submit(&world, world.book).await;
    for _ in 0..4 {
        let_time_pass(&world).await;
        let dead = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap().unwrap();
        let alive = next(&world).await;
        assert_eq!(alive.number, dead.number);
        let sorry = JobError { code: "sorry".to_owned(), detail: "the chunk failed for the test".to_owned() };
        world.store().fail_chunk_if_held(&alive, &sorry).await.unwrap();
        assert_eq!(job(&world, submitted.id).await.status, JobStatus::Failed);
        world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
        let again = next(&world).await;
        let both = futures::join!(work(world.store(), &dead), work(world.store(), &again));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (Step::Lost, Step::Finished));
        world.assert_invariants().await;
    }
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 15_000));
    assert!(book(&world, world.book).await.is_err());
}

/// The first job fails, a second job deletes the book, and the first is retried.
#[tokio::test]
async fn a_deletion_of_a_book_that_is_gone_is_done() {
    let world = World::new().await;
    world.insert_codes(25_000).await;
    let submitted = submit(&world, world.book).await;
    assert_eq!(work(world.store(), &next(&world).await).await.unwrap(), Step::Finished);
    world.store().stop_job_if_held(&next(&world).await, &Rejection::BookInUse).await.unwrap();
    submit(&world, world.book).await;
    assert_eq!(work_all(&world).await, 5);
    world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    assert_eq!(work_all(&world).await, 2);
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Succeeded);
    world.assert_invariants().await;
}

/// The call does not wait for chunks that add codes; the first step of its job does.
#[tokio::test]
async fn chunks_that_add_codes_end_before_the_deletion_begins() {
    let world = World::new().await;
    world.insert_codes(LARGE).await;
    let mut adding = world.pool().begin().await.unwrap();
    query("select from coupon_book for key share").execute(&mut *adding).await.unwrap();
    let submitted = submit(&world, world.book).await;
    for add in [
        "insert into coupon (business_id, book_id, job_id, position, code)
         select business_id, id, '00000000-0000-7000-8000-000000000000', next_position, 'ADDED' from coupon_book",
        "update coupon_book set next_position = next_position + 1",
        "insert into book_delta (book_id, generated, available) select id, 1, 1 from coupon_book",
    ] {
        query(add).execute(&mut *adding).await.unwrap();
    }
    let check = next(&world).await;
    let checked = waits_for(world.pool(), 1, adding.commit(), work(world.store(), &check)).await;
    assert_eq!(checked.unwrap(), Step::Finished);
    assert_eq!(job(&world, submitted.id).await.total, Some(i64::from(LARGE) + 1));
    work_all(&world).await;
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, i64::from(LARGE) + 1));
    assert_eq!(count(&world, "select count(*) from coupon").await, 0);
}

/// The roll-up has deleted the deltas and is about to write the first row of the book's counts.
#[tokio::test]
async fn counts_that_are_being_rolled_up_do_not_outlive_the_book() {
    let world = World::new().await;
    world.insert_codes(LARGE).await;
    submit(&world, world.book).await;
    for _ in 0..3 {
        work(world.store(), &next(&world).await).await.unwrap();
    }
    let last = next(&world).await;
    let mut rolling = world.pool().begin().await.unwrap();
    query(include_str!("../../src/sql/roll_up_counts.sql")).execute(&mut *rolling).await.unwrap();
    let deleted = waits_for(world.pool(), 1, rolling.commit(), work(world.store(), &last)).await;
    assert_eq!(deleted.unwrap(), Step::Finished);
    assert_eq!(count(&world, "select count(*) from book_count").await, 0);
}

#[tokio::test]
async fn no_call_waits_for_the_codes_that_are_being_deleted() {
    let world = World::new().await;
    let codes = world.insert_codes(LARGE).await;
    submit(&world, world.book).await;
    assert_eq!(work(world.store(), &next(&world).await).await.unwrap(), Step::Finished);
    let mut slice = world.pool().begin().await.unwrap();
    query("delete from coupon where version = 0").execute(&mut *slice).await.unwrap();
    let calls = async {
        let refusals = [
            world.run_batch(world.named(&codes[0], "ana")).await.outcome.err(),
            world.run_batch(world.random("ana")).await.outcome.err(),
        ];
        assert_eq!(refusals, [Some(Rejection::BookNotActive), Some(Rejection::BookNotActive)]);
        world.run_batch(world.lock(&codes[0], "ana")).await.outcome.unwrap_err();
        world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap_err();
        world.store().roll_up_counts().await.unwrap();
        submit(&world, world.book).await;
    };
    tokio::time::timeout(Duration::from_millis(250), calls).await.expect("a call waited for the deletion");
    slice.rollback().await.unwrap();
}

#[tokio::test]
async fn each_step_is_announced_through_the_outbox_when_it_is_due() {
    let world = World::new().await;
    world.insert_codes(LARGE).await;
    let store = world.store().clone().with_outbox(&Notifier::default());
    store.delete_book_if_unused(world.business, "service:test", world.book).await.unwrap();
    let late = "select count(*) from outbox where not_before > now() + interval '5 seconds'";
    assert_eq!(count(&world, late).await, 1);
    for number in 0..4 {
        let announced = "select number from outbox order by id desc limit 1";
        let announced: i32 = query_scalar(announced).fetch_one(world.pool()).await.unwrap();
        assert_eq!(announced, number);
        let_time_pass(&world).await;
        let chunk = claim(&store, "worker").await.unwrap();
        assert_eq!(work(&store, &chunk).await.unwrap(), Step::Finished);
    }
    assert_eq!(count(&world, "select count(*) from outbox").await, 4);
    assert_eq!(count(&world, "select count(*) from coupon_book").await, 0);
}
