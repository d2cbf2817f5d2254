//! Tests of the cache with a real Redis that is unavailable, frozen, flushed or slow: calls are not delayed and get no
//! wrong answer.

mod absence;
mod allowance;
mod locks;
mod progress;

use std::time::Duration;

use cuponera_platform::cache::{Cache, CacheState};
use cuponera_testkit::{Redis, eventually};

/// A connection with a timeout of 30 s, for slow machines.
async fn connect(redis: &Redis) -> Cache {
    let cache = Cache::open_with(&redis.url().into(), Duration::from_secs(30)).await;
    cache.expect("the address is invalid")
}

/// A connection with the timeout that processes use.
async fn connect_in_haste(redis: &Redis) -> Cache {
    let cache = Cache::open(&redis.url().into()).await.expect("the address is invalid");
    eventually("a connection", async || (cache.state() == CacheState::Connected).then_some(())).await;
    cache
}
