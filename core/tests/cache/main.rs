//! What is kept in Redis, against a real one: it may be away, frozen, flushed or slow, and nobody is held up or told what is
//! not so.

mod absence;
mod allowance;
mod locks;
mod progress;

use cuponera_core::cache::Cache;
use cuponera_testkit::Redis;

/// A connection as a process has one.
async fn connect(redis: &Redis) -> Cache {
    Cache::open(&redis.url().into()).await.expect("the address is one")
}
