//! Jobs and chunks: claimed fairly, held by lease and epoch, and counted in the commit that finishes them.

mod ordered;
mod planned;

use std::collections::HashSet;
use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::{CODES_PER_CHUNK, Job, JobError, JobKind, JobStatus};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{BulkOutcome, Claim, ClaimState, Notifier, Redriven};
use cuponera_testkit::{World, claim, eventually, race, rules, waits_for, work_generation};
use serde_json::json;
use sqlx::{query, query_scalar};

use crate::setup::next;

async fn submit(world: &World, quantity: u64) -> Job {
    submit_in(world, world.business, world.book, quantity).await
}

async fn submit_in(world: &World, business: BusinessId, book: BookId, quantity: u64) -> Job {
    let pattern = Pattern::parse("J-{XXXXXXXX}").unwrap();
    let job = world.store().submit_generation(None, business, "service:test", book, &pattern, quantity).await;
    job.unwrap().outcome.unwrap()
}

async fn job(world: &World, id: JobId) -> Job {
    world.store().get_job(world.business, id).await.unwrap()
}

/// A claim whose lease has expired, as if its worker had crashed.
async fn next_and_die(world: &World) -> Claim {
    let claim = world.store().claim_chunk("dead", Duration::ZERO, &JobKind::ALL).await.unwrap();
    claim.expect("there is a runnable chunk")
}

async fn codes_in(world: &World) -> i64 {
    query_scalar("select count(*) from coupon").fetch_one(world.pool()).await.unwrap()
}

fn sorry() -> JobError {
    JobError { code: "sorry".to_owned(), detail: "it did not work".to_owned() }
}

