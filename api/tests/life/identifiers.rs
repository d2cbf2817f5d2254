//! User ids and emails are read by one rule in every operation: trimmed at both ends, no hidden characters inside.

use serde_json::{Value, json};

use super::with_codes;
use crate::support::{ADMIN_PASSWORD, Limits, Reply, Server};

/// `ann` with characters that copy and paste adds.
const PASTED: &str = "\u{feff} ann\u{a0}\u{200b}\u{85}\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_user_id_is_trimmed_wherever_it_enters() {
    let server = with_codes(json!({"maxRedeemsPerUser": 2}), &["HELD"]).await;
    let (book, service) = (server.book(json!({})).await, server.service());
    server.plant(&book, &["FREE", "RANDOM"]).await;
    let named = service.post("assignments/FREE", json!({"userId": PASTED})).await.expect(201);
    let random = json!({"couponBookId": book, "userId": PASTED});
    let random = service.post("assignments/random", random).await.expect(201);
    assert_eq!((&named["userId"], &random["userId"]), (&json!("ann"), &json!("ann")));
    for client in [service.clone(), server.user("ann")] {
        for call in ["lock", "unlock", "lock", "redeem", "validate"] {
            client.post(&format!("coupons/HELD/{call}"), json!({"userId": PASTED})).await;
        }
        let held = client.get("assignments/user/%EF%BB%BF%20ann%C2%A0").await.expect(200);
        assert_eq!(held["data"].as_array().map(Vec::len), Some(3), "{held}");
    }
    assert_eq!(service.get("coupons/HELD").await.expect(200)["redeemCount"], 2, "each call counted for ann");
    let file = format!("code,userId\nFILE,{PASTED}\n");
    server.upload(&book, file).await.expect(202);
    server.work().await;
    assert_eq!(service.get("coupons/FILE").await.expect(200)["userId"], "ann");
    let held = sqlx::query_scalar::<_, String>("select distinct holder from coupon where holder is not null");
    assert_eq!(held.fetch_all(server.database.pool()).await.expect("the query failed"), ["ann"]);
    server.assert_invariants().await;
}

/// The replies of each operation with a user id to this id.
async fn named(server: &Server, book: &str, id: &str) -> Vec<Reply> {
    let service = server.service();
    let mut replies = vec![
        service.post("assignments/random", json!({"couponBookId": book, "userId": id})).await,
        service.post("assignments/HELD", json!({"userId": id})).await,
    ];
    for call in ["lock", "unlock", "validate", "redeem"] {
        replies.push(service.post(&format!("coupons/HELD/{call}"), json!({"userId": id})).await);
    }
    let encoded = id.bytes().fold(String::new(), |text, byte| text + &format!("%{byte:02X}"));
    replies.push(service.get(&format!("assignments/user/{encoded}")).await);
    let account = json!({"email": "new@shop.test", "password": ADMIN_PASSWORD, "role": "USER", "userId": id});
    replies.push(server.admin().post("users", account).await);
    replies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hidden_character_inside_a_user_id_is_refused_everywhere_and_a_blank_is_not() {
    let server = with_codes(json!({}), &["HELD"]).await;
    let book = server.book(json!({})).await;
    for id in ["a\u{200b}nn", "an\u{2028}n", "a\u{202e}nn", "a\u{ad}nn", "a\u{85}nn", "\u{200b}"] {
        for reply in named(&server, &book, id).await {
            let problem = reply.expect(422);
            assert_eq!(problem["errors"][0]["field"], "userId", "{id:?}: {problem}");
        }
    }
    let outcomes: Vec<_> = named(&server, &book, "ann smith").await.iter().map(Reply::outcome).collect();
    let refusals =
        ["409 sold_out", "409 already_assigned", "409 not_holder", "409 not_holder", "409 not_holder"];
    assert_eq!(outcomes[..5], refusals);
    assert_eq!(outcomes[6..], ["200", "201"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_is_trimmed_and_compared_in_lower_case_when_an_account_is_made_and_when_it_logs_in() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let account = |email: &str, user: &str| json!({"email": email, "password": ADMIN_PASSWORD, "role": "USER", "userId": user});
    let made =
        server.admin().post("users", account("\u{feff}Ann@Shop.test \u{200b}", "ann")).await.expect(201);
    assert_eq!(made["email"], "ann@shop.test");
    for email in ["ann@shop.test", " ANN@SHOP.TEST\t", "\u{200b}ann@shop.test\u{a0}"] {
        let login = json!({"email": email, "password": ADMIN_PASSWORD});
        server.anonymous().post("auth/login", login).await.expect(200);
        let twice = server.admin().post("users", account(email, "ann-2")).await;
        assert_eq!(twice.rejected(409), "email_taken", "{email:?}");
    }
    for email in ["a\u{200b}nn@shop.test", "a nn@shop.test"] {
        let problem: Value = server.admin().post("users", account(email, "ann-3")).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], "email", "{email:?}");
    }
}
