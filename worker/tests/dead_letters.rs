//! Dead letters: a chunk that has failed finally writes one, and a redrive of it retries the job.

use cuponera_domain::id::JobId;
use cuponera_domain::job::{CODES_PER_CHUNK, JobError, JobKind, JobStatus, MAX_CRASHES};
use cuponera_platform::queue::{RedriveReport, redrive};
use cuponera_store::GenerateId;
use cuponera_store::{Claim, Store};
use cuponera_testkit::eventually;
use sqlx::query;

use crate::fleet::{Fleet, LEASE, count};

/// Sets the status of the book. Codes cannot be added to a closed book.
async fn set_book(fleet: &Fleet, status: &str) {
    query("update coupon_book set status = $1").bind(status).execute(fleet.world.pool()).await.unwrap();
}

async fn dead_letters_unsent(fleet: &Fleet) -> i64 {
    count(&fleet.world, "select count(*) from outbox where kind = 'DEAD'").await
}

async fn claim(store: &Store) -> Claim {
    store.claim_chunk("worker", LEASE, &JobKind::ALL).await.unwrap().unwrap()
}

async fn fail(store: &Store, claim: &Claim) {
    let sorry = JobError { code: "sorry".to_owned(), detail: "the chunk failed for the test".to_owned() };
    store.fail_chunk_if_held(claim, &sorry).await.unwrap();
}

fn report(retried: u64, not_needed: u64, left: u64) -> RedriveReport {
    RedriveReport { retried, not_needed, left }
}

fn letter(job: JobId, number: i32, attempt: i32) -> String {
    format!(r#"{{"v":1,"kind":"dead","job":"{job}","number":{number},"attempt":{attempt}}}"#)
}

async fn letters(fleet: &Fleet, count: usize) -> Vec<String> {
    eventually("the dead letters", async || {
        let letters = fleet.queue.dead_letters().await;
        (letters.len() == count).then_some(letters)
    })
    .await
    .iter()
    .map(|letter| letter["Body"].as_str().unwrap().to_owned())
    .collect()
}

#[tokio::test]
async fn work_that_failed_for_the_last_time_leaves_a_letter_and_is_redriven_by_it() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    let job = fleet.generate(&store, 50).await;
    query("update job_chunk set crashes = $1").bind(MAX_CRASHES).execute(fleet.world.pool()).await.unwrap();
    fleet.worker("worker", &sqs).await;
    assert_eq!(fleet.over(job.id).await.error.unwrap().code, "worker_lost");
    assert_eq!(letters(&fleet, 1).await, [letter(job.id, 0, 1)]);
    assert_eq!(redrive(&store, &sqs).await.unwrap(), report(1, 0, 0));
    assert!(fleet.queue.dead_letters().await.is_empty());
    let done = fleet.succeeded(job.id).await;
    assert_eq!((done.succeeded, done.attempts), (50, 2));
    fleet.world.assert_invariants().await;
}

#[tokio::test]
async fn a_chunk_that_cannot_be_read_is_set_aside_with_the_reason_and_runs_once_it_can() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    let job = fleet.generate(&store, 50).await;
    let spoil = "update job_chunk set work = jsonb_set(work, '{chunk}', '\"GENERATE_LATER\"')";
    query(spoil).execute(fleet.world.pool()).await.unwrap();
    fleet.worker("worker", &sqs).await;
    let error = fleet.over(job.id).await.error.unwrap();
    assert_eq!(error.code, "unreadable_chunk");
    assert!(error.detail.contains("GENERATE_LATER"), "{}", error.detail);
    letters(&fleet, 1).await;
    let mend = "update job_chunk set work = jsonb_set(work, '{chunk}', '\"GENERATE\"')";
    query(mend).execute(fleet.world.pool()).await.unwrap();
    assert_eq!(redrive(&store, &sqs).await.unwrap(), report(1, 0, 0));
    assert_eq!(fleet.succeeded(job.id).await.succeeded, 50);
    fleet.world.assert_invariants().await;
}

