//! User ids and emails that were stored untrimmed: a trimmed id finds the stored one if no other matches, and no
//! stored ids are merged.

use cuponera_testkit::race;
use serde_json::{Value, json};

use super::{account, fact, installations, log_in, without_worker};
use crate::support::{Client, Limits, Server, id_of, wait_for_job};

/// The codes in the list of a user's coupons.
async fn listed(client: &Client, user: &str) -> Vec<String> {
    let list = client.get(&format!("assignments/user/{user}")).await.expect(200);
    let codes =
        list["data"].as_array().expect("a list has data").iter().map(|coupon| coupon["code"].to_string());
    codes.map(|code| code.trim_matches('"').to_owned()).collect()
}

/// The two codes of a user with an untrimmed id, and the lock of the second code.
fn codes_of(facts: &Value, name: &str) -> [String; 3] {
    ["assigned", "locked", "lockId"].map(|field| fact(facts, &format!("/spelled/{name}/{field}")).to_owned())
}

async fn give(server: &Server, facts: &Value, user: &str) -> Value {
    let ask = json!({"couponBookId": fact(facts, "/books/summer"), "userId": user});
    server.service().post("assignments/random", ask).await.expect(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_finds_the_codes_of_an_id_by_its_trimmed_form() {
    for (server, facts) in installations(without_worker()).await {
        let service = server.service();
        for (name, stored, spellings) in
            [("bea", " bea ", ["bea", "%20bea%20"]), ("ida", "ida\u{200b}", ["ida", "%EF%BB%BFida"])]
        {
            let [assigned, locked, lock] = codes_of(&facts, name);
            for spelling in spellings {
                assert_eq!(listed(&service, spelling).await, [&*assigned, &*locked], "{spelling}");
            }
            let ask = json!({"userId": name});
            service.post(&format!("coupons/{assigned}/validate"), ask.clone()).await.expect(200);
            service.post(&format!("coupons/{assigned}/lock"), ask.clone()).await.expect(200);
            service.post(&format!("coupons/{assigned}/unlock"), ask.clone()).await.expect(200);
            service.post(&format!("coupons/{assigned}/unlock"), ask.clone()).await.expect(200);
            let redeem = json!({"userId": name, "lockId": lock});
            service.post(&format!("coupons/{locked}/redeem"), redeem).await.expect(200);
            let again = service.post(&format!("assignments/{assigned}"), ask.clone()).await.expect(200);
            assert_eq!(again["userId"], stored, "the user already holds the code");
            // With the two existing codes, three more reach the book's limit of five.
            for _ in 0..3 {
                assert_eq!(give(&server, &facts, name).await["userId"], stored);
            }
            let ask = json!({"couponBookId": fact(&facts, "/books/summer"), "userId": name});
            assert_eq!(service.post("assignments/random", ask).await.rejected(409), "user_limit_reached");
            assert_eq!(listed(&service, name).await.len(), 5);
        }
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_account_has_such_an_id_goes_on_as_itself() {
    for (server, facts) in installations(without_worker()).await {
        let bea = account(&server, &facts, "bea").await;
        assert_eq!(bea.get("auth/me").await.expect(200)["userId"], " bea ");
        let [assigned, locked, lock] = codes_of(&facts, "bea");
        for name in ["bea", "%20bea%20", "%E2%80%8Bbea"] {
            assert_eq!(listed(&bea, name).await, [&*assigned, &*locked]);
        }
        assert_eq!(bea.get("assignments/user/ana").await.rejected(403), "forbidden");
        let given = give(&server, &facts, "bea").await;
        bea.post(&format!("coupons/{}/lock", given["code"].as_str().unwrap_or_default()), json!({}))
            .await
            .expect(200);
        bea.post(&format!("coupons/{assigned}/redeem"), json!({"userId": "bea"})).await.expect(200);
        bea.post(&format!("coupons/{locked}/redeem"), json!({"lockId": lock})).await.expect(200);
        // An account without codes is found too.
        assert_eq!(give(&server, &facts, "uma").await["userId"], "uma\u{a0}");
        assert_eq!(listed(&account(&server, &facts, "uma").await, "uma").await.len(), 1);
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_finds_another_or_several_is_only_itself() {
    for (server, facts) in installations(without_worker()).await {
        let service = server.service();
        let [assigned, locked, _] = codes_of(&facts, "kai");
        assert_eq!(listed(&service, "kai").await, [assigned, locked]);
        assert!(listed(&service, "leo").await.is_empty());
        for (user, name) in [("kai", "kai with a blank"), ("leo", "leo before"), ("leo", "leo after")] {
            let [assigned, locked, _] = codes_of(&facts, name);
            let ask = json!({"userId": user});
            let lock = service.post(&format!("coupons/{assigned}/lock"), ask.clone()).await;
            assert_eq!(lock.rejected(409), "not_holder", "{name}");
            let redeem = service.post(&format!("coupons/{locked}/redeem"), ask.clone()).await;
            assert_eq!(redeem.rejected(409), "coupon_locked", "{name}");
            let own = server.user(user).get(&format!("coupons/{assigned}")).await;
            assert_eq!(own.rejected(404), "not_found", "{name}");
        }
        assert_eq!(give(&server, &facts, "leo").await["userId"], "leo");
        let hidden = json!({"couponBookId": fact(&facts, "/books/summer"), "userId": "ma\u{200b}x"});
        assert_eq!(service.post("assignments/random", hidden).await.rejected(422), "invalid");
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_stored_with_hidden_characters_is_found_without_them_and_not_taken_twice() {
    for (server, facts) in installations(without_worker()).await {
        let anonymous = server.anonymous();
        let password = fact(&facts, "/users/zoe/password");
        for email in ["zoe@dump.test", " ZOE@Dump.test\u{200b}", "\u{feff}zoe@dump.test"] {
            log_in(&anonymous, email, password).await.expect(200);
        }
        log_in(&anonymous, "\u{feff}ana@dump.test ", fact(&facts, "/users/ana/password")).await.expect(200);
        let new = |email: &str, user: &str| json!({"email": email, "password": password, "role": "USER", "userId": user});
        for (email, user, code) in [
            ("zoe@dump.test", "zoe-2", "email_taken"),
            ("bea-2@dump.test", "bea", "user_id_taken"),
            ("zoe-2@dump.test", "zoe\u{200b}", "user_id_taken"),
        ] {
            assert_eq!(server.admin().post("users", new(email, user)).await.rejected(409), code, "{email}");
        }
        // The account of an existing holder sees the codes that the holder had before.
        let made = server.admin().post("users", new("ida@dump.test", " ida")).await.expect(201);
        assert_eq!(made["userId"], "ida\u{200b}");
        let session = log_in(&anonymous, "ida@dump.test", password).await.expect(200);
        let ida = anonymous.with_token(session["accessToken"].as_str().unwrap_or_default());
        assert_eq!(listed(&ida, "ida").await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_names_such_an_id_gives_its_codes_to_the_stored_one() {
    for (server, facts) in installations(Limits::default()).await {
        let file = "code,userId\nNEW-001,bea\nNEW-002,\u{200b}bea\nNEW-003,ida\nNEW-004,kai\nNEW-005,bea\nNEW-006,bea\n";
        let job = server.upload(fact(&facts, "/books/summer"), file).await.expect(202);
        let job = wait_for_job(&server.admin(), &id_of(&job)).await;
        assert_eq!(job["status"], "SUCCEEDED", "{job}");
        for (code, holder) in [
            ("NEW-001", json!(" bea ")),
            ("NEW-002", json!(" bea ")),
            ("NEW-003", json!("ida\u{200b}")),
            ("NEW-004", json!("kai")),
            ("NEW-006", Value::Null),
        ] {
            let coupon = server.admin().get(&format!("coupons/{code}")).await.expect(200);
            assert_eq!(coupon["userId"], holder, "{code}: three more codes reach the limit of five");
        }
        server.assert_invariants().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_spellings_at_once_keep_to_one_limit() {
    for (server, facts) in installations(without_worker()).await {
        let (service, bea) = (server.service(), account(&server, &facts, "bea").await);
        let replies = race(16, 0..16, async |number| {
            let ask = json!({"couponBookId": fact(&facts, "/books/summer")});
            if number % 2 == 0 {
                return bea.apart().await.post("assignments/random", ask).await.outcome();
            }
            let ask = json!({"couponBookId": ask["couponBookId"], "userId": "bea"});
            service.apart().await.post("assignments/random", ask).await.outcome()
        })
        .await;
        assert_eq!(replies.iter().filter(|outcome| *outcome == "201").count(), 3, "{replies:?}");
        server.assert_invariants().await;
    }
}
