//! Shutdown of a worker: it claims no more chunks, releases unfinished ones, and other workers can continue
//! immediately.

use std::time::{Duration, Instant};

use cuponera_testkit::{bound, eventually};
use sqlx::query;

use crate::fleet::{Fleet, count};

#[tokio::test]
async fn a_worker_that_waits_for_messages_stops_at_once() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect_with_long_polls().await;
    let worker = fleet.worker("worker", &sqs).await;
    let job = fleet.generate(&fleet.store(&sqs), 50).await;
    fleet.succeeded(job.id).await;
    let told = Instant::now();
    worker.stop().await;
    let within = bound(Duration::from_secs(1), Duration::from_secs(8));
    assert!(told.elapsed() < within, "{:?}", told.elapsed());
    eventually("the message of the finished chunk to be deleted", async || {
        fleet.queue.messages().await.is_empty().then_some(())
    })
    .await;
}

/// Another transaction holds the book's row, so the chunk cannot end.
#[tokio::test]
async fn a_chunk_that_does_not_end_is_given_to_others_within_15_seconds() {
    let fleet = Fleet::new().await;
    let sqs = fleet.queue.connect().await;
    let job = fleet.generate(&fleet.store(&sqs), 50).await;
    let mut holding = fleet.world.pool().begin().await.unwrap();
    query("select from coupon_book for update").execute(&mut *holding).await.unwrap();
    let worker = fleet.worker("stopped", &sqs).await;
    eventually("the chunk to be claimed", async || {
        let claimed = "select count(*) from job_chunk where status = 'RUNNING'";
        (count(&fleet.world, claimed).await == 1).then_some(())
    })
    .await;
    let told = Instant::now();
    worker.stop().await;
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    let free = "select count(*) from job_chunk where status = 'READY' and attempts + crashes = 0 and run_at <= now()";
    assert_eq!(count(&fleet.world, free).await, 1);
    holding.rollback().await.unwrap();
    let (released, other) = (Instant::now(), fleet.queue.connect().await);
    fleet.worker("other", &other).await;
    let done = fleet.succeeded(job.id).await;
    let within = bound(Duration::from_secs(5), Duration::from_secs(10));
    assert!(released.elapsed() < within, "the chunk waited for its message");
    let rescued = "select count(*) from job_chunk where rescued_at is not null";
    assert_eq!(
        count(&fleet.world, rescued).await,
        0,
        "the chunk was announced by a rescue and not by its own message"
    );
    assert_eq!((done.succeeded, done.attempts), (50, 1));
    fleet.world.assert_invariants().await;
}
