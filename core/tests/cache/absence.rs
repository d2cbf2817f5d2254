//! A Redis that does not answer: nobody waits for it, and it is found again.

use std::time::{Duration, Instant};

use cuponera_core::cache::{ANSWER, Cache, CacheState};
use cuponera_testkit::{Redis, eventually};

use super::connect;

/// How soon an outage must be known, and how soon it must be known to be over.
const SOON: Duration = Duration::from_secs(1);

async fn take(cache: &Cache) -> bool {
    cache.take("somebody", Duration::from_millis(1), 1_000_000).await.is_some()
}

/// Waits until it is known without anybody asking; says how long that took.
async fn known(cache: &Cache, state: CacheState) -> Duration {
    let begun = Instant::now();
    eventually("the state to be known", async || (cache.state() == state).then_some(())).await;
    begun.elapsed()
}

#[tokio::test]
async fn a_redis_that_freezes_or_dies_is_known_within_a_second_and_found_again_by_itself() {
    let mut redis = Redis::start().await;
    let cache = connect(&redis).await;
    assert_eq!(cache.state(), CacheState::Connected);
    assert!(take(&cache).await);
    redis.freeze();
    assert!(known(&cache, CacheState::Disconnected).await < SOON);
    redis.thaw();
    assert!(known(&cache, CacheState::Connected).await < SOON);
    assert!(take(&cache).await);
    redis.kill();
    assert!(known(&cache, CacheState::Disconnected).await < SOON);
    redis.start_again().await;
    assert!(known(&cache, CacheState::Connected).await < SOON);
    assert!(take(&cache).await, "a new server is given the scripts");
}

#[tokio::test]
async fn all_who_ask_a_frozen_redis_together_wait_a_tenth_of_a_second_and_the_next_ones_not_at_all() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    redis.freeze();
    let begun = Instant::now();
    let answers = cuponera_testkit::race(200, 0..200, |_| take(&cache)).await;
    assert!(answers.iter().all(|answered| !answered));
    assert!(begun.elapsed() < ANSWER * 3, "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(!take(&cache).await);
    }
    assert!(begun.elapsed() < ANSWER, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut redis = Redis::start().await;
    redis.kill();
    let cache = connect(&redis).await;
    assert_eq!(cache.state(), CacheState::Disconnected);
    assert!(!take(&cache).await);
    redis.start_again().await;
    assert!(known(&cache, CacheState::Connected).await < SOON);
}

#[tokio::test]
async fn a_redis_that_has_lost_its_scripts_is_given_them_again() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]).await, "+OK");
    eventually("the scripts to be back", async || take(&cache).await.then_some(())).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_being_repeated() {
    for url in ["http://:secret@cache", "redis://", "cache:6379", "redis://:secret@host:port"] {
        let fault = Cache::open(&url.to_owned().into()).await.expect_err(url);
        assert_eq!(fault, "must be redis:// or rediss:// and a host, as in redis://localhost:6379");
    }
    assert_eq!(Cache::none().state(), CacheState::Disabled);
}
