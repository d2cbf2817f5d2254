//! Token buckets that several processes share.

use std::time::Duration;

use cuponera_platform::cache::RateLimitDecision::{Granted, Rejected};
use cuponera_testkit::{Redis, eventually};

use super::connect;

#[tokio::test]
async fn two_processes_take_from_one_bucket_and_are_told_how_long_to_wait() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let (every, most) = (Duration::from_secs(20), 3);
    for (cache, remaining) in [(&one, 2), (&two, 1), (&one, 0)] {
        assert_eq!(cache.take("ann", every, most).await, Some(Granted { remaining }));
    }
    for cache in [&one, &two] {
        let Some(Rejected { wait }) = cache.take("ann", every, most).await else {
            panic!("the call was granted")
        };
        assert!(wait > Duration::from_secs(15) && wait <= every, "{wait:?}");
    }
    assert_eq!(
        two.take("bob", every, most).await,
        Some(Granted { remaining: 2 }),
        "bob has a separate bucket"
    );
}

#[tokio::test]
async fn a_bucket_that_is_empty_gets_one_back_at_a_time_and_is_forgotten_when_it_is_full() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    let (every, most) = (Duration::from_secs(2), 2);
    for remaining in [1, 0] {
        assert_eq!(cache.take("ann", every, most).await, Some(Granted { remaining }));
    }
    let Some(Rejected { wait }) = cache.take("ann", every, most).await else {
        panic!("the call was granted")
    };
    assert!(wait <= every, "{wait:?}");
    tokio::time::sleep(wait).await;
    assert_eq!(cache.take("ann", every, most).await, Some(Granted { remaining: 0 }));
    eventually("the bucket to be full", async || (redis.ask(&["DBSIZE"]).await == ":0").then_some(())).await;
}

#[tokio::test]
async fn a_thousand_who_take_at_once_from_a_bucket_of_a_hundred_get_a_hundred() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let take = async |number: usize| {
        let cache = if number.is_multiple_of(2) { &one } else { &two };
        cache.take("all", Duration::from_hours(1), 100).await
    };
    let taken = cuponera_testkit::race(50, 0..1_000, take).await;
    assert_eq!(taken.iter().filter(|taken| matches!(taken, Some(Granted { .. }))).count(), 100);
    assert_eq!(taken.iter().filter(|taken| matches!(taken, Some(Rejected { .. }))).count(), 900);
}
