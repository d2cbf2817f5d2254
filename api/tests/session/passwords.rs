//! Setting a password: the rules, the permissions, and the logins that end with the old password.

use serde_json::{Value, json};

use super::{admin_session, bearer, log_in, log_in_new_user, refresh, server};
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, id_of};

const NEW: &str = "another password";

fn change(current: &str, new: &str) -> Value {
    json!({"currentPassword": current, "newPassword": new})
}

/// The message about a field, if no other field is invalid.
#[track_caller]
fn message(problem: &Value, field: &str) -> String {
    let errors = problem["errors"].as_array().expect("errors");
    assert_eq!((errors.len(), &errors[0]["field"]), (1, &json!(field)), "{problem}");
    errors[0]["message"].as_str().expect("a message").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn changing_one_s_own_password_ends_all_other_logins_and_keeps_this_one() {
    let server = server().await;
    let (this, other) = (admin_session(&server).await, admin_session(&server).await);
    let (here, there) = (bearer(&server, &this), bearer(&server, &other));
    there.get("users").await.expect(200);
    assert_eq!(here.post("auth/password", change(ADMIN_PASSWORD, NEW)).await.status, 204);
    assert_eq!(there.get("users").await.rejected(401), "unauthorized");
    assert_eq!(refresh(&server, &other).await.rejected(401), "invalid_refresh_token");
    here.get("users").await.expect(200);
    refresh(&server, &this).await.expect(200);
    let old = log_in(&server.anonymous(), ADMIN_EMAIL, ADMIN_PASSWORD).await;
    assert_eq!(old.rejected(401), "invalid_credentials");
    log_in(&server.anonymous(), ADMIN_EMAIL, NEW).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_current_password_and_a_bad_new_one_are_named_and_change_nothing() {
    let server = server().await;
    let user = bearer(&server, &log_in_new_user(&server, "maria.gonzalez").await);
    let problem = user.post("auth/password", change("not the password", NEW)).await.expect(422);
    assert_eq!(message(&problem, "currentPassword"), "is wrong");
    for new in ["short", "maria.gonzalez", "Maria.Gonzalez@Shop.test", "eeeeeeeeeee", "qwertyuiop"] {
        let problem = user.post("auth/password", change(ADMIN_PASSWORD, new)).await.expect(422);
        assert!(!message(&problem, "newPassword").contains(new), "{problem}");
    }
    let long = change(&"x".repeat(201), NEW);
    message(&user.post("auth/password", long).await.expect(422), "currentPassword");
    log_in(&server.anonymous(), "maria.gonzalez@shop.test", ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rule_holds_for_passwords_wherever_they_are_set() {
    let server = server().await;
    let admin = server.admin();
    let user =
        |password: &str| json!({"email": "Long.Local.Part@shop.test", "password": password, "role": "USER"});
    let id = id_of(&admin.post("users", user("a good password")).await.expect(201));
    let path = format!("users/{id}");
    let bad = ["123456789", "long.local.part", "long.local.part@shop.test", "..........", "Password123"];
    for password in bad {
        let made = admin.post("users", user(password)).await.expect(422);
        let changed = admin.patch(&path, json!({"password": password})).await.expect(422);
        assert_eq!(message(&made, "password"), message(&changed, "password"), "{password}");
    }
    let problem = server.another_admin().await.patch(&path, json!({"password": "long.local.part"})).await;
    assert_eq!(problem.rejected(404), "not_found", "the answer discloses whether the email is known");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_whose_account_was_disabled_cannot_change_its_password() {
    let server = server().await;
    let user = bearer(&server, &log_in_new_user(&server, "ann").await);
    let me = user.get("auth/me").await.expect(200);
    let path = format!("users/{}", id_of(&me));
    server.admin().patch(&path, json!({"disabled": true})).await.expect(200);
    assert_eq!(user.post("auth/password", change(ADMIN_PASSWORD, NEW)).await.rejected(401), "unauthorized");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_enabled_admin_of_a_business_cannot_be_disabled() {
    let server = server().await;
    let admin = server.admin();
    server.another_admin().await;
    let me = format!("users/{}", id_of(&admin.get("auth/me").await.expect(200)));
    let disable = json!({"disabled": true});
    assert_eq!(admin.patch(&me, disable.clone()).await.rejected(409), "last_admin");
    let second = json!({"email": "second@shop.test", "password": ADMIN_PASSWORD, "role": "ADMIN"});
    let second = format!("users/{}", id_of(&admin.post("users", second).await.expect(201)));
    assert_eq!(admin.patch(&second, disable.clone()).await.expect(200)["disabled"], true);
    assert_eq!(admin.patch(&me, disable.clone()).await.rejected(409), "last_admin");
    admin.patch(&second, json!({"disabled": false})).await.expect(200);
    assert_eq!(admin.patch(&me, disable).await.expect(200)["disabled"], true);
    assert_eq!(admin.get("users").await.rejected(401), "unauthorized");
}
