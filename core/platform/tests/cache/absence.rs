//! Outages of Redis: calls do not wait for it, and its return is detected.

use std::time::{Duration, Instant};

use cuponera_platform::cache::{CALL_TIMEOUT, Cache, CacheState};
use cuponera_testkit::{Redis, bound, eventually};

use super::connect_in_haste;

/// Maximum time to detect an outage or its end.
fn soon() -> Duration {
    bound(Duration::from_secs(1), Duration::from_secs(5))
}

async fn take(cache: &Cache) -> bool {
    cache.take("somebody", Duration::from_millis(1), 1_000_000).await.is_some()
}

/// Takes until Redis answers: a late answer on a busy machine counts as an outage too.
async fn takes(cache: &Cache) {
    eventually("Redis to answer", async || take(cache).await.then_some(())).await;
}

/// Waits, without calling Redis, until the state is detected; returns the time that took.
async fn known(cache: &Cache, state: CacheState) -> Duration {
    let begun = Instant::now();
    eventually("the state to be detected", async || (cache.state() == state).then_some(())).await;
    begun.elapsed()
}

#[tokio::test]
async fn a_redis_that_freezes_or_dies_is_known_within_a_second_and_found_again_by_itself() {
    let mut redis = Redis::start().await;
    let cache = connect_in_haste(&redis).await;
    takes(&cache).await;
    redis.freeze();
    assert!(known(&cache, CacheState::Disconnected).await < soon());
    redis.thaw();
    assert!(known(&cache, CacheState::Connected).await < soon());
    takes(&cache).await;
    redis.kill();
    assert!(known(&cache, CacheState::Disconnected).await < soon());
    redis.start_again().await;
    assert!(known(&cache, CacheState::Connected).await < soon());
    // The scripts are loaded into the new server.
    takes(&cache).await;
}

#[tokio::test]
async fn all_who_ask_a_frozen_redis_together_wait_a_tenth_of_a_second_and_the_next_ones_not_at_all() {
    let redis = Redis::start().await;
    let cache = connect_in_haste(&redis).await;
    redis.freeze();
    let begun = Instant::now();
    let answers = cuponera_testkit::race(200, 0..200, |_| take(&cache)).await;
    assert!(answers.iter().all(|answered| !answered));
    // One after the other, the calls would take 20 s.
    assert!(begun.elapsed() < bound(CALL_TIMEOUT * 3, CALL_TIMEOUT * 20), "{:?}", begun.elapsed());
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(!take(&cache).await);
    }
    // If each call waited, they would take 100 s.
    assert!(begun.elapsed() < bound(CALL_TIMEOUT, CALL_TIMEOUT * 50), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_found_when_it_comes() {
    let mut redis = Redis::start().await;
    redis.kill();
    let cache = Cache::open(&redis.url().into()).await.expect("the address is invalid");
    assert_eq!(cache.state(), CacheState::Disconnected);
    assert!(!take(&cache).await);
    redis.start_again().await;
    assert!(known(&cache, CacheState::Connected).await < soon());
}

#[tokio::test]
async fn a_redis_that_has_lost_its_scripts_is_given_them_again() {
    let redis = Redis::start().await;
    let cache = connect_in_haste(&redis).await;
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]).await, "+OK");
    takes(&cache).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_without_being_repeated() {
    for url in ["http://:secret@cache", "redis://", "cache:6379", "redis://:secret@host:port"] {
        let fault = Cache::open(&url.to_owned().into()).await.expect_err(url);
        assert_eq!(fault, "must be redis:// or rediss:// and a host, as in redis://localhost:6379");
    }
    assert_eq!(Cache::none().state(), CacheState::Disabled);
}
