//! Logout: the logins that end, and the time until they do.

use serde_json::json;

use super::{admin_session, bearer, log_in, log_in_new_user, refresh, server};
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_ends_the_caller_s_login_or_the_one_it_names_and_everywhere_ends_all() {
    let server = server().await;
    let [one, two, three, four] = [
        admin_session(&server).await,
        admin_session(&server).await,
        admin_session(&server).await,
        admin_session(&server).await,
    ];
    let client = bearer(&server, &one);
    client.post("auth/logout", json!({"refreshToken": two["refreshToken"]})).await.expect(200);
    assert_eq!(refresh(&server, &two).await.rejected(401), "invalid_refresh_token");
    let one = refresh(&server, &one).await.expect(200);
    assert_eq!(
        client.request(reqwest::Method::POST, "auth/logout").send().await.expect("an answer").status(),
        200
    );
    assert_eq!(refresh(&server, &one).await.rejected(401), "invalid_refresh_token");
    let three = refresh(&server, &three).await.expect(200);
    bearer(&server, &three).post("auth/logout", json!({"everywhere": true})).await.expect(200);
    for session in [three, four] {
        assert_eq!(refresh(&server, &session).await.rejected(401), "invalid_refresh_token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_with_its_login_whatever_its_role() {
    let server = server().await;
    let [left, stays] = [admin_session(&server).await, admin_session(&server).await];
    let (left, stays) = (bearer(&server, &left), bearer(&server, &stays));
    for client in [&left, &stays] {
        client.get("users").await.expect(200);
    }
    left.post("auth/logout", json!({})).await.expect(200);
    assert_eq!(left.get("users").await.rejected(401), "unauthorized");
    assert_eq!(left.post("auth/logout", json!({})).await.rejected(401), "unauthorized");
    stays.get("users").await.expect(200);
    let user = bearer(&server, &log_in_new_user(&server, "ann").await);
    user.get("auth/me").await.expect(200);
    user.post("auth/logout", json!({})).await.expect(200);
    assert_eq!(user.get("auth/me").await.rejected(401), "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_an_admin_who_was_disabled_or_deleted_is_nobody_s() {
    let server = server().await;
    let mut clients = Vec::new();
    for email in ["one@shop.test", "two@shop.test"] {
        let new = json!({"email": email, "password": ADMIN_PASSWORD, "role": "ADMIN"});
        let id = id_of(&server.admin().post("users", new).await.expect(201));
        let client = bearer(&server, &log_in(&server.anonymous(), email, ADMIN_PASSWORD).await.expect(200));
        client.get("users").await.expect(200);
        clients.push((id, client));
    }
    let [(disabled, one), (deleted, two)] = &clients[..] else { panic!("two logins were started") };
    server.admin().patch(&format!("users/{disabled}"), json!({"disabled": true})).await.expect(200);
    let anonymous = server.anonymous().get("users").await;
    let reply = one.get("users").await;
    assert_eq!((reply.status, &reply.text), (401, &anonymous.text));
    sqlx::query("delete from user_account where id = $1::uuid")
        .bind(deleted)
        .execute(server.database.pool())
        .await
        .expect("deleting failed");
    // Another process has not cached it.
    let reply = two.at(&server.another_api().await).get("users").await;
    assert_eq!((reply.status, &reply.text), (401, &anonymous.text));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_end_another_s_login() {
    let server = server().await;
    let session = admin_session(&server).await;
    let body = json!({"refreshToken": session["refreshToken"]});
    server.user("eve").post("auth/logout", body).await.expect(200);
    refresh(&server, &session).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_has_no_login_and_no_password() {
    let server = server().await;
    let problem = server.service().post("auth/logout", json!({})).await.expect(403);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("API key")), "{problem}");
    let change = json!({"currentPassword": ADMIN_PASSWORD, "newPassword": "another password"});
    assert_eq!(server.service().post("auth/password", change).await.rejected(403), "forbidden");
    log_in(&server.anonymous(), ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
}
