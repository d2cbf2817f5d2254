//! Locks that run out: their event comes within a second, whatever Redis has forgotten.

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_testkit::eventually;
use serde_json::json;
use sqlx::query_scalar;

use super::Fleet;

/// The latest that the end of a lock may be on record.
const LATEST: TimeDelta = TimeDelta::seconds(1);

/// Locks a code for so many seconds; when it runs out.
async fn lock(fleet: &Fleet, code: &str, seconds: u32) -> DateTime<Utc> {
    let ask = json!({"userId": "ann", "ttlSeconds": seconds});
    let lock = fleet.server.service().post(&format!("coupons/{code}/lock"), ask).await.expect(200);
    lock["lockedUntil"].as_str().and_then(|until| until.parse().ok()).expect("a time")
}

/// When the only end of the code's locks was put on record.
async fn expired_at(fleet: &Fleet, code: &str) -> DateTime<Utc> {
    eventually("the lock to end", async || {
        let events = "select min(e.at) from coupon_event e join coupon c using (book_id, position)
                      where c.code = $1 and e.action = 'EXPIRE' having count(*) > 0";
        let events = query_scalar(events).bind(code.to_owned());
        events.fetch_optional(fleet.server.database.pool()).await.expect("looking failed")
    })
    .await
}

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
    let codes = ["END-1", "END-2", "END-3"];
    let fleet = fleet(&codes).await;
    for (code, seconds) in codes.into_iter().zip([1, 3, 4]) {
        let until = lock(&fleet, code, seconds).await;
        let at = expired_at(&fleet, code).await;
        assert!(at >= until && at - until < LATEST, "{code}: {}", at - until);
    }
    let left = eventually("the index to be empty", async || {
        let left = fleet.redis.ask(&["ZCARD", "coupon:lock:expiry"]).await;
        (left == ":0").then_some(left)
    });
    left.await;
    fleet.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgets_a_lock_or_dies_before_its_end_delays_it_by_no_more() {
    let codes = ["END-1", "END-2", "END-3"];
    let fleet = fleet(&codes).await;
    let until = lock(&fleet, codes[0], 3).await;
    fleet.flush_again_and_again(2).await;
    // A look at the agenda may be due at once, or a second after the last one; so the record may be so late.
    let late = expired_at(&fleet, codes[0]).await - until;
    assert!(late < LATEST * 2, "{late}");
    let until = lock(&fleet, codes[1], 2).await;
    fleet.redis.freeze();
    let late = expired_at(&fleet, codes[1]).await - until;
    assert!(late < LATEST * 2, "{late}");
    fleet.redis.thaw();
    let until = lock(&fleet, codes[2], 2).await;
    fleet.redis.kill();
    let late = expired_at(&fleet, codes[2]).await - until;
    assert!(late < LATEST * 2, "{late}");
    fleet.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_was_renewed_or_released_is_not_ended_by_what_redis_still_says() {
    let fleet = fleet(&["END-1", "END-2"]).await;
    let service = fleet.server.service();
    lock(&fleet, "END-1", 1).await;
    let until = lock(&fleet, "END-1", 3).await;
    lock(&fleet, "END-2", 1).await;
    service.post("coupons/END-2/unlock", json!({"userId": "ann"})).await.expect(200);
    // As if both had been noted late, and nothing newer were there.
    let business = fleet.server.business;
    for code in ["END-1", "END-2"] {
        fleet.redis.ask(&["ZADD", "coupon:lock:expiry", "1", &format!("{business}:{code}")]).await;
    }
    let at = expired_at(&fleet, "END-1").await;
    assert!(at >= until && at - until < LATEST, "{}", at - until);
    let history = service.get("coupons/END-2/history").await.expect(200);
    let actions: Vec<_> =
        history["data"].as_array().expect("events").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["UNLOCK", "LOCK", "ASSIGN"]);
    fleet.server.assert_invariants().await;
}
