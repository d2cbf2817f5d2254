//! What is kept in Redis, against a real one: it may be away, frozen, flushed or slow, and nobody is held up or told what is
//! not so.

mod absence;
mod allowance;
mod locks;
mod progress;

use std::time::Duration;

use cuponera_core::cache::{Cache, CacheState};
use cuponera_testkit::{Redis, eventually};

/// A connection that is there, however slow the machine is.
async fn connect(redis: &Redis) -> Cache {
    let cache = Cache::open_with(&redis.url().into(), Duration::from_secs(30)).await;
    cache.expect("the address is one")
}

/// A connection as a process has one: an answer that takes longer than the others' is one too late.
async fn connect_in_haste(redis: &Redis) -> Cache {
    let cache = Cache::open(&redis.url().into()).await.expect("the address is one");
    eventually("a connection", async || (cache.state() == CacheState::Connected).then_some(())).await;
    cache
}
