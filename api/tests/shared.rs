//! SHARED books over HTTP: many users use one code.

use cuponera_testkit::{Receiver, eventually};
use serde_json::{Value, json};

use crate::support::{Limits, Server, id_of, wait_for_job};

/// A server without a worker, and an active SHARED book.
async fn with_book(fields: Value) -> (Server, String) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = shared_book(&server, fields).await;
    (server, book)
}

async fn shared_book(server: &Server, mut fields: Value) -> String {
    fields["codeKind"] = json!("SHARED");
    server.book(fields).await
}

async fn create(server: &Server, book: &str, code: &str, mut limits: Value) -> Value {
    limits["couponBookId"] = json!(book);
    limits["code"] = json!(code);
    server.service().post("coupon-codes", limits).await.expect(201)
}

/// Invariant I-87.
#[tokio::test(flavor = "multi_thread")]
async fn users_see_validate_lock_and_redeem_a_code_within_its_limits() {
    let (server, book) = with_book(json!({})).await;
    let made = create(&server, &book, "summer", json!({"maxRedemptions": 2, "metadata": {"channel": "radio"}})).await;
    assert_eq!((&made["code"], &made["kind"], &made["maxRedemptions"]), (&json!("SUMMER"), &json!("SHARED"), &json!(2)));
    let (ann, bob) = (server.user("ann"), server.user("bob"));
    let shown = ann.get("coupons/SUMMER").await.expect(200);
    assert_eq!((&shown["status"], &shown["lockedCount"], shown.get("metadata")), (&json!("AVAILABLE"), &json!(0), None));
    assert_eq!((shown.get("maxRedeems"), &shown["maxRedeemsPerUser"]), (None, &json!(1)));
    ann.post("coupons/SUMMER/validate", json!({})).await.expect(200);
    let lock = ann.post("coupons/SUMMER/lock", json!({})).await.expect(200);
    let mine = ann.get("coupons/SUMMER?userId=ann").await.expect(200);
    assert_eq!(
        (&mine["user"]["redeemCount"], &mine["user"]["maxRedeems"], &mine["user"]["lockedUntil"], &mine["lockedCount"]),
        (&json!(0), &json!(1), &lock["lockedUntil"], &json!(1))
    );
    let redeemed = bob.post("coupons/SUMMER/redeem", json!({})).await.expect(200);
    assert_eq!(
        (&redeemed["status"], &redeemed["redeemCount"], &redeemed["maxRedeems"], &redeemed["isFinalRedeem"]),
        (&json!("AVAILABLE"), &json!(1), &json!(2), &json!(false))
    );
    let again = bob.post("coupons/SUMMER/redeem", json!({})).await.expect(409);
    assert_eq!((&again["code"], &again["limit"]), (&json!("redeem_limit_reached"), &json!(1)));
    let held = server.user("cem").post("coupons/SUMMER/validate", json!({})).await.expect(409);
    assert_eq!((&held["code"], &held["lockedUntil"]), (&json!("coupon_locked"), &lock["lockedUntil"]));
    let last = ann.post("coupons/SUMMER/redeem", json!({"lockId": lock["lockId"]})).await.expect(200);
    assert_eq!((&last["status"], &last["isFinalRedeem"]), (&json!("REDEEMED"), &json!(true)));
    let used = server.user("cem").post("coupons/SUMMER/lock", json!({})).await;
    assert_eq!(used.rejected(409), "coupon_already_redeemed");
    let listed = ann.get("assignments/user/ann").await.expect(200);
    assert_eq!((&listed["data"][0]["code"], &listed["data"][0]["user"]["redeemCount"]), (&json!("SUMMER"), &json!(1)));
    assert_eq!(server.user("cem").get("assignments/user/cem").await.expect(200)["data"], json!([]));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_caller_names_the_user_releases_locks_and_rolls_back() {
    let (server, book) = with_book(json!({"maxRedeemsPerUser": 2})).await;
    create(&server, &book, "SUMMER", json!({})).await;
    let (service, admin) = (server.service(), server.admin());
    let problem = service.post("coupons/SUMMER/redeem", json!({})).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "userId");
    let lock = service.post("coupons/SUMMER/lock", json!({"userId": "ann", "ttlSeconds": 60})).await.expect(200);
    let forced = admin.post("coupons/SUMMER/unlock", json!({"force": true})).await.expect(422);
    assert_eq!(forced["errors"][0]["field"], "lockId");
    let forced = json!({"force": true, "lockId": lock["lockId"]});
    assert_eq!(admin.post("coupons/SUMMER/unlock", forced).await.expect(200)["status"], "AVAILABLE");
    let body = json!({"userId": "ann", "reference": "sale 1"});
    let redeemed = service.post("coupons/SUMMER/redeem", body.clone()).await.expect(200);
    assert_eq!(redeemed.get("maxRedeems"), None, "there is no limit in total");
    let replayed = service.post("coupons/SUMMER/redeem", body).await.expect(200);
    assert_eq!((&replayed["replayed"], &replayed["redemptionId"]), (&json!(true), &redeemed["redemptionId"]));
    let path = format!("redemptions/{}/rollback", redeemed["redemptionId"].as_str().expect("an id"));
    let undone = service.post(&path, json!({"reason": "returned"})).await.expect(200);
    assert_eq!((&undone["status"], &undone["redeemCount"]), (&json!("AVAILABLE"), &json!(0)));
    assert_eq!(service.post(&path, json!({"reason": "returned"})).await.rejected(409), "already_rolled_back");
    let history = admin.get("coupons/SUMMER/history").await.expect(200);
    let actions: Vec<_> = history["data"].as_array().expect("events").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["ROLLBACK", "REDEEM", "UNLOCK", "LOCK"]);
    server.assert_invariants().await;
}

