//! Answers to callers that do not hold the coupon, and assignment by name.

use serde_json::json;

use super::{post, with_codes};
use crate::support::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn another_s_coupon_does_not_exist_for_a_user_whatever_its_state() {
    let server = with_codes(json!({}), &["HELD", "LOCKED", "USED"]).await;
    post(&server.user("ann"), "coupons/LOCKED/lock", json!({})).await;
    post(&server.user("ann"), "coupons/USED/redeem", json!({})).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["FREE"]).await;
    let bob = server.user("bob");
    for path in ["lock", "unlock", "redeem", "validate"] {
        let unknown = bob.post(&format!("coupons/UNKNOWN/{path}"), json!({})).await;
        for code in ["HELD", "LOCKED", "USED", "FREE"] {
            let theirs = bob.post(&format!("coupons/{code}/{path}"), json!({})).await;
            assert_eq!((theirs.status, &theirs.text), (404, &unknown.text), "{path} {code}");
        }
    }
    let unknown = bob.get("coupons/UNKNOWN").await;
    for code in ["HELD", "LOCKED", "USED", "FREE"] {
        let theirs = bob.get(&format!("coupons/{code}")).await;
        assert_eq!((theirs.status, &theirs.text), (404, &unknown.text), "{code}");
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_caller_is_told_who_stands_in_the_way() {
    let server = with_codes(json!({}), &["THEIRS"]).await;
    let (service, bob) = (server.service(), json!({"userId": "bob"}));
    for path in ["lock", "unlock", "redeem", "validate"] {
        let reply = service.post(&format!("coupons/THEIRS/{path}"), bob.clone()).await;
        assert_eq!(reply.rejected(409), "not_holder", "{path}");
    }
    let lock = post(&service, "coupons/THEIRS/lock", json!({"userId": "ann"})).await;
    for path in ["lock", "unlock", "redeem", "validate"] {
        let problem = service.post(&format!("coupons/THEIRS/{path}"), bob.clone()).await.expect(409);
        assert_eq!(problem["code"], "coupon_locked", "{path}");
        let [told, until] = [&problem["lockedUntil"], &lock["lockedUntil"]].map(|time| {
            chrono::DateTime::parse_from_rfc3339(time.as_str().expect("a time")).expect("RFC 3339")
        });
        assert_eq!(told, until, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_nobody_holds_is_not_assigned() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["NOBODYS"]).await;
    for path in ["lock", "unlock", "redeem", "validate"] {
        let reply = server.service().post(&format!("coupons/NOBODYS/{path}"), json!({"userId": "ann"})).await;
        assert_eq!(reply.rejected(409), "not_assigned", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_caller_must_say_for_whom_and_a_user_may_only_say_itself() {
    let server = with_codes(json!({}), &["WHOSE"]).await;
    for path in ["lock", "unlock", "validate", "redeem"] {
        let path = format!("coupons/WHOSE/{path}");
        let problem = server.service().post(&path, json!({})).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], "userId", "{path}");
        assert_eq!(server.user("bob").post(&path, json!({"userId": "ann"})).await.rejected(403), "forbidden");
        server.user("ann").post(&path, json!({"userId": "ann"})).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_code_is_given_once_again_to_the_same_holder_and_to_nobody_else() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({"maxCodesPerUser": 1})).await;
    server.plant(&book, &["NAMED", "SECOND"]).await;
    let (service, ann) = (server.service(), json!({"userId": "ann"}));
    let first = service.post("assignments/named", ann.clone()).await.expect(201);
    let again = service.post("assignments/NAMED", ann.clone()).await.expect(200);
    assert_eq!(first, again);
    assert_eq!((&first["couponBookId"], &first["status"]), (&json!(book), &json!("ASSIGNED")));
    let bob = service.post("assignments/NAMED", json!({"userId": "bob"})).await;
    assert_eq!(bob.rejected(409), "already_assigned");
    assert_eq!(service.post("assignments/SECOND", ann.clone()).await.rejected(409), "user_limit_reached");
    assert_eq!(service.post("assignments/UNKNOWN", ann).await.rejected(404), "not_found");
    let held = service.get("assignments/user/ann").await.expect(200);
    assert_eq!(held["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&held["data"][0]["id"], &held["data"][0]["assignedAt"]),
        (&first["id"], &first["assignedAt"])
    );
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_s_coupons_are_listed_in_the_order_they_were_given_by_book_and_by_status() {
    let server = with_codes(json!({}), &["LIST-3", "LIST-1", "LIST-2"]).await;
    let other = server.book(json!({})).await;
    server.plant(&other, &["OTHER"]).await;
    server.give("OTHER", "ann").await;
    post(&server.user("ann"), "coupons/LIST-1/redeem", json!({})).await;
    let codes = async |query: &str| {
        let list = server.user("ann").get(&format!("assignments/user/ann{query}")).await.expect(200);
        let codes = list["data"].as_array().expect("coupons").iter().map(|coupon| coupon["code"].to_string());
        (codes.collect::<Vec<_>>().join(" ").replace('"', ""), list["nextCursor"].as_str().map(str::to_owned))
    };
    assert_eq!(codes("").await.0, "LIST-3 LIST-1 LIST-2 OTHER");
    assert_eq!(codes("?status=REDEEMED").await.0, "LIST-1");
    assert_eq!(codes(&format!("?couponBookId={other}")).await.0, "OTHER");
    let (first, next) = codes("?limit=3").await;
    assert_eq!(first, "LIST-3 LIST-1 LIST-2");
    assert_eq!(
        codes(&format!("?limit=3&cursor={}", next.expect("a cursor"))).await,
        ("OTHER".to_owned(), None)
    );
}