#[tokio::test]
async fn a_book_closed_under_a_job_fails_it_at_once_and_leaves_no_letter() {
    const CHUNKS: u32 = 12;
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    let job = fleet.generate(&store, u64::from(CHUNKS) * CODES_PER_CHUNK).await;
    let worker = fleet.worker("worker", &sqs).await;
    eventually("a chunk to be finished", async || (fleet.job(job.id).await.succeeded > 0).then_some(()))
        .await;
    set_book(&fleet, "CLOSED").await;
    let failed = fleet.over(job.id).await;
    assert_eq!(failed.error.clone().unwrap().code, "book_closed");
    worker.stop().await;
    let waiting = "select count(*) from job_chunk where status = 'READY'";
    let (waiting, done) = (count(&fleet.world, waiting).await, failed.succeeded / 50_000);
    assert!(
        waiting >= i64::from(CHUNKS) - done - 2,
        "{waiting} chunks wait and {done} are done: more than two were running"
    );
    assert_eq!((dead_letters_unsent(&fleet).await, fleet.queue.dead_letters().await.len()), (0, 0));
    fleet.world.assert_invariants().await;

    set_book(&fleet, "ACTIVE").await;
    store.retry_job_if_failed(None, fleet.world.business, job.id).await.unwrap().outcome.unwrap();
    fleet.worker("another", &fleet.queue.connect().await).await;
    let done = fleet.succeeded(job.id).await;
    assert_eq!((done.succeeded, done.attempts), (i64::from(CHUNKS) * 50_000, 2));
    fleet.world.assert_invariants().await;
}

#[tokio::test]
async fn a_letter_waits_for_the_end_of_its_run_and_does_nothing_in_a_later_one() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    let job = fleet.generate(&store, 3 * CODES_PER_CHUNK).await;
    let (first, second, third) = (claim(&store).await, claim(&store).await, claim(&store).await);
    fail(&store, &first).await;
    letters(&fleet, 1).await;
    assert_eq!(redrive(&store, &sqs).await.unwrap(), report(0, 0, 1), "the other chunks are still running");
    assert_eq!(letters(&fleet, 1).await, [letter(job.id, 0, 1)], "the dead letter stays");

    fail(&store, &second).await;
    fail(&store, &third).await;
    letters(&fleet, 3).await;
    assert_eq!(redrive(&store, &sqs).await.unwrap(), report(1, 2, 0), "three dead letters and one retry");
    assert_eq!(fleet.job(job.id).await.status, JobStatus::Queued);

    for _ in 0..3 {
        fail(&store, &claim(&store).await).await;
    }
    let failed = fleet.job(job.id).await;
    assert_eq!((failed.status, failed.attempts), (JobStatus::Failed, 2));
    let old = store.redrive_job_if_failed(job.id, 1).await.unwrap();
    assert_eq!(
        (format!("{old:?}"), fleet.job(job.id).await.status),
        ("NotNeeded".to_owned(), JobStatus::Failed)
    );
}

#[tokio::test]
async fn a_letter_that_was_moved_back_among_the_messages_retries_its_job() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    let job = fleet.generate(&store, 50).await;
    fail(&store, &claim(&store).await).await;
    assert_eq!(fleet.job(job.id).await.status, JobStatus::Failed);
    fleet.worker("worker", &sqs).await;
    // As the console of AWS does, and twice, as SQS may deliver it.
    fleet.queue.put(&letter(job.id, 0, 1)).await;
    fleet.queue.put(&letter(job.id, 0, 1)).await;
    eventually("the job to run again", async || {
        (fleet.job(job.id).await.status == JobStatus::Succeeded).then_some(())
    })
    .await;
    assert_eq!(fleet.job(job.id).await.attempts, 2);
}

/// More dead letters than the relay claims at once, all older than the other messages.
#[tokio::test]
async fn letters_that_cannot_be_sent_keep_no_work_from_being_announced_or_announced_again() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.generate(&store, 50).await;
    fail(&store, &claim(&store).await).await;
    let many = "insert into outbox (kind, business_id, job_id, number, work, attempt)
                select kind, business_id, job_id, n, work, attempt from outbox, generate_series(1, 999) n where kind = 'DEAD'";
    query(many).execute(fleet.world.pool()).await.unwrap();
    fleet.queue.remove_dead_letter_queue().await;
    fleet.relay(&sqs);
    fleet.generate(&store, 50).await;
    eventually("both wake-ups", async || (fleet.queue.messages().await.len() >= 2).then_some(())).await;
    fleet.queue.purge().await;
    eventually("the lost message", async || (fleet.queue.messages().await.len() == 1).then_some(())).await;
    eventually("only the dead letters to wait", async || (fleet.unsent().await == 1_000).then_some(())).await;
    fleet.queue.restore_dead_letter_queue().await;
    letters(&fleet, 1_000).await;
}

#[tokio::test]
async fn letters_that_are_not_ours_are_left_and_stray_wake_ups_are_not() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    fleet.queue.put_dead("hello").await;
    fleet.queue.put_dead(&letter(JobId::generate(), 0, 1)).await;
    let stray = format!(r#"{{"v":1,"kind":"chunk","job":"{}","work":"GENERATE_CODES"}}"#, JobId::generate());
    fleet.queue.put_dead(&stray).await;
    assert_eq!(redrive(&fleet.store(&sqs), &sqs).await.unwrap(), report(0, 2, 1));
    assert_eq!(letters(&fleet, 1).await, ["hello"]);
}
