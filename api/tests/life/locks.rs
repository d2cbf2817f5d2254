//! Locks that expire, locks named by their id, and books that require a lock.

use cuponera_testkit::eventually;
use serde_json::json;

use super::{actions, post, with_codes};
use crate::support::{Client, Limits, Server};

/// Locks for one second, the minimum, and waits until the lock has expired; returns its id.
async fn lapsed_lock(client: &Client, code: &str) -> serde_json::Value {
    let lock = post(client, &format!("coupons/{code}/lock"), json!({"ttlSeconds": 1})).await;
    eventually("the lock to expire", async || {
        let coupon = client.get(&format!("coupons/{code}")).await.expect(200);
        (coupon["status"] == "ASSIGNED").then_some(())
    })
    .await;
    lock["lockId"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_has_run_out_counts_as_none_before_any_sweep() {
    let server = with_codes(json!({}), &["LAPSED"]).await;
    let ann = server.user("ann");
    let old = lapsed_lock(&ann, "LAPSED").await;
    let listed = ann.get("assignments/user/ann").await.expect(200);
    assert_eq!(listed["data"][0]["status"], "ASSIGNED");
    let rejected = ann.post("coupons/LAPSED/redeem", json!({"lockId": old})).await;
    assert_eq!(rejected.rejected(410), "lock_expired");
    let new = post(&ann, "coupons/LAPSED/lock", json!({})).await;
    assert_ne!(new["lockId"], old, "an expired lock was renewed");
    post(&ann, "coupons/LAPSED/redeem", json!({})).await;
    assert_eq!(actions(&server, "LAPSED").await, ["REDEEM", "LOCK", "EXPIRE", "LOCK", "ASSIGN"]);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_s_sweep_ends_a_lock_that_has_run_out_once() {
    let server = Server::start_with(Limits::default()).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["SWEPT"]).await;
    server.give("SWEPT", "ann").await;
    lapsed_lock(&server.user("ann"), "SWEPT").await;
    let actions = eventually("the sweep", async || {
        let actions = actions(&server, "SWEPT").await;
        (actions.len() > 2).then_some(actions)
    })
    .await;
    assert_eq!(actions, ["EXPIRE", "LOCK", "ASSIGN"]);
    let history = server.admin().get("coupons/SWEPT/history").await.expect(200);
    assert_eq!(history["data"][0]["actor"], "sweep");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_a_lock_is_refused_once_another_followed_it() {
    let server = with_codes(json!({}), &["FENCED"]).await;
    let ann = server.user("ann");
    let old = post(&ann, "coupons/FENCED/lock", json!({})).await["lockId"].clone();
    post(&ann, "coupons/FENCED/unlock", json!({})).await;
    let gone = ann.post("coupons/FENCED/redeem", json!({"lockId": old})).await;
    assert_eq!(gone.rejected(410), "lock_expired");
    let new = post(&ann, "coupons/FENCED/lock", json!({})).await["lockId"].clone();
    for path in ["redeem", "validate", "unlock"] {
        let stale = ann.post(&format!("coupons/FENCED/{path}"), json!({"lockId": old})).await;
        assert_eq!(stale.rejected(409), "lock_stale", "{path}");
    }
    post(&ann, "coupons/FENCED/redeem", json!({"lockId": new})).await;
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_asks_for_a_lock_takes_no_redemption_without_a_live_one() {
    let server = with_codes(json!({"requireLock": true}), &["STRICT"]).await;
    let ann = server.user("ann");
    assert_eq!(ann.post("coupons/STRICT/redeem", json!({})).await.rejected(409), "lock_required");
    lapsed_lock(&ann, "STRICT").await;
    assert_eq!(ann.post("coupons/STRICT/redeem", json!({})).await.rejected(410), "lock_expired");
    post(&ann, "coupons/STRICT/lock", json!({})).await;
    post(&ann, "coupons/STRICT/redeem", json!({})).await;
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn releasing_what_is_not_locked_is_success_and_no_event() {
    let server = with_codes(json!({}), &["FREE"]).await;
    for _ in 0..2 {
        let unlocked = post(&server.user("ann"), "coupons/FREE/unlock", json!({})).await;
        assert_eq!(unlocked["status"], "ASSIGNED");
    }
    assert_eq!(actions(&server, "FREE").await, ["ASSIGN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_may_release_anyone_s_lock_and_nobody_else_may() {
    let server = with_codes(json!({}), &["FORCED"]).await;
    post(&server.user("ann"), "coupons/FORCED/lock", json!({})).await;
    let force = json!({"force": true});
    for client in [server.user("ann"), server.user("bob"), server.service()] {
        assert_eq!(client.post("coupons/FORCED/unlock", force.clone()).await.rejected(403), "forbidden");
    }
    post(&server.admin(), "coupons/FORCED/unlock", force).await;
    assert_eq!(server.user("ann").get("coupons/FORCED").await.expect(200)["status"], "ASSIGNED");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ttl_is_the_call_s_or_the_book_s() {
    let server = with_codes(json!({"lockTtlSeconds": 1000}), &["TTL-1", "TTL-2"]).await;
    for (code, body, expected) in
        [("TTL-1", json!({}), 1_000), ("TTL-2", json!({"ttlSeconds": 86_400}), 86_400)]
    {
        let lock = post(&server.user("ann"), &format!("coupons/{code}/lock"), body).await;
        let at = |name: &str| {
            chrono::DateTime::parse_from_rfc3339(lock[name].as_str().expect("a time")).expect("RFC 3339")
        };
        assert_eq!((at("lockedUntil") - at("lockedAt")).num_seconds(), expected, "{lock}");
    }
}
