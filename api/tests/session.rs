//! Login, refresh and logout, and callers that may not log in.

mod browser;
mod ending;
mod hashing;
mod keys;
mod logout;
mod memberships;
mod passwords;
mod tokens;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Limits, Reply, Server, id_of};

async fn server() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

async fn log_in(client: &Client, email: &str, password: &str) -> Reply {
    client.post("auth/login", json!({"email": email, "password": password})).await
}

async fn admin_session(server: &Server) -> Value {
    log_in(&server.anonymous(), ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200)
}

async fn refresh(server: &Server, session: &Value) -> Reply {
    server.anonymous().post("auth/refresh", json!({"refreshToken": session["refreshToken"]})).await
}

fn bearer(server: &Server, session: &Value) -> Client {
    server.anonymous().with_token(session["accessToken"].as_str().expect("a token"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_gives_tokens_that_stand_for_the_account() {
    let server = server().await;
    let session = log_in(&server.anonymous(), "ADMIN@Shop.Test", ADMIN_PASSWORD).await.expect(200);
    assert_eq!((&session["tokenType"], &session["expiresIn"]), (&json!("Bearer"), &json!(900)));
    let me = bearer(&server, &session).get("auth/me").await.expect(200);
    assert_eq!((&me["role"], &me["email"], me.get("userId")), (&json!("ADMIN"), &json!(ADMIN_EMAIL), None));
    assert_eq!(me["businessId"], server.business.to_string());
    let user = log_in_new_user(&server, "ann").await;
    let me = bearer(&server, &user).get("auth/me").await.expect(200);
    assert_eq!((&me["role"], &me["userId"]), (&json!("USER"), &json!("ann")));
}

/// Creates an account for a holder, with the admin's password, and logs it in.
async fn log_in_new_user(server: &Server, user: &str) -> Value {
    let email = format!("{user}@shop.test");
    let new = json!({"email": email, "password": ADMIN_PASSWORD, "role": "USER", "userId": user});
    server.admin().post("users", new).await.expect(201);
    log_in(&server.anonymous(), &email, ADMIN_PASSWORD).await.expect(200)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_an_unknown_email_are_answered_alike() {
    let server = server().await;
    let wrong = log_in(&server.anonymous(), ADMIN_EMAIL, "not the password").await;
    let unknown = log_in(&server.anonymous(), "nobody@shop.test", ADMIN_PASSWORD).await;
    assert_eq!(wrong.text, unknown.text);
    assert_eq!(
        (wrong.rejected(401).as_str(), unknown.rejected(401).as_str()),
        ("invalid_credentials", "invalid_credentials")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_good_once_and_a_second_time_ends_the_login() {
    let server = server().await;
    let (first, other) = (admin_session(&server).await, admin_session(&server).await);
    let second = refresh(&server, &first).await.expect(200);
    assert_ne!(first["refreshToken"], second["refreshToken"]);
    bearer(&server, &second).get("auth/me").await.expect(200);
    assert_eq!(refresh(&server, &first).await.rejected(401), "invalid_refresh_token");
    assert_eq!(refresh(&server, &second).await.rejected(401), "invalid_refresh_token");
    refresh(&server, &other).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_16_who_use_one_refresh_token_at_once_one_is_served_and_the_login_is_over() {
    let server = server().await;
    for _ in 0..10 {
        let session = admin_session(&server).await;
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let (client, body) =
                (server.anonymous().apart().await, json!({"refreshToken": session["refreshToken"]}));
            tasks.spawn(async move { client.post("auth/refresh", body).await });
        }
        let replies = tasks.join_all().await;
        let winners: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 200).collect();
        assert_eq!(winners.len(), 1, "one refresh token was exchanged for {} sessions", winners.len());
        let rejected = replies.iter().filter(|reply| reply.outcome() == "401 invalid_refresh_token");
        assert_eq!(rejected.count(), 15);
        let winner = winners[0].json();
        let again = refresh(&server, &winner).await;
        assert_eq!(
            again.rejected(401),
            "invalid_refresh_token",
            "a login whose token was copied did not end"
        );
        let admin = bearer(&server, &winner).get("auth/me").await;
        assert_eq!(admin.rejected(401), "unauthorized", "an admin's access token outlived its login");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_account_can_neither_log_in_nor_refresh_until_it_is_enabled() {
    let server = server().await;
    let admin = server.admin();
    let (email, password) = ("ann@shop.test", "a long password");
    let new = json!({"email": "Ann@Shop.Test", "password": password, "role": "USER", "userId": "ann"});
    let ann = admin.post("users", new).await.expect(201);
    assert_eq!((&ann["email"], &ann["disabled"]), (&json!(email), &json!(false)));
    let session = log_in(&server.anonymous(), email, password).await.expect(200);
    assert_eq!(bearer(&server, &session).get("auth/me").await.expect(200)["userId"], "ann");
    let path = format!("users/{}", id_of(&ann));
    assert_eq!(admin.patch(&path, json!({"disabled": true})).await.expect(200)["disabled"], true);
    let disabled = log_in(&server.anonymous(), email, password).await;
    let wrong = log_in(&server.anonymous(), email, "not the password").await;
    assert_eq!(
        (disabled.status, &disabled.text),
        (401, &wrong.text),
        "a disabled account can be distinguished"
    );
    assert_eq!(refresh(&server, &session).await.rejected(401), "invalid_refresh_token");
    admin.patch(&path, json!({"disabled": false})).await.expect(200);
    assert_eq!(refresh(&server, &session).await.rejected(401), "invalid_refresh_token");
    log_in(&server.anonymous(), email, password).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_all_logins_and_the_old_one_is_no_longer_good() {
    let server = server().await;
    let session = admin_session(&server).await;
    let me = bearer(&server, &session).get("auth/me").await.expect(200);
    let path = format!("users/{}", id_of(&me));
    server.admin().patch(&path, json!({"password": "another password"})).await.expect(200);
    for token in [server.admin(), bearer(&server, &session)] {
        assert_eq!(
            token.get("users").await.rejected(401),
            "unauthorized",
            "an admin's access token outlived its login"
        );
    }
    assert_eq!(refresh(&server, &session).await.rejected(401), "invalid_refresh_token");
    assert_eq!(
        log_in(&server.anonymous(), ADMIN_EMAIL, ADMIN_PASSWORD).await.rejected(401),
        "invalid_credentials"
    );
    log_in(&server.anonymous(), ADMIN_EMAIL, "another password").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_is_a_member_of_a_business_once_and_holder_ids_are_unique_in_it() {
    let server = server().await;
    let new = |email: &str, user: &str| json!({"email": email, "password": "a long password", "role": "USER", "userId": user});
    server.admin().post("users", new("one@shop.test", "one")).await.expect(201);
    let theirs = server.another_admin().await;
    assert_eq!(server.admin().post("users", new("ONE@shop.test", "x")).await.rejected(409), "email_taken");
    assert_eq!(
        server.admin().post("users", new("two@shop.test", "one")).await.rejected(409),
        "user_id_taken"
    );
    theirs.post("users", new("two@shop.test", "one")).await.expect(201);
    let users = server.admin().get("users").await.expect(200);
    assert_eq!(users["data"].as_array().map(Vec::len), Some(2), "{users}");
    assert!(!users.to_string().contains("argon2"), "a password hash is disclosed");
}
