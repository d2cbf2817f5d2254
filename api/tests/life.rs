//! The life of a coupon: assignment, locks, redemptions, history.

mod identifiers;
mod locks;
mod others;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Limits, Reply, Server};

/// A server without a worker, so no sweep ends locks, and an active book with these codes, all held by `ann`.
async fn with_codes(fields: Value, codes: &[&str]) -> Server {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(fields).await;
    server.plant(&book, codes).await;
    for code in codes {
        server.give(code, "ann").await;
    }
    server
}

/// The actions in a coupon's history, newest first.
async fn actions(server: &Server, code: &str) -> Vec<String> {
    let history = server.admin().get(&format!("coupons/{code}/history")).await.expect(200);
    let events = history["data"].as_array().expect("events").iter();
    events.map(|event| event["action"].as_str().expect("an action").to_owned()).collect()
}

async fn post(client: &Client, path: &str, body: Value) -> Value {
    client.post(path, body).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_is_assigned_locked_renewed_unlocked_and_redeemed_and_its_history_tells_who_when_and_from_where()
 {
    let server = with_codes(json!({"lockTtlSeconds": 60}), &["LIFE"]).await;
    let ann = server.user("ann");
    let lock = post(&ann, "coupons/LIFE/lock", json!({})).await;
    let renewed = post(&ann, "coupons/LIFE/lock", json!({"ttlSeconds": 600})).await;
    assert_eq!(lock["lockId"], renewed["lockId"], "a renewed lock keeps its id");
    assert_eq!(lock["lockedAt"], renewed["lockedAt"]);
    assert!(lock["lockedUntil"].as_str() < renewed["lockedUntil"].as_str(), "{lock} {renewed}");
    let unlocked = post(&ann, "coupons/LIFE/unlock", json!({"lockId": lock["lockId"]})).await;
    assert_eq!(unlocked, json!({"code": "LIFE", "status": "ASSIGNED"}));
    let request = ann.request(Method::POST, "coupons/life/redeem").header("X-Request-Id", "till-7");
    let request = request.header("User-Agent", "a till").json(&json!({"reference": "sale 12"}));
    let redeemed = Reply::to(request).await.expect(200);
    assert_eq!((&redeemed["status"], &redeemed["isFinalRedeem"]), (&json!("REDEEMED"), &json!(true)));
    let history = server.service().get("coupons/LIFE/history").await.expect(200);
    let steps: Vec<_> = history["data"].as_array().expect("events").iter().map(step_of).collect();
    let expected = [
        "REDEEM ASSIGNED REDEEMED user:ann",
        "UNLOCK LOCKED ASSIGNED user:ann",
        "LOCK LOCKED LOCKED user:ann",
        "LOCK ASSIGNED LOCKED user:ann",
    ];
    assert_eq!(steps[..4], expected);
    assert!(steps[4].starts_with("ASSIGN AVAILABLE ASSIGNED admin:"), "{steps:?}");
    let last = &history["data"][0];
    let told = ["userId", "ip", "userAgent", "requestId", "redeemCount", "at"].map(|field| &last[field]);
    let expected = [
        json!("ann"),
        json!("127.0.0.1"),
        json!("a till"),
        json!("till-7"),
        json!(1),
        redeemed["redeemedAt"].clone(),
    ];
    assert_eq!(told, expected.each_ref());
    server.assert_invariants().await;
}

fn step_of(event: &Value) -> String {
    ["action", "fromStatus", "toStatus", "actor"].map(|field| event[field].as_str().unwrap_or("-")).join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_read_page_by_page_newest_first() {
    let server = with_codes(json!({"maxRedeemsPerUser": 5}), &["PAGES"]).await;
    for _ in 0..5 {
        post(&server.user("ann"), "coupons/PAGES/redeem", json!({})).await;
    }
    let (mut counts, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server.admin().get(&format!("coupons/PAGES/history?limit=2{cursor}")).await.expect(200);
        counts.extend(
            page["data"].as_array().expect("events").iter().map(|event| event["redeemCount"].as_i64()),
        );
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(counts, [Some(5), Some(4), Some(3), Some(2), Some(1), None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_several_uses_is_final_after_the_last_and_every_use_ends_its_lock() {
    let server = with_codes(json!({"maxRedeemsPerUser": 3}), &["THRICE"]).await;
    let ann = server.user("ann");
    for (count, status, is_final) in [(1, "ASSIGNED", false), (2, "ASSIGNED", false), (3, "REDEEMED", true)] {
        let lock = post(&ann, "coupons/THRICE/lock", json!({})).await;
        let used = post(&ann, "coupons/THRICE/redeem", json!({"lockId": lock["lockId"]})).await;
        let told = ["redeemCount", "maxRedeems", "status", "isFinalRedeem"].map(|field| &used[field]);
        assert_eq!(told, [json!(count), json!(3), json!(status), json!(is_final)].each_ref());
        let coupon = ann.get("coupons/THRICE").await.expect(200);
        assert_eq!((&coupon["status"], coupon.get("lockedUntil")), (&json!(status), None));
    }
    for path in ["redeem", "validate", "lock"] {
        let reply = ann.post(&format!("coupons/THRICE/{path}"), json!({})).await;
        assert_eq!(reply.rejected(409), "coupon_already_redeemed");
    }
    server.assert_invariants().await;
}

/// Invariant I-74.
#[tokio::test(flavor = "multi_thread")]
async fn a_redemption_with_a_known_reference_is_returned_and_not_made_again() {
    let server = with_codes(json!({"maxRedeemsPerUser": 3}), &["ORDERED"]).await;
    let ann = server.user("ann");
    let redeem =
        async |reference: &str| post(&ann, "coupons/ORDERED/redeem", json!({"reference": reference})).await;
    let first = redeem("order 1").await;
    assert_eq!((&first["replayed"], &first["redeemCount"]), (&json!(false), &json!(1)));
    // An empty reference is none.
    assert_eq!(redeem(" ").await["redeemCount"], 2);
    let mut expected = first.clone();
    expected["replayed"] = json!(true);
    assert_eq!(redeem("order 1").await, expected);
    assert_eq!(redeem("order 2").await["status"], "REDEEMED");
    assert_eq!(redeem("order 1").await, expected, "all uses are made");
    assert_eq!(ann.get("coupons/ORDERED").await.expect(200)["redeemCount"], 3);
    let id = first["redemptionId"].as_str().expect("an id");
    let reason = json!({"reason": "returned"});
    server.service().post(&format!("redemptions/{id}/rollback"), reason).await.expect(200);
    let body = json!({"reference": "order 1"});
    assert_eq!(ann.post("coupons/ORDERED/redeem", body).await.rejected(409), "already_rolled_back");
    let by_another = json!({"reference": "order 1", "userId": "eva"});
    let rejected = server.service().post("coupons/ORDERED/redeem", by_another.clone()).await.rejected(409);
    assert_eq!(rejected, "reference_used");
    let eva = server.user("eva").post("coupons/ORDERED/redeem", by_another).await;
    assert_eq!(eva.rejected(404), "not_found");
    server.assert_invariants().await;
}

/// Invariant I-75.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_recipient_key_returns_its_code() {
    let server = with_codes(json!({}), &["HELD"]).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["R-1", "R-2"]).await;
    let service = server.service();
    let ask = |user: &str, key: &str| json!({"couponBookId": book, "userId": user, "recipientKey": key});
    let first = service.post("assignments/random", ask("ann", "mail 1")).await.expect(201);
    assert_eq!(service.post("assignments/random", ask("ann", "mail 1")).await.expect(200), first);
    service.post("assignments/random", ask("ann", "mail 2")).await.expect(201);
    let code = first["code"].as_str().expect("a code");
    service.post(&format!("coupons/{code}/redeem"), json!({"userId": "ann"})).await.expect(200);
    let again = service.post("assignments/random", ask("ann", "mail 1")).await.expect(200);
    assert_eq!((&again["code"], &again["status"]), (&first["code"], &json!("REDEEMED")));
    let other = service.post("assignments/random", ask("eva", "mail 1")).await;
    assert_eq!(other.rejected(409), "recipient_key_used");
    for key in ["", "  ", &"x".repeat(201)] {
        let reply = service.post("assignments/random", ask("ann", key)).await;
        assert_eq!(reply.json()["errors"][0]["field"], "recipientKey", "{key:?}");
        assert_eq!(reply.rejected(422), "invalid");
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_refuses_as_redeem_would_and_changes_nothing() {
    let server = with_codes(json!({"requireLock": true}), &["ASKED"]).await;
    let ann = server.user("ann");
    assert_eq!(ann.post("coupons/ASKED/validate", json!({})).await.rejected(409), "lock_required");
    let lock = post(&ann, "coupons/ASKED/lock", json!({})).await;
    let before = (ann.get("coupons/ASKED").await.text, actions(&server, "ASKED").await);
    for body in [json!({}), json!({"lockId": lock["lockId"]})] {
        let answer = post(&ann, "coupons/ASKED/validate", body).await;
        assert_eq!((&answer["valid"], &answer["coupon"]["status"]), (&json!(true), &json!("LOCKED")));
    }
    assert_eq!((ann.get("coupons/ASKED").await.text, actions(&server, "ASKED").await), before);
    post(&ann, "coupons/ASKED/redeem", json!({})).await;
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_redemption_under_its_key_is_the_same_use_and_without_one_is_refused() {
    let server = with_codes(json!({}), &["ONCE"]).await;
    let ann = server.user("ann");
    let first = ann.post_with_key("coupons/ONCE/redeem", "sale 7", &json!({})).await;
    let again = ann.post_with_key("coupons/ONCE/redeem", "sale 7", &json!({})).await;
    assert_eq!((first.status, again.status, &first.text), (200, 200, &again.text));
    assert_eq!((first.header("Idempotent-Replayed"), again.header("Idempotent-Replayed")), ("", "true"));
    // Keys belong to a caller: the same text of another caller is another key.
    let service =
        server.service().post_with_key("coupons/ONCE/redeem", "sale 7", &json!({"userId": "ann"})).await;
    assert_eq!(service.rejected(409), "coupon_already_redeemed");
    // A rejection is stored too.
    let rejected = ann.post_with_key("coupons/ONCE/redeem", "sale 8", &json!({})).await;
    assert_eq!(rejected.header("Idempotent-Replayed"), "");
    assert_eq!(rejected.rejected(409), "coupon_already_redeemed");
    let again = ann.post_with_key("coupons/ONCE/redeem", "sale 8", &json!({})).await;
    assert_eq!(again.header("Idempotent-Replayed"), "true");
    assert_eq!(again.rejected(409), "coupon_already_redeemed");
    // A rejection that a later version stored, with a code that this version does not know.
    let later =
        json!({"Err": {"code": "budget_exhausted", "class": "gone", "detail": "the budget is spent"}});
    sqlx::query(
        "update request_key set answer = $1 where answer -> 'Err' ->> 'code' = 'coupon_already_redeemed'",
    )
    .bind(later)
    .execute(server.database.pool())
    .await
    .unwrap();
    // Sent without the check against the OpenAPI document, which lacks the code.
    let again = ann.request(Method::POST, "coupons/ONCE/redeem").header("Idempotency-Key", "sale 8");
    let again = again.json(&json!({})).send().await.unwrap();
    let (status, problem) = (again.status().as_u16(), again.json::<Value>().await.unwrap());
    assert_eq!(
        (status, &problem["code"], &problem["detail"]),
        (410, &json!("budget_exhausted"), &json!("the budget is spent"))
    );
    let rejected = ann.post_with_key("coupons/ONCE/redeem", "sale 8", &json!({"reference": "x"})).await;
    assert_eq!(rejected.rejected(422), "key_reused");
    server.assert_invariants().await;
}
