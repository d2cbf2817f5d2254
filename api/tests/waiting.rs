//! Waiting for jobs: requests that wait, event streams, and released resources after the client or the server has
//! gone.

mod departures;
mod streams;
mod waits;

use cuponera_api::Watching;
use cuponera_testkit::eventually;
use serde_json::json;

use crate::support::{Limits, Server, id_of};

/// No watcher, no watched job, no poller.
const NOTHING: Watching = Watching { streams: 0, waits: 0, jobs: 0, is_polling: false };

/// An installation whose jobs end only through the test.
async fn without_worker() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

/// Submits a job for `quantity` codes; returns its id.
async fn submit(server: &Server, quantity: u64) -> String {
    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": quantity});
    id_of(&server.admin().post("coupon-codes/generate", order).await.expect(202))
}

async fn cancel(server: &Server, job: &str) {
    server.admin().post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200);
}

async fn wait_for_watching(server: &Server, expected: impl Fn(Watching) -> bool) {
    eventually("the expected watchers", async || expected(server.app.watching()).then_some(())).await;
}
