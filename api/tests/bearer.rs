//! BEARER books over HTTP: the user who presents a free code becomes its holder.

use cuponera_testkit::{Receiver, eventually};
use serde_json::{Value, json};

use crate::support::{Limits, Server, id_of};

/// A server without a worker, and an active BEARER book with these codes.
async fn with_codes(fields: Value, codes: &[&str]) -> (Server, String) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = bearer_book(&server, fields, codes).await;
    (server, book)
}

async fn bearer_book(server: &Server, mut fields: Value, codes: &[&str]) -> String {
    fields["codeKind"] = json!("BEARER");
    let book = server.book(fields).await;
    server.plant(&book, codes).await;
    book
}

/// Actions and users of a coupon's events, oldest first.
async fn history(server: &Server, code: &str) -> Vec<String> {
    let history = server.admin().get(&format!("coupons/{code}/history")).await.expect(200);
    let events = history["data"].as_array().expect("events").iter().rev();
    let word = |event: &Value, field: &str| event[field].as_str().unwrap_or("-").to_owned();
    events.map(|event| format!("{} {}", word(event, "action"), word(event, "userId"))).collect()
}

/// Invariant I-80.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_validates_locks_and_redeems_a_free_code_of_a_flyer() {
    let (server, book) = with_codes(json!({"maxCodesPerUser": 2}), &["FLY-1", "FLY-2", "FLY-3"]).await;
    let (ann, bob) = (server.user("ann"), server.user("bob"));
    let shown = ann.get("coupons/FLY-1").await.expect(200);
    assert_eq!(
        (&shown["kind"], &shown["status"], shown.get("userId")),
        (&json!("BEARER"), &json!("AVAILABLE"), None)
    );
    let validated = ann.post("coupons/FLY-1/validate", json!({})).await.expect(200);
    assert_eq!(validated["coupon"], shown);
    let lock = ann.post("coupons/FLY-1/lock", json!({})).await.expect(200);
    let unknown = bob.get("coupons/FLY-0").await;
    let hidden = bob.get("coupons/FLY-1").await;
    assert_eq!((hidden.status, &hidden.text), (404, &unknown.text), "a taken code is another user's");
    assert_eq!(bob.post("coupons/FLY-1/redeem", json!({})).await.rejected(404), "not_found");
    ann.post("coupons/FLY-1/redeem", json!({"lockId": lock["lockId"]})).await.expect(200);
    ann.post("coupons/FLY-2/redeem", json!({})).await.expect(200);
    for action in ["lock", "redeem", "validate"] {
        let reply = ann.post(&format!("coupons/FLY-3/{action}"), json!({})).await;
        assert_eq!(reply.rejected(409), "user_limit_reached", "{action}");
    }
    assert_eq!(history(&server, "FLY-1").await, ["ASSIGN ann", "LOCK ann", "REDEEM ann"]);
    assert_eq!(history(&server, "FLY-2").await, ["ASSIGN ann", "REDEEM ann"]);
    let held = ann.get("assignments/user/ann").await.expect(200);
    assert_eq!(held["data"].as_array().map(Vec::len), Some(2));
    let counts = &server.admin().get(&format!("coupon-books/{book}")).await.expect(200)["counts"];
    assert_eq!(*counts, json!({"available": 1, "assigned": 0, "locked": 0, "redeemed": 2, "void": 0}));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_caller_redeems_a_ticket_without_a_user() {
    let (server, _) = with_codes(json!({"maxRedeemsPerUser": 2}), &["TICKET-1", "TICKET-2"]).await;
    let service = server.service();
    service.post("coupons/TICKET-1/validate", json!({})).await.expect(200);
    for count in [1, 2] {
        let redeemed = service.post("coupons/ticket-1/redeem", json!({})).await.expect(200);
        assert_eq!(redeemed["redeemCount"], count);
    }
    assert_eq!(
        service.post("coupons/TICKET-1/redeem", json!({})).await.rejected(409),
        "coupon_already_redeemed"
    );
    assert_eq!(service.get("coupons/TICKET-1").await.expect(200)["userId"], "bearer:TICKET-1");
    let expected = ["ASSIGN bearer:TICKET-1", "REDEEM bearer:TICKET-1", "REDEEM bearer:TICKET-1"];
    assert_eq!(history(&server, "TICKET-1").await, expected);
    let redemptions = service.get("redemptions?userId=bearer:TICKET-1").await.expect(200);
    assert_eq!(redemptions["data"].as_array().map(Vec::len), Some(2));
    // A lock is for a user.
    let problem = service.post("coupons/TICKET-2/lock", json!({})).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "userId");
    service.post("coupons/TICKET-2/lock", json!({"userId": "ann"})).await.expect(200);
    assert_eq!(service.post("coupons/TICKET-2/redeem", json!({})).await.rejected(409), "coupon_locked");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_a_unique_book_needs_a_user_and_the_corrected_request_may_use_the_same_key() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["UNIQ-1"]).await;
    server.give("UNIQ-1", "ann").await;
    let service = server.service();
    let problem = service.post_with_key("coupons/UNIQ-1/redeem", "one", &json!({})).await.expect(422);
    assert_eq!((&problem["code"], &problem["errors"][0]["field"]), (&json!("invalid"), &json!("userId")));
    service.post_with_key("coupons/UNIQ-1/redeem", "one", &json!({"userId": "ann"})).await.expect(200);
    assert_eq!(service.get("coupons/UNIQ-1").await.expect(200)["kind"], "UNIQUE");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_a_book_with_codes_is_fixed_and_recorded() {
    let (server, book) = with_codes(json!({}), &["FIXED-1"]).await;
    let path = format!("coupon-books/{book}");
    let admin = server.admin();
    assert_eq!(admin.patch(&path, json!({"codeKind": "UNIQUE"})).await.rejected(409), "code_kind_fixed");
    let same = admin.patch(&path, json!({"codeKind": "BEARER", "name": "Flyers"})).await.expect(200);
    assert_eq!((&same["codeKind"], &same["name"]), (&json!("BEARER"), &json!("Flyers")));
    let clone = admin.post(&format!("{path}/clone"), json!({})).await.expect(201);
    assert_eq!(clone["codeKind"], "BEARER");
    let empty = format!("coupon-books/{}", id_of(&clone));
    assert_eq!(admin.patch(&empty, json!({"codeKind": "UNIQUE"})).await.expect(200)["codeKind"], "UNIQUE");
    let events = admin.get(&format!("events?kind=ADMIN&subjectId={}", id_of(&clone))).await.expect(200);
    let change = events["data"].as_array().expect("events").iter().find(|event| event["action"] == "UPDATE");
    let change = change.expect("the change is recorded");
    assert_eq!(
        (&change["before"]["codeKind"], &change["after"]["codeKind"]),
        (&json!("BEARER"), &json!("UNIQUE"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_the_assignment_before_the_redemption() {
    let limits = Limits { webhook_networks: vec!["127.0.0.0/8"], ..Limits::default() };
    let server = Server::start_with(limits).await;
    let receiver = Receiver::healthy().await;
    let webhook =
        json!({"url": receiver.url(), "eventTypes": ["coupon.assigned", "coupon.locked", "coupon.redeemed"]});
    server.admin().post("webhooks", webhook).await.expect(201);
    bearer_book(&server, json!({}), &["HOOK-1", "HOOK-2"]).await;
    server.user("ann").post("coupons/HOOK-1/redeem", json!({})).await.expect(200);
    let received = eventually("both deliveries", async || {
        let received = receiver.received();
        (received.len() >= 2).then_some(received)
    })
    .await;
    let bodies: Vec<Value> = received.iter().map(|request| request.json()).collect();
    let types: Vec<&Value> = bodies.iter().map(|body| &body["type"]).collect();
    assert_eq!(types, [&json!("coupon.assigned"), &json!("coupon.redeemed")]);
    assert_eq!(
        (&bodies[0]["data"]["userId"], &bodies[0]["data"]["actor"]),
        (&json!("ann"), &json!("user:ann"))
    );
    assert_eq!(bodies[0]["data"]["at"], bodies[1]["data"]["at"]);
    server.assert_invariants().await;
}
