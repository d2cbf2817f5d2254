//! An API whose jobs are announced on SQS works while SQS is unavailable.

use std::time::{Duration, Instant};

use cuponera_domain::job::JobError;
use cuponera_platform::queue::{Queue, Relay};
use cuponera_store::Pools;
use cuponera_testkit::{Adversary, Emulator, FaultConfig, claim, eventually};
use reqwest::Method;
use serde_json::json;
use sqlx::query_scalar;
use tokio_util::sync::CancellationToken;

use crate::support::{Limits, Server, Unchecked};

/// Maximum duration of a health check while the queue hangs.
const HEARD: Duration = Duration::from_millis(2_500);

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_away_is_told_of_and_jobs_are_taken_all_the_same() {
    let queue = Emulator::get().await.queue().await;
    let adversary = Adversary::before(queue.endpoint(), 1, FaultConfig::GOOD).await;
    let sqs = queue.connect_through(&adversary.endpoint()).await;
    let server = Server::start_with(Limits { worker: false, queue: Some(sqs), ..Limits::default() }).await;
    let health = async || {
        let health = server.anonymous().get("/health").await.expect(200);
        (health["status"].clone(), health["database"].clone(), health["queue"].clone())
    };
    let well = (json!("ok"), json!("connected"), json!("connected"));
    eventually("health to be ok", async || (health().await == well).then_some(())).await;
    adversary.refuse();
    let ill = (json!("degraded"), json!("connected"), json!("disconnected"));
    eventually("health to report the outage", async || (health().await == ill).then_some(())).await;
    server.anonymous().get("/health/ready").await.expect(200);

    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": 60_000});
    let job = server.admin().post("coupon-codes/generate", order).await.expect(202);
    assert_eq!(job["status"], "QUEUED");
    let waiting = "select count(*) from outbox";
    let waiting: i64 =
        query_scalar(waiting).fetch_one(server.database.pool()).await.expect("counting failed");
    assert_eq!(waiting, 2, "the outbox has a message for each chunk");
    adversary.reset_faults();
    eventually("health to report the recovery", async || (health().await.0 == "ok").then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_hangs_holds_up_the_word_of_the_health_by_a_second_and_no_more() {
    let queue = Emulator::get().await.queue().await;
    let adversary = Adversary::before(queue.endpoint(), 1, FaultConfig::GOOD).await;
    let sqs = queue.connect_through(&adversary.endpoint()).await;
    let server = Server::start_with(Limits { worker: false, queue: Some(sqs), ..Limits::default() }).await;
    // A call to the queue times out after three seconds. A health check that waited for it would take this long in
    // each outage.
    let mut slowest = Vec::new();
    while slowest.len() < 3 && slowest.last().is_none_or(|wait| *wait >= HEARD) {
        wait_for_queue(&server, "connected").await;
        adversary.hang();
        slowest.push(wait_for_queue(&server, "disconnected").await);
        adversary.reset_faults();
    }
    assert!(slowest.last().is_some_and(|wait| *wait < HEARD), "{slowest:?}");
    wait_for_queue(&server, "connected").await;
}

/// Waits until health reports this state of the queue; returns the duration of the slowest check.
async fn wait_for_queue(server: &Server, state: &str) -> Duration {
    let mut slowest = Duration::ZERO;
    eventually("health to report the state", async || {
        let begun = Instant::now();
        let answer = Unchecked::to(server.anonymous().request(Method::GET, "/health")).await;
        slowest = slowest.max(begun.elapsed());
        (answer.check().expect(200)["queue"] == state).then_some(())
    })
    .await;
    slowest
}

#[tokio::test(flavor = "multi_thread")]
async fn all_failed_jobs_of_a_business_run_again_at_one_call_and_their_letters_are_gone() {
    let queue = Emulator::get().await.queue().await;
    let sqs = queue.connect().await;
    let limits = Limits { worker: false, queue: Some(sqs.clone()), ..Limits::default() };
    let server = Server::start_with(limits).await;
    let store =
        Queue::Sqs(sqs.clone()).attach(server.database.another_store(Pools { rest: 2, ..Pools::MIN }).await);
    let stop = CancellationToken::new();
    let relay = tokio::spawn(Relay::new(store.clone(), sqs).run(stop.clone()));

    let mut failed = Vec::new();
    for _ in 0..2 {
        let order = json!({"couponBookId": server.book(json!({})).await, "quantity": 10});
        failed.push(server.admin().post("coupon-codes/generate", order).await.expect(202)["id"].clone());
        let claim = claim(&store, "worker").await.expect("a chunk to claim");
        let sorry = JobError { code: "sorry".to_owned(), detail: "the chunk failed for the test".to_owned() };
        store.fail_chunk_if_held(&claim, &sorry).await.expect("it cannot fail");
    }
    let dead = async |count| (queue.dead_letters().await.len() == count).then_some(());
    eventually("the dead letters", async || dead(2).await).await;

    let stranger = server.another_admin().await;
    let none = json!({"retriedCount": 0, "jobIds": [], "remainingCount": 0});
    assert_eq!(stranger.post("jobs/redrive", json!({})).await.expect(200), none);
    let redriven = json!({"retriedCount": 2, "jobIds": failed, "remainingCount": 0});
    for _ in 0..2 {
        let answer = server.admin().post_with_key("jobs/redrive", "again", &json!({})).await;
        assert_eq!(answer.expect(200), redriven, "the answers for one key differ");
    }
    assert_eq!(server.admin().post("jobs/redrive", json!({})).await.expect(200), none);
    for id in &failed {
        let job = server.admin().get(&format!("jobs/{}", id.as_str().expect("an id"))).await.expect(200);
        assert_eq!((&job["status"], &job["error"]), (&json!("QUEUED"), &json!(null)));
        assert!(claim(&store, "worker").await.is_some(), "its chunk is not runnable");
    }
    eventually("the dead letters to be deleted", async || dead(0).await).await;
    stop.cancel();
    relay.await.expect("the relay panicked");
}