/// Invariants I-88 and I-89.
#[tokio::test(flavor = "multi_thread")]
async fn limits_are_changed_codes_are_suspended_and_nothing_is_assigned() {
    let (server, book) = with_book(json!({})).await;
    create(&server, &book, "SUMMER", json!({"maxRedemptions": 3})).await;
    let (service, admin) = (server.service(), server.admin());
    for user in ["ann", "bob"] {
        service.post("coupons/SUMMER/redeem", json!({"userId": user})).await.expect(200);
    }
    let low = admin.patch("coupons/SUMMER", json!({"maxRedemptions": 1})).await.expect(422);
    assert_eq!(low["errors"][0]["field"], "maxRedemptions");
    assert!(low["errors"][0]["message"].as_str().is_some_and(|text| text.contains("at least 2")), "{low}");
    let changed = admin.patch("coupons/summer", json!({"maxRedemptions": 2})).await.expect(200);
    assert_eq!((&changed["status"], &changed["maxRedemptions"]), (&json!("REDEEMED"), &json!(2)));
    let changed = admin.patch("coupons/SUMMER", json!({"maxRedemptions": null, "suspended": true})).await.expect(200);
    assert_eq!(
        (&changed["status"], changed.get("maxRedemptions"), &changed["suspended"]),
        (&json!("AVAILABLE"), None, &json!(true))
    );
    assert_eq!(service.post("coupons/SUMMER/redeem", json!({"userId": "cem"})).await.rejected(409), "coupon_suspended");
    let events = admin.get("events?kind=ADMIN&subject=COUPON").await.expect(200);
    let actions: Vec<_> = events["data"].as_array().expect("events").iter().map(|event| &event["action"]).collect();
    assert_eq!(actions, ["UPDATE", "UPDATE", "CREATE"]);
    assert_eq!(service.post("assignments/SUMMER", json!({"userId": "ann"})).await.rejected(409), "not_assignable");
    let random = json!({"couponBookId": book, "userId": "ann"});
    assert_eq!(service.post("assignments/random", random).await.rejected(409), "not_assignable");
    let pool = id_of(&admin.post("user-pools", json!({"name": "All"})).await.expect(201));
    let order = json!({"couponBookId": book, "mode": "EQUAL", "codesPerUser": 1});
    let distributed = admin.post(&format!("user-pools/{pool}/distributions"), order).await;
    assert_eq!(distributed.rejected(409), "not_assignable");
    assert_eq!(admin.patch("coupons/SUMMER", json!({"suspended": null})).await.status, 422);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_is_created_once_and_only_in_a_shared_book() {
    let (server, book) = with_book(json!({})).await;
    create(&server, &book, "SUMMER", json!({})).await;
    let service = server.service();
    let new = json!({"couponBookId": book, "code": "SUMMER"});
    assert_eq!(service.post("coupon-codes", new).await.rejected(409), "code_exists");
    let unique = server.book(json!({})).await;
    let problem = service.post("coupon-codes", json!({"couponBookId": unique, "code": "OTHER"})).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "couponBookId");
    let wrong = json!({
        "couponBookId": book, "code": "no!", "maxRedemptions": 0, "startsAt": "2027-01-01T00:00:00Z", "expiresAt": "2026-12-31T00:00:00Z",
    });
    let problem = service.post("coupon-codes", wrong).await.expect(422);
    let fields: Vec<_> = problem["errors"].as_array().expect("faults").iter().map(|fault| &fault["field"]).collect();
    assert!(["code", "maxRedemptions", "expiresAt"].iter().all(|field| fields.contains(&&json!(field))), "{problem}");
    assert_eq!(server.user("ann").post("coupon-codes", json!({})).await.rejected(403), "forbidden");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_and_imported_codes_have_their_limits() {
    let server = Server::start().await;
    let book = shared_book(&server, json!({})).await;
    let admin = server.admin();
    let order = json!({"couponBookId": book, "quantity": 3, "pattern": "GEN-{XXXXXX}", "maxRedemptions": 7});
    let job = id_of(&admin.post("coupon-codes/generate", order.clone()).await.expect(202));
    let job = wait_for_job(&admin, &job).await;
    let first = job["result"]["firstCode"].as_str().expect("a code");
    let shown = admin.get(&format!("coupons/{first}")).await.expect(200);
    assert_eq!((&shown["maxRedemptions"], &shown["maxRedeemsPerUser"]), (&json!(7), &json!(1)));
    let mut other = order;
    other["couponBookId"] = json!(server.book(json!({})).await);
    let problem = admin.post("coupon-codes/generate", other).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "maxRedemptions");
    let rows = "code,userId,MaxRedemptions,maxRedeemsPerUser,expiresAt,channel\n\
                IMP-1,,5,2,2099-01-01T00:00:00Z,radio\nIMP-2,,,,,\nIMP-3,,none,,,\nIMP-4,ann,,,,\n";
    let job = id_of(&server.upload(&book, rows).await.expect(202));
    let job = wait_for_job(&admin, &job).await;
    assert_eq!((&job["result"]["uploadedCount"], &job["result"]["invalidRowsCount"]), (&json!(2), &json!(2)), "{job}");
    let shown = admin.get("coupons/IMP-1").await.expect(200);
    assert_eq!(
        (&shown["maxRedemptions"], &shown["maxRedeemsPerUser"], &shown["metadata"]),
        (&json!(5), &json!(2), &json!({"channel": "radio"}))
    );
    let errors = admin.get(&format!("jobs/{}/errors", id_of(&job))).await.text;
    assert!(errors.contains("bad_limit") && errors.contains("not_assignable"), "{errors}");
    for user in ["ann", "bob"] {
        server.user(user).post("coupons/IMP-2/redeem", json!({})).await.expect(200);
    }
    let exported = admin.get(&format!("coupon-codes/book/{book}/export")).await.text;
    let line = exported.lines().find(|line| line.starts_with("IMP-1,")).expect("the code is exported");
    assert!(line.ends_with(",5,2,"), "{line}");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_each_redemption_with_its_id_and_no_change_of_limits() {
    let limits = Limits { webhook_networks: vec!["127.0.0.0/8"], ..Limits::default() };
    let server = Server::start_with(limits).await;
    let receiver = Receiver::healthy().await;
    server.admin().post("webhooks", json!({"url": receiver.url(), "eventTypes": ["*"]})).await.expect(201);
    let book = shared_book(&server, json!({})).await;
    create(&server, &book, "SUMMER", json!({"maxRedemptions": 9})).await;
    server.admin().patch("coupons/SUMMER", json!({"maxRedemptions": 8})).await.expect(200);
    let redeemed = futures::future::join_all((0..5).map(async |user| {
        let reply = server.service().post("coupons/SUMMER/redeem", json!({"userId": format!("user-{user}")})).await;
        reply.expect(200)["redemptionId"].clone()
    }))
    .await;
    let received = eventually("all deliveries", async || {
        let received = receiver.received();
        let bodies: Vec<Value> = received.iter().map(|request| request.json()).collect();
        let of_codes: Vec<Value> =
            bodies.into_iter().filter(|body| body["type"] == "coupon.redeemed").collect();
        (of_codes.len() >= 5).then_some(of_codes)
    })
    .await;
    let mut expected: Vec<String> = redeemed.iter().map(ToString::to_string).collect();
    let mut told: Vec<String> = received.iter().map(|body| body["data"]["redemptionId"].to_string()).collect();
    expected.sort();
    told.sort();
    assert_eq!(told, expected);
    let types: Vec<Value> = receiver.received().iter().map(|request| request.json()["type"].clone()).collect();
    assert!(types.iter().all(|kind| kind == "coupon.redeemed" || kind.as_str().is_some_and(|kind| kind.starts_with("book."))), "{types:?}");
    server.assert_invariants().await;
}
