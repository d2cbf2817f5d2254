//! An API whose jobs are announced on SQS: the queue may be away, the API is not.

use cuponera_testkit::{Adversary, Emulator, Manners, eventually};
use serde_json::json;
use sqlx::query_scalar;

use crate::support::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_away_is_told_of_and_jobs_are_taken_all_the_same() {
    let queue = Emulator::get().await.queue().await;
    let adversary = Adversary::before(queue.endpoint(), 1, Manners::GOOD).await;
    let sqs = queue.connect_through(&adversary.endpoint()).await;
    let server = Server::start_with(Limits { worker: false, queue: Some(sqs), ..Limits::default() }).await;
    let health = async || {
        let health = server.nobody().get("/health").await.expect(200);
        (health["status"].clone(), health["database"].clone(), health["queue"].clone())
    };
    assert_eq!(health().await, (json!("ok"), json!("connected"), json!("connected")));
    adversary.refuse();
    let ill = (json!("degraded"), json!("connected"), json!("disconnected"));
    eventually("the outage to be told of", async || (health().await == ill).then_some(())).await;
    server.nobody().get("/health/ready").await.expect(200);

    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": 60_000});
    let job = server.admin().post("coupon-codes/generate", order).await.expect(202);
    assert_eq!(job["status"], "QUEUED");
    let waiting = "select count(*) from outbox";
    let waiting: i64 =
        query_scalar(waiting).fetch_one(server.database.pool()).await.expect("counting failed");
    assert_eq!(waiting, 2, "a wake-up for each chunk, written with the job");
    adversary.relent();
    eventually("the return to be told of", async || (health().await.0 == "ok").then_some(())).await;
}