#[tokio::test]
async fn a_small_job_is_next_beside_a_big_one() {
    let world = World::new().await;
    let big = submit(&world, 100 * CODES_PER_CHUNK).await;
    for _ in 0..3 {
        assert_eq!(next(&world).await.job, big.id);
    }
    let small = submit(&world, 100).await;
    let chunk = next(&world).await;
    assert_eq!(chunk.job, small.id);
    assert_eq!(work_generation(world.store(), &chunk).await, BulkOutcome::Finished);
    assert_eq!(job(&world, small.id).await.status, JobStatus::Succeeded);
    assert_eq!(next(&world).await.job, big.id);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_business_with_many_jobs_does_not_hold_up_another() {
    let world = World::new().await;
    for _ in 0..10 {
        submit(&world, 2 * CODES_PER_CHUNK).await;
    }
    for _ in 0..4 {
        assert_eq!(next(&world).await.business, world.business);
    }
    let other = world.another_business().await;
    let book = world.store().create_book(None, other, &rules()).await.unwrap().outcome.unwrap().id;
    submit_in(&world, other, book, 3 * CODES_PER_CHUNK).await;
    for _ in 0..3 {
        assert_eq!(next(&world).await.business, other, "the business has fewer running chunks");
    }
}

#[tokio::test]
async fn claims_raced_for_get_each_chunk_once() {
    let world = World::new().await;
    let jobs = [submit(&world, 12 * CODES_PER_CHUNK).await, submit(&world, 12 * CODES_PER_CHUNK).await];
    let claims =
        race(12, 0..40, async |worker| claim(world.store(), &format!("worker-{worker}")).await).await;
    let claimed: Vec<_> = claims.iter().flatten().map(|claim| (claim.job, claim.number)).collect();
    let distinct: HashSet<_> = claimed.iter().collect();
    assert_eq!(distinct.len(), claimed.len(), "no chunk twice");
    let left = async { claim(world.store(), "last").await };
    let mut all = claimed.len();
    let mut left = left.await;
    while left.is_some() {
        all += 1;
        left = claim(world.store(), "last").await;
    }
    assert_eq!(all, 24);
    assert_eq!(job(&world, jobs[0].id).await.attempts, 1);
}

#[tokio::test]
async fn a_chunk_whose_lease_ended_is_taken_over_and_its_old_worker_changes_nothing() {
    let world = World::new().await;
    let submitted = submit(&world, 50).await;
    let dead = next_and_die(&world).await;
    let alive = next(&world).await;
    assert_eq!((alive.job, alive.number, alive.crashes), (dead.job, dead.number, 1));
    assert!(alive.epoch > dead.epoch);
    assert_eq!(
        world.store().renew_lease_if_held(&dead, Duration::from_mins(1)).await.unwrap(),
        ClaimState::Lost
    );
    assert_eq!(work_generation(world.store(), &dead).await, BulkOutcome::Lost);
    world.store().fail_chunk_if_held(&dead, &sorry()).await.unwrap();
    world.store().retry_chunk_if_held(&dead, Duration::ZERO, "no").await.unwrap();
    world.store().release_chunk_if_held(&dead, Duration::ZERO).await.unwrap();
    assert_eq!((codes_in(&world).await, job(&world, submitted.id).await.status), (0, JobStatus::Running));
    assert_eq!(
        world.store().renew_lease_if_held(&alive, Duration::from_mins(1)).await.unwrap(),
        ClaimState::Held
    );
    assert_eq!(work_generation(world.store(), &alive).await, BulkOutcome::Finished);
    assert_eq!(work_generation(world.store(), &alive).await, BulkOutcome::Conflict, "the codes exist");
    assert_eq!((codes_in(&world).await, job(&world, submitted.id).await.status), (50, JobStatus::Succeeded));
    world.assert_invariants().await;
}

/// Both workers have generated the same codes and finish at the same moment.
/// Invariant I-18.
#[tokio::test]
async fn of_two_workers_settling_one_chunk_at_once_the_later_claim_wins() {
    let world = World::new().await;
    for _ in 0..12 {
        let submitted = submit(&world, 300).await;
        let dead = next_and_die(&world).await;
        let alive = next(&world).await;
        let both =
            futures::join!(work_generation(world.store(), &dead), work_generation(world.store(), &alive));
        assert_ne!(both.0, BulkOutcome::Finished, "the stale worker's rows were committed");
        assert_eq!(both.1, BulkOutcome::Finished);
        assert_eq!(job(&world, submitted.id).await.succeeded, 300);
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_crash_counts_unless_the_database_went_down_with_the_worker() {
    let world = World::new().await;
    submit(&world, 50).await;
    for crashes in 0..4 {
        assert_eq!(next_and_die(&world).await.crashes, crashes);
    }
    let before_it_started =
        "update job_chunk set claimed_at = pg_postmaster_start_time() - interval '1 second'";
    query(before_it_started).execute(world.pool()).await.unwrap();
    assert_eq!(next(&world).await.crashes, 3, "a restart of the database was counted as a crash");
}

#[tokio::test]
async fn a_cancelled_job_lets_no_chunk_commit() {
    let world = World::new().await;
    let submitted = submit(&world, 2 * CODES_PER_CHUNK).await;
    let chunk = next(&world).await;
    let cancel =
        async || world.store().cancel_job_if_open(None, world.business, submitted.id).await.unwrap().outcome;
    assert_eq!(cancel().await.unwrap().status, JobStatus::Cancelled);
    assert_eq!(
        world.store().renew_lease_if_held(&chunk, Duration::from_mins(1)).await.unwrap(),
        ClaimState::Lost
    );
    assert_eq!(work_generation(world.store(), &chunk).await, BulkOutcome::Lost);
    assert!(claim(world.store(), "worker").await.is_none());
    assert_eq!(codes_in(&world).await, 0);
    assert!(matches!(cancel().await, Err(Rejection::WrongJobState { .. })));
    let retry = world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap();
    assert!(matches!(retry.outcome, Err(Rejection::WrongJobState { .. })));
    world.assert_invariants().await;
}

#[tokio::test]
async fn cancelling_and_settling_at_once_leave_all_of_a_chunk_or_nothing() {
    let world = World::new().await;
    for _ in 0..30 {
        let submitted = submit(&world, 20).await;
        let chunk = next(&world).await;
        let before = codes_in(&world).await;
        let cancel = world.store().cancel_job_if_open(None, world.business, submitted.id);
        let (cancelled, taken) = futures::join!(cancel, work_generation(world.store(), &chunk));
        let settled = taken == BulkOutcome::Finished;
        assert_eq!(codes_in(&world).await - before, if settled { 20 } else { 0 });
        assert_eq!(
            cancelled.unwrap().outcome.is_err(),
            settled,
            "the chunk is finished or the job is cancelled, not both"
        );
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn a_failed_job_is_retried_where_it_failed_and_nowhere_else() {
    let world = World::new().await;
    let submitted = submit(&world, CODES_PER_CHUNK + 100).await;
    let (first, second) = (next(&world).await, next(&world).await);
    world.store().fail_chunk_if_held(&first, &sorry()).await.unwrap();
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Running, "the other chunk continues");
    assert_eq!(work_generation(world.store(), &second).await, BulkOutcome::Finished);
    let failed = job(&world, submitted.id).await;
    assert_eq!((failed.status, failed.error, failed.succeeded), (JobStatus::Failed, Some(sorry()), 100));
    assert!(failed.finished_at.is_some());
    world.assert_invariants().await;

    let retry =
        async || world.store().retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome;
    let retried = retry().await.unwrap();
    assert_eq!((retried.status, retried.error, retried.finished_at), (JobStatus::Queued, None, None));
    let again = next(&world).await;
    assert_eq!((again.number, again.attempts, again.crashes), (first.number, 0, 0));
    assert!(claim(world.store(), "worker").await.is_none(), "a finished chunk was claimed again");
    assert_eq!(work_generation(world.store(), &again).await, BulkOutcome::Finished);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.attempts, done.percent()), (JobStatus::Succeeded, 2, Some(100.0)));
    assert!(matches!(retry().await, Err(Rejection::WrongJobState { .. })));
    world.assert_invariants().await;
}

async fn dead_letters(world: &World) -> i64 {
    let letters = "select count(*) from outbox where kind = 'DEAD'";
    query_scalar(letters).fetch_one(world.pool()).await.unwrap()
}

/// Invariant I-20.
#[tokio::test]
async fn a_rule_fails_a_job_at_once_without_a_dead_letter_and_a_retry_runs_what_is_left() {
    let world = World::new().await;
    let submitted = submit(&world, 5 * CODES_PER_CHUNK).await;
    let store = world.store().clone().with_outbox(&Notifier::default());
    let mut claims = Vec::new();
    for _ in 0..3 {
        claims.push(claim(&store, "worker").await.unwrap());
    }
    assert_eq!(work_generation(&store, &claims[0]).await, BulkOutcome::Finished);
    assert_eq!(store.stop_job_if_held(&claims[1], &Rejection::BookClosed).await.unwrap(), ClaimState::Held);
    let failed = job(&world, submitted.id).await;
    let code = failed.error.map(|error| error.code);
    assert_eq!((failed.status, code.as_deref()), (JobStatus::Failed, Some("book_closed")));
    assert!(claim(&store, "worker").await.is_none(), "a chunk was claimed after a rule stopped the job");
    assert_eq!(work_generation(&store, &claims[2]).await, BulkOutcome::Lost, "the chunk was running");
    assert_eq!(store.stop_job_if_held(&claims[2], &Rejection::BookClosed).await.unwrap(), ClaimState::Lost);
    assert_eq!(dead_letters(&world).await, 0);
    world.assert_invariants().await;

    store.retry_job_if_failed(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    for number in 1..5 {
        let chunk = claim(&store, "worker").await.unwrap();
        assert_eq!((chunk.number, chunk.attempts, chunk.crashes), (number, 0, 0));
        assert_eq!(work_generation(&store, &chunk).await, BulkOutcome::Finished);
    }
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 250_000));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_chunk_that_failed_too_often_writes_a_dead_letter_and_lets_the_others_go_on() {
    let world = World::new().await;
    let submitted = submit(&world, CODES_PER_CHUNK + 1).await;
    let store = world.store().clone().with_outbox(&Notifier::default());
    store.fail_chunk_if_held(&claim(&store, "worker").await.unwrap(), &sorry()).await.unwrap();
    assert_eq!((job(&world, submitted.id).await.status, dead_letters(&world).await), (JobStatus::Running, 1));
    assert!(claim(&store, "worker").await.is_some());
}

/// A worker that finishes its chunk has locked the chunk's row and waits for the job's row, which the retry has locked.
#[tokio::test]
async fn a_retry_waits_for_no_chunk_that_is_still_being_settled() {
    let world = World::new().await;
    let submitted = submit(&world, 3 * CODES_PER_CHUNK).await;
    let (stopped, _at_work) = (next(&world).await, next(&world).await);
    world.store().stop_job_if_held(&stopped, &Rejection::BookClosed).await.unwrap();
    let mut settling = world.pool().begin().await.unwrap();
    query("select from job_chunk where number = 1 for update").execute(&mut *settling).await.unwrap();
    let retry = world.store().retry_job_if_failed(None, world.business, submitted.id);
    tokio::time::timeout(Duration::from_secs(10), retry).await.expect("it waits").unwrap().outcome.unwrap();
    settling.rollback().await.unwrap();
    assert_eq!((next(&world).await.number, next(&world).await.number), (0, 2));
    world.assert_invariants().await;
}

/// Workers fail all chunks that they claim, while the job is retried many times: between two steps of a retry, another
/// retry may have run and the job may have failed again.
/// Invariant I-19.
#[tokio::test]
async fn retries_that_race_with_each_other_and_with_failures_leave_no_job_without_its_chunks() {
    let world = World::new().await;
    let submitted = submit(&world, 3 * CODES_PER_CHUNK).await;
    let (id, store) = (submitted.id, world.store());
    race(16, 0..800, async |turn| {
        if turn % 4 == 0 {
            store.retry_job_if_failed(None, world.business, id).await.unwrap();
        } else if let Some(chunk) = claim(store, "worker").await {
            store.fail_chunk_if_held(&chunk, &sorry()).await.unwrap();
        }
    })
    .await;
    while let Some(chunk) = claim(store, "last").await {
        store.fail_chunk_if_held(&chunk, &sorry()).await.unwrap();
    }
    let failed = job(&world, id).await;
    assert_eq!(failed.status, JobStatus::Failed, "the job is open without a runnable chunk");
    assert!(failed.attempts > 10, "{} retries are no race", failed.attempts);
    world.assert_invariants().await;
}

/// A dead letter of the first run is read. Before it is processed, the job is retried and fails again.
#[tokio::test]
async fn a_letter_of_an_earlier_run_starts_no_later_one_however_late_it_is_overtaken() {
    let world = World::new().await;
    let submitted = submit(&world, 10).await;
    world.store().fail_chunk_if_held(&next(&world).await, &sorry()).await.unwrap();
    let mut overtaking = world.pool().begin().await.unwrap();
    query("update job set attempts = attempts + 1").execute(&mut *overtaking).await.unwrap();
    let late = world.store().redrive_job_if_failed(submitted.id, 1);
    let late = waits_for(world.pool(), 1, overtaking.commit(), late).await;
    assert_eq!(late.unwrap(), Redriven::NotNeeded);
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Failed);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_chunk_to_be_tried_later_is_not_claimed_before() {
    let world = World::new().await;
    submit(&world, 50).await;
    let chunk = next(&world).await;
    world.store().retry_chunk_if_held(&chunk, Duration::from_hours(1), "the disk is full").await.unwrap();
    assert!(claim(world.store(), "worker").await.is_none());
    let due = world.store().next_chunk_due(&JobKind::ALL).await.unwrap().unwrap();
    assert!(due > Duration::from_mins(59) && due <= Duration::from_hours(1), "{due:?}");
    query("update job_chunk set run_at = now()").execute(world.pool()).await.unwrap();
    assert_eq!(next(&world).await.attempts, 1);
}

#[tokio::test]
async fn giving_a_chunk_back_spends_no_attempt() {
    let world = World::new().await;
    submit(&world, 50).await;
    let chunk = next(&world).await;
    world.store().release_chunk_if_held(&chunk, Duration::ZERO).await.unwrap();
    let again = next(&world).await;
    assert_eq!((again.attempts, again.crashes), (0, 0));
    assert!(again.epoch > chunk.epoch);
}

#[tokio::test]
async fn ending_all_leases_makes_every_chunk_runnable() {
    let world = World::new().await;
    submit(&world, 3 * CODES_PER_CHUNK).await;
    for _ in 0..3 {
        next(&world).await;
    }
    assert!(claim(world.store(), "worker").await.is_none());
    assert_eq!(world.store().end_all_leases().await.unwrap(), 3);
    for _ in 0..3 {
        assert_eq!(next(&world).await.epoch, 2);
    }
}

#[tokio::test]
async fn a_worker_is_given_only_kinds_it_knows() {
    let world = World::new().await;
    submit(&world, 50).await;
    let imports = [JobKind::ImportCodes];
    assert!(world.store().claim_chunk("worker", Duration::from_mins(1), &imports).await.unwrap().is_none());
    assert_eq!(next(&world).await.number, 0);
}

#[tokio::test]
async fn a_result_sums_the_numbers_of_its_chunks_and_keeps_the_rest() {
    let world = World::new().await;
    let submitted = submit(&world, CODES_PER_CHUNK + 100).await;
    assert_eq!(submitted.result, json!({ "generatedCount": 0, "couponBookId": world.book }));
    assert_eq!((submitted.status, submitted.percent()), (JobStatus::Queued, Some(0.0)));
    let (first, last) = (next(&world).await, next(&world).await);
    work_generation(world.store(), &last).await;
    let half = job(&world, submitted.id).await;
    assert_eq!((half.status, half.processed(), half.total), (JobStatus::Running, 100, Some(50_100)));
    work_generation(world.store(), &first).await;
    let done = job(&world, submitted.id).await;
    let at = "select code from coupon where position = $1";
    let first_code: String = query_scalar(at).bind(0).fetch_one(world.pool()).await.unwrap();
    let last_code: String = query_scalar(at).bind(50_099).fetch_one(world.pool()).await.unwrap();
    let result = json!({ "generatedCount": 50_100, "couponBookId": world.book, "firstCode": first_code, "lastCode": last_code });
    assert_eq!(done.result, result);
    assert_eq!((done.succeeded, done.failed, done.attempts), (50_100, 0, 1));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_job_of_another_business_does_not_exist() {
    let world = World::new().await;
    let submitted = submit(&world, 50).await;
    let other = world.another_business().await;
    let none = world.store().get_job(other, submitted.id).await;
    assert!(matches!(none, Err(Error::Rejected(Rejection::NotFound { .. }))));
    let cancel = world.store().cancel_job_if_open(None, other, submitted.id).await.unwrap().outcome;
    assert_eq!(cancel, Err(Rejection::not_found("job")));
    let retry = world.store().retry_job_if_failed(None, other, submitted.id).await.unwrap().outcome;
    assert_eq!(retry, Err(Rejection::not_found("job")));
    assert_eq!(job(&world, submitted.id).await.status, JobStatus::Queued);
}

/// Invariant I-21.
#[tokio::test]
async fn what_a_frozen_worker_holds_is_freed_once_its_lease_is_over_and_not_before() {
    let world = World::new().await;
    submit(&world, 3 * CODES_PER_CHUNK).await;
    let (living, frozen, overtaken) = (next(&world).await, next(&world).await, next_and_die(&world).await);
    assert_eq!(next(&world).await.number, overtaken.number, "another worker claimed the chunk");
    query("update job_chunk set lease_until = now() where number = $1")
        .bind(frozen.number)
        .execute(world.pool())
        .await
        .unwrap();
    let (mut sessions, mut copies) = (Vec::new(), Vec::new());
    for claim in [&living, &frozen, &overtaken] {
        let mut session = world.pool().acquire().await.unwrap().leak();
        query("begin").execute(&mut session).await.unwrap();
        query("select set_config('application_name', $1, true)")
            .bind(format!("chunk {} {} {}", claim.job, claim.number, claim.epoch))
            .execute(&mut session)
            .await
            .unwrap();
        sessions.push(session);
    }
    // As by a process that stops in the middle of its rows: no timeout of Postgres ends this COPY.
    for session in &mut sessions {
        copies.push(session.copy_in_raw("copy coupon from stdin").await.unwrap());
    }
    assert_eq!(world.store().end_lapsed_sessions().await.unwrap(), 2);
    eventually("the sessions to end", async || {
        (world.store().end_lapsed_sessions().await.unwrap() == 0).then_some(())
    })
    .await;
    let mut ended_well = Vec::new();
    for copy in copies {
        ended_well.push(copy.finish().await.is_ok());
    }
    assert_eq!(ended_well, [true, false, false]);
}
