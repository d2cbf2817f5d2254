//! The index of locks by expiry.

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_domain::id::{BusinessId, LockId};
use cuponera_domain::lock::{Hold, LockNote};
use cuponera_platform::cache::Cache;
use cuponera_testkit::Redis;
use uuid::Uuid;

use super::connect;

const BUSINESS: BusinessId = BusinessId(Uuid::nil());

fn locked(code: &str, version: i32, until: DateTime<Utc>) -> LockNote {
    let hold = Hold { lock: LockId(Uuid::nil()), holder: "ann".to_owned(), until };
    LockNote { business: BUSINESS, code: code.to_owned(), version, hold: Some(hold) }
}

fn free(code: &str, version: i32) -> LockNote {
    LockNote { business: BUSINESS, code: code.to_owned(), version, hold: None }
}

async fn due(cache: &Cache, now: DateTime<Utc>) -> Vec<String> {
    let due = cache.claim_due_locks(now, 100).await.expect("Redis answers");
    due.coupons.into_iter().map(|(_, code)| code).collect()
}

#[tokio::test]
async fn a_lock_is_kept_for_its_own_time_and_due_when_it_has_run_out() {
    let redis = Redis::start().await;
    let cache = connect(&redis).await;
    let now = Utc::now();
    cache.note_locks(&[locked("AAA", 5, now + TimeDelta::seconds(300)), locked("BBB", 1, now)]).await;
    let key = format!("coupon:lock:{BUSINESS}:AAA");
    let left: i64 = redis.ask(&["TTL", &key]).await[1..].parse().expect("a number");
    assert!((290..=300).contains(&left), "{left}");
    assert_eq!(redis.ask(&["HEXISTS", &key, "lockedUntil"]).await, ":1");
    assert_eq!(due(&cache, now + TimeDelta::seconds(1)).await, ["BBB"]);
    cache.note_locks(&[free("BBB", 2)]).await;
    assert_eq!(due(&cache, now + TimeDelta::seconds(301)).await, ["AAA"]);
}

#[tokio::test]
async fn a_note_that_comes_late_changes_nothing() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let now = Utc::now();
    let later = now + TimeDelta::hours(1);
    // AAA is released before its lock is noted. BBB is renewed for a shorter time before its longer lock is noted.
    let soon = now + TimeDelta::minutes(1);
    one.note_locks(&[free("AAA", 6), locked("BBB", 8, soon)]).await;
    two.note_locks(&[locked("AAA", 5, soon), locked("BBB", 7, later)]).await;
    assert_eq!(due(&one, soon + TimeDelta::seconds(1)).await, ["BBB"]);
    assert_eq!(redis.ask(&["ZCARD", "coupon:lock:expiry"]).await, ":1");
}

#[tokio::test]
async fn a_lock_that_was_handed_out_is_handed_out_again_unless_somebody_says_what_became_of_it() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let now = Utc::now();
    one.note_locks(&[locked("AAA", 5, now), locked("BBB", 5, now)]).await;
    let soon = now + TimeDelta::seconds(1);
    assert_eq!(due(&one, soon).await, ["AAA", "BBB"]);
    assert_eq!(due(&two, soon).await, Vec::<String>::new(), "a lock is handed to one process at a time");
    one.note_locks(&[free("AAA", 6)]).await;
    assert_eq!(due(&two, soon + TimeDelta::seconds(3)).await, ["BBB"]);
}

#[tokio::test]
async fn an_index_that_was_lost_is_known_by_its_new_name() {
    let redis = Redis::start().await;
    let (one, two) = (connect(&redis).await, connect(&redis).await);
    let name = async |cache: &Cache| cache.claim_due_locks(Utc::now(), 1).await.expect("Redis answers").index;
    let first = name(&one).await;
    assert_eq!(first, name(&two).await);
    redis.flush().await;
    let second = name(&two).await;
    assert_ne!(first, second);
    assert_eq!(name(&one).await, second);
}
