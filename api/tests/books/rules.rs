//! The operations that a book allows, by status and by time.

use serde_json::{Value, json};

use crate::support::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn a_book_takes_only_the_steps_that_are_drawn() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let ways: [(&str, &[&str]); 4] =
        [("DRAFT", &[]), ("ACTIVE", &["ACTIVE"]), ("PAUSED", &["ACTIVE", "PAUSED"]), ("CLOSED", &["CLOSED"])];
    let drawn =
        ["DRAFT ACTIVE", "ACTIVE PAUSED", "PAUSED ACTIVE", "DRAFT CLOSED", "ACTIVE CLOSED", "PAUSED CLOSED"];
    for (from, way) in ways {
        for to in ["DRAFT", "ACTIVE", "PAUSED", "CLOSED"] {
            let path = format!("coupon-books/{}", server.draft(json!({})).await);
            for step in way {
                server.admin().patch(&path, json!({"status": step})).await.expect(200);
            }
            let reply = server.admin().patch(&path, json!({"status": to})).await;
            if from == to || drawn.contains(&format!("{from} {to}").as_str()) {
                assert_eq!(reply.expect(200)["status"], to);
            } else {
                assert_eq!(reply.rejected(409), "invalid_transition", "{from} to {to}");
                assert_eq!(server.admin().get(&path).await.expect(200)["status"], from);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_whose_time_is_over_is_not_made_but_a_book_may_be_ended_by_its_time() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let past = json!({"name": "Too late", "expiresAt": "2020-01-01T00:00:00Z"});
    for _ in 0..2 {
        let rejected = server.service().post_with_key("coupon-books", "late", &past).await.expect(422);
        assert_eq!(rejected["errors"], json!([{"field": "expiresAt", "message": "must be in the future"}]));
    }
    assert_eq!(server.admin().get("coupon-books").await.expect(200)["total"], 0, "a book was created");
    let soon = json!({"name": "In time", "expiresAt": chrono::Utc::now() + chrono::TimeDelta::hours(1)});
    let made = server.service().post_with_key("coupon-books", "in time", &soon).await.expect(201);
    let path = format!("coupon-books/{}", made["id"].as_str().unwrap_or_default());
    let ended = server.service().patch(&path, json!({"expiresAt": past["expiresAt"]})).await.expect(200);
    assert_eq!(ended["isExpired"], true);
    // The stored answer is from before the end of the book.
    let again = server.service().post_with_key("coupon-books", "in time", &soon).await.expect(201);
    assert_eq!(again, made);
}

/// The outcomes of a random assignment and of lock, redeem and validate by `ann`, who holds `code`.
async fn refusals(server: &Server, book: &str, code: &str) -> Vec<String> {
    let ann = server.user("ann");
    let random = ann.post("assignments/random", json!({"couponBookId": book})).await;
    let mut refusals = vec![random.outcome()];
    for action in ["lock", "redeem", "validate"] {
        refusals.push(ann.post(&format!("coupons/{code}/{action}"), json!({})).await.outcome());
    }
    refusals
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_that_is_not_active_not_started_or_over_gives_locks_and_redeems_nothing() {
    let server = Server::start().await;
    let cases: [(&str, Value, &str); 4] = [
        ("PAUSED", json!({"status": "PAUSED"}), "409 book_not_active"),
        ("CLOSED", json!({"status": "CLOSED"}), "409 book_not_active"),
        ("EARLY", json!({"startsAt": "2999-01-01T00:00:00Z"}), "409 book_not_started"),
        ("LATE", json!({"expiresAt": "2001-01-01T00:00:00Z"}), "409 book_expired"),
    ];
    for (code, change, rejection) in cases {
        let book = server.book(json!({})).await;
        server.plant(&book, &[code, &format!("{code}-2")]).await;
        server.give(code, "ann").await;
        let changed = server.admin().patch(&format!("coupon-books/{book}"), change).await.expect(200);
        assert_eq!((&changed["isActive"], &changed["isExpired"]), (&json!(false), &json!(code == "LATE")));
        assert_eq!(refusals(&server, &book, code).await, [rejection; 4], "{code}");
        let named = server.service().post(&format!("assignments/{code}-2"), json!({"userId": "ann"})).await;
        assert_eq!(named.outcome(), rejection);
        assert_eq!(server.admin().get(&format!("coupons/{code}")).await.expect(200)["status"], "ASSIGNED");
    }
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draft_takes_codes_but_gives_none_and_a_closed_book_takes_none() {
    let server = Server::start().await;
    let draft = server.draft(json!({})).await;
    server.plant(&draft, &["IN-DRAFT"]).await;
    let random = server.user("ann").post("assignments/random", json!({"couponBookId": draft})).await;
    assert_eq!(random.rejected(409), "book_not_active");
    server.admin().patch(&format!("coupon-books/{draft}"), json!({"status": "CLOSED"})).await.expect(200);
    let order = json!({"couponBookId": draft, "quantity": 1});
    assert_eq!(server.admin().post("coupon-codes/generate", order).await.rejected(409), "book_closed");
    assert_eq!(server.upload(&draft, "MORE\n").await.rejected(409), "book_closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_may_only_be_added_once_codes_are_assigned() {
    let server = Server::start().await;
    let book = server.book(json!({"maxRedeemsPerUser": 3})).await;
    let path = format!("coupon-books/{book}");
    server.admin().patch(&path, json!({"maxRedeemsPerUser": 2})).await.expect(200);
    server.plant(&book, &["USES"]).await;
    server.give("USES", "ann").await;
    let problem = server.admin().patch(&path, json!({"maxRedeemsPerUser": 1})).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "maxRedeemsPerUser");
    server.admin().patch(&path, json!({"maxRedeemsPerUser": 4})).await.expect(200);
    assert_eq!(server.admin().get("coupons/USES").await.expect(200)["maxRedeems"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_is_deleted_with_its_codes_only_while_no_code_was_ever_assigned() {
    let server = Server::start().await;
    let (unused, used) = (server.book(json!({})).await, server.book(json!({})).await);
    server.plant(&unused, &["UNUSED"]).await;
    server.plant(&used, &["USED"]).await;
    server.give("USED", "ann").await;
    let deleted = server.admin().delete(&format!("coupon-books/{unused}")).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    assert_eq!(server.admin().get(&format!("coupon-books/{unused}")).await.rejected(404), "not_found");
    assert_eq!(server.admin().delete(&format!("coupon-books/{unused}")).await.rejected(404), "not_found");
    assert_eq!(server.admin().get("coupons/UNUSED").await.rejected(404), "not_found");
    assert_eq!(server.admin().delete(&format!("coupon-books/{used}")).await.rejected(409), "book_in_use");
    assert_eq!(server.admin().get("coupons/USED").await.expect(200)["status"], "ASSIGNED");
    // A deleted code can be created again.
    server.plant(&used, &["UNUSED"]).await;
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_counts_tell_each_state_and_add_up() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["C-1", "C-2", "C-3", "C-4", "C-5"]).await;
    for code in ["C-1", "C-2", "C-3"] {
        server.give(code, "ann").await;
    }
    server.user("ann").post("coupons/C-2/lock", json!({})).await.expect(200);
    server.user("ann").post("coupons/C-3/redeem", json!({})).await.expect(200);
    let counted = server.admin().get(&format!("coupon-books/{book}")).await.expect(200);
    let expected = json!({"available": 2, "assigned": 1, "locked": 1, "redeemed": 1, "void": 0});
    assert_eq!((&counted["counts"], &counted["generatedCount"]), (&expected, &json!(5)));
    server.assert_invariants().await;
}
