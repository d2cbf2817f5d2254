//! API servers that share a Redis which is flushed, frozen or killed: outcomes are the same, and no request waits.

mod expiry;
mod limits;
mod progress;
mod races;

use std::time::Duration;

use cuponera_platform::cache::Cache;
use cuponera_testkit::{Redis, eventually};
use tokio::time::sleep;

use crate::support::{Client, Limits, Server};

/// Interval between flushes.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// Number of attempts of tests that need a Redis that answers in time.
const TRIES: usize = 3;

/// An installation of two API servers, optionally a worker, and a Redis that is available when a test begins.
///
/// A server ignores a Redis that takes longer than a tenth of a second, and works without it for a moment. This
/// happens on a busy machine: what depends on a Redis in time is attempted up to [`TRIES`] times and must succeed
/// once.
struct Fleet {
    redis: Redis,
    server: Server,
    another: String,
}

impl Fleet {
    async fn start(limits: Limits) -> Self {
        let redis = Redis::start().await;
        let server = Server::start_with(Limits { redis: Some(redis.url()), ..limits }).await;
        let another = server.another_api().await;
        let fleet = Self { redis, server, another };
        fleet.wait_for_health("connected").await;
        fleet
    }

    async fn with_worker() -> Self {
        Self::start(Limits::default()).await
    }

    async fn without_worker() -> Self {
        Self::start(Limits { worker: false, ..Limits::default() }).await
    }

    /// The same caller, at both servers.
    fn at_both(&self, client: &Client) -> [Client; 2] {
        [client.clone(), client.at(&self.another)]
    }

    /// A connection of the test to Redis.
    async fn cache(&self) -> Cache {
        Cache::open(&self.redis.url().into()).await.expect("a valid address")
    }

    /// Waits until both servers report this state of Redis.
    async fn wait_for_health(&self, redis: &str) {
        for client in self.at_both(&self.server.anonymous()) {
            wait_for_health(&client, redis).await;
        }
    }

    /// Flushes Redis `times` times.
    async fn flush_again_and_again(&self, times: u32) {
        for _ in 0..times {
            self.redis.flush().await;
            sleep(FLUSH_EVERY).await;
        }
    }
}

/// Waits until a server reports this state of Redis.
async fn wait_for_health(client: &Client, redis: &str) {
    eventually("health to report the state", async || {
        let health = client.get("/health").await.expect(200);
        let status = if redis == "connected" { "ok" } else { "degraded" };
        (health["redis"] == redis && health["status"] == status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_a_redis_that_freezes_dies_and_comes_back() {
    let mut fleet = Fleet::without_worker().await;
    fleet.redis.freeze();
    fleet.wait_for_health("disconnected").await;
    fleet.server.anonymous().get("/health/ready").await.expect(200);
    fleet.redis.thaw();
    fleet.wait_for_health("connected").await;
    fleet.redis.kill();
    fleet.wait_for_health("disconnected").await;
    fleet.redis.start_again().await;
    fleet.wait_for_health("connected").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_redis_says_so_and_is_well() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let health = server.anonymous().get("/health").await.expect(200);
    assert_eq!((&health["status"], &health["redis"]), (&"ok".into(), &"disabled".into()));
}
