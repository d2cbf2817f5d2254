//! Expired locks: their event is recorded within a second, even if Redis has lost the lock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use cuponera_testkit::{bound, eventually};
use serde_json::json;
use sqlx::query_scalar;

use super::{Fleet, TRIES};

/// Maximum time between the expiry of a lock and its event.
const LATEST: Duration = Duration::from_secs(1);

/// Locks a code for `seconds`; returns the expiry.
async fn lock(fleet: &Fleet, code: &str, seconds: u32) -> DateTime<Utc> {
    let ask = json!({"userId": "ann", "ttlSeconds": seconds});
    let lock = fleet.server.service().post(&format!("coupons/{code}/lock"), ask).await.expect(200);
    lock["lockedUntil"].as_str().and_then(|until| until.parse().ok()).expect("a time")
}

/// The time of the only `EXPIRE` event of the code.
async fn expired_at(fleet: &Fleet, code: &str) -> DateTime<Utc> {
    eventually("the event of the expired lock", async || {
        let events = "select min(e.at) from coupon_event e join coupon c using (book_id, position)
                      where c.code = $1 and e.action = 'EXPIRE' having count(*) > 0";
        let events = query_scalar(events).bind(code.to_owned());
        events.fetch_optional(fleet.server.database.pool()).await.expect("the query failed")
    })
    .await
}

/// The time between the expiry of the code's only lock and its event.
async fn lateness(fleet: &Fleet, code: &str, until: DateTime<Utc>) -> Duration {
    let late = expired_at(fleet, code).await - until;
    late.to_std().unwrap_or_else(|_| panic!("{code}: the lock ended {} early", -late))
}

/// An installation with these codes, all held by ann.
async fn fleet(codes: &[&str]) -> Fleet {
    let fleet = Fleet::with_worker().await;
    let book = fleet.server.book(json!({})).await;
    fleet.server.plant(&book, codes).await;
    for code in codes {
        fleet.server.give(code, "ann").await;
    }
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_lock_is_on_record_within_a_second() {
    const CODES: [[&str; 3]; TRIES] =
        [["END-1", "END-2", "END-3"], ["END-4", "END-5", "END-6"], ["END-7", "END-8", "END-9"]];
    let fleet = fleet(CODES.as_flattened()).await;
    let mut late = Vec::new();
    for codes in CODES {
        late.clear();
        for (code, seconds) in codes.into_iter().zip([1, 3, 4]) {
            late.push(lateness(&fleet, code, lock(&fleet, code, seconds).await).await);
        }
        if late.iter().all(|late| *late < LATEST) {
            break;
        }
    }
    assert!(late.iter().all(|late| *late < LATEST), "{late:?}");
    let left = eventually("the index to be empty", async || {
        let left = fleet.redis.ask(&["ZCARD", "coupon:lock:expiry"]).await;
        (left == ":0").then_some(left)
    });
    left.await;
    fleet.server.assert_invariants().await;
}

/// Locks these codes with staggered expiries and disturbs Redis before the first. If the sweep read `lock_agenda` as
/// rarely as with a Redis that answers, one event would be three seconds late.
async fn assert_ends_are_on_record(fleet: &Fleet, codes: [&str; 3], befall: impl AsyncFnOnce(&Fleet)) {
    let mut locks = Vec::new();
    for (code, seconds) in codes.into_iter().zip([2, 4, 6]) {
        locks.push((code, lock(fleet, code, seconds).await));
    }
    befall(fleet).await;
    // A read of `lock_agenda` may be due immediately, or a second after the last one.
    let latest = bound(LATEST * 2, LATEST * 3);
    for (code, until) in locks {
        let late = lateness(fleet, code, until).await;
        assert!(late < latest, "{code}: {late:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_a_lock_or_dies_before_its_end_delays_it_by_no_more() {
    const CODES: [[&str; 3]; 3] =
        [["END-1", "END-2", "END-3"], ["END-4", "END-5", "END-6"], ["END-7", "END-8", "END-9"]];
    let fleet = fleet(CODES.as_flattened()).await;
    let [forgotten, frozen, dead] = CODES;
    assert_ends_are_on_record(&fleet, forgotten, async |fleet| fleet.flush_again_and_again(2).await).await;
    assert_ends_are_on_record(&fleet, frozen, async |fleet| fleet.redis.freeze()).await;
    fleet.redis.thaw();
    assert_ends_are_on_record(&fleet, dead, async |fleet| fleet.redis.kill()).await;
    fleet.server.assert_invariants().await;
}

/// Invariant I-34.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_renewed_or_released_is_not_ended_by_what_redis_still_says() {
    const CODES: [[&str; 2]; TRIES] = [["END-1", "END-2"], ["END-3", "END-4"], ["END-5", "END-6"]];
    let fleet = fleet(CODES.as_flattened()).await;
    let mut late = Vec::new();
    for [renewed, released] in CODES {
        late.push(end_of_renewed(&fleet, renewed, released).await);
        if late.last().is_some_and(|late| *late < LATEST) {
            break;
        }
    }
    assert!(late.last().is_some_and(|late| *late < LATEST), "{late:?}");
    fleet.server.assert_invariants().await;
}

/// Renews one lock and releases another; both are due in Redis. Returns the lateness of the renewed lock's event.
async fn end_of_renewed(fleet: &Fleet, renewed: &str, released: &str) -> Duration {
    let service = fleet.server.service();
    lock(fleet, renewed, 3).await;
    let until = lock(fleet, renewed, 5).await;
    lock(fleet, released, 60).await;
    service.post(&format!("coupons/{released}/unlock"), json!({"userId": "ann"})).await.expect(200);
    // As if both notes were late and Redis had no newer ones.
    let business = fleet.server.business;
    for code in [renewed, released] {
        fleet.redis.ask(&["ZADD", "coupon:lock:expiry", "1", &format!("{business}:{code}")]).await;
    }
    let late = lateness(fleet, renewed, until).await;
    let history = service.get(&format!("coupons/{released}/history")).await.expect(200);
    let actions: Vec<_> =
        history["data"].as_array().expect("events").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["UNLOCK", "LOCK", "ASSIGN"]);
    late
}
