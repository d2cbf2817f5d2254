//! Coupons of an earlier version that users hold.

use cuponera_testkit::eventually;
use serde_json::{Value, json};

use super::{account, fact, installations, without_worker};
use crate::support::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn codes_given_before_are_locked_and_redeemed_after() {
    for (server, facts) in installations(without_worker()).await {
        let (ana, coupon) = (account(&server, &facts, "ana").await, |name: &str| {
            fact(&facts, &format!("/coupons/ana/{name}")).to_owned()
        });
        let held = ana.get("assignments/user/ana").await.expect(200);
        assert_eq!(held["data"].as_array().map(Vec::len), Some(7), "{held}");
        let redeem = json!({"lockId": fact(&facts, "/coupons/ana/lockId")});
        let redeemed = ana.post(&format!("coupons/{}/redeem", coupon("locked")), redeem).await.expect(200);
        assert_eq!(redeemed["redeemCount"], 1, "the lock of the earlier version is valid");
        let path = format!("coupons/{}/redeem", coupon("partlyUsed"));
        let counts =
            [ana.post(&path, json!({})).await.expect(200), ana.post(&path, json!({})).await.expect(200)];
        assert_eq!(counts.map(|use_of| use_of["redeemCount"].clone()), [2, 3]);
        for (name, verb, rejection) in [
            ("partlyUsed", "redeem", "coupon_already_redeemed"),
            ("redeemed", "lock", "coupon_already_redeemed"),
            ("in paused", "lock", "book_not_active"),
            ("in closed", "redeem", "book_not_active"),
            ("in expired", "redeem", "book_expired"),
        ] {
            let reply = ana.post(&format!("coupons/{}/{verb}", coupon(name)), json!({})).await;
            assert_eq!(reply.rejected(409), rejection, "{name}");
        }
        let others = fact(&facts, "/spelled/kai/assigned");
        assert_eq!(ana.get(&format!("coupons/{others}")).await.rejected(404), "not_found");
        let theirs = fact(&facts, "/otherBusiness/code");
        assert_eq!(server.service().get(&format!("coupons/{theirs}")).await.rejected(404), "not_found");
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_lapsed_while_nothing_ran_counts_as_none_and_is_tidied_up() {
    for (server, facts) in installations(Limits::default()).await {
        let path = format!("coupons/{}", fact(&facts, "/coupons/lapsed"));
        assert_eq!(server.service().get(&path).await.expect(200)["status"], "ASSIGNED");
        eventually("the expired lock to be ended", async || {
            let history = server.service().get(&format!("{path}/history")).await.expect(200);
            (history["data"][0]["action"] == "EXPIRE").then_some(())
        })
        .await;
        server.service().post(&format!("{path}/lock"), json!({"userId": "ana"})).await.expect(200);
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn void_revoked_and_long_redeemed_codes_are_as_they_were() {
    for (server, facts) in installations(without_worker()).await {
        let service = server.service();
        for code in codes(&facts, "void") {
            let reply = service.post(&format!("coupons/{code}/lock"), json!({"userId": "rex"})).await;
            assert_eq!(reply.rejected(409), "coupon_void", "{code}");
        }
        for code in codes(&facts, "revoked") {
            service.post(&format!("assignments/{code}"), json!({"userId": "eva"})).await.expect(201);
        }
        for code in [codes(&facts, "monthOld"), codes(&facts, "yearOld")].concat() {
            let history = service.get(&format!("coupons/{code}/history")).await.expect(200);
            let actions: Vec<_> =
                history["data"].as_array().into_iter().flatten().map(|event| &event["action"]).collect();
            assert_eq!(actions, ["REDEEM", "LOCK", "ASSIGN"], "{code}");
        }
        assert_books_count(&server, &facts).await;
        server.assert_invariants().await;
    }
}

fn codes(facts: &Value, name: &str) -> Vec<String> {
    let codes = facts["coupons"][name].as_array().unwrap_or_else(|| panic!("{name} is not in the dump"));
    codes.iter().map(|code| code.as_str().unwrap_or_default().to_owned()).collect()
}

/// The books have their statuses, and their counts add up to all codes of the business.
async fn assert_books_count(server: &Server, facts: &Value) {
    let mut all = 300; // The codes of the other business.
    for (name, status) in [
        ("summer", "ACTIVE"),
        ("checkout", "ACTIVE"),
        ("draft", "DRAFT"),
        ("paused", "PAUSED"),
        ("closed", "CLOSED"),
        ("expired", "ACTIVE"),
        ("empty", "DRAFT"),
    ] {
        let path = format!("coupon-books/{}", fact(facts, &format!("/books/{name}")));
        let book = server.admin().get(&path).await.expect(200);
        assert_eq!(
            (&book["status"], &book["isExpired"]),
            (&json!(status), &json!(name == "expired")),
            "{name}"
        );
        all += book["generatedCount"].as_i64().unwrap_or_default();
    }
    assert_eq!(facts["codes"], all);
}
