//! Rotation of the JWT secret, as docs/fleet.md describes it.

use reqwest::Method;
use serde_json::json;

use crate::support::fleet::{Fleet, SECRET};
use crate::support::{EMAIL, PASSWORD};

#[tokio::test]
async fn a_secret_is_rotated_without_ending_a_login() {
    const NEW_SECRET: &str = "another-secret-of-this-test-of-32-bytes";
    let mut fleet = Fleet::on_postgres(0).await;
    let before = fleet.admin().await;
    let login = json!({"email": EMAIL, "password": PASSWORD});
    let session = before.post("auth/login", &login, 200).await;
    let restart = async |fleet: &mut Fleet| {
        fleet.api.stop().await;
        fleet.restart_api().await;
    };
    fleet.set("CUPONERA_JWT_SECRET", NEW_SECRET);
    fleet.set("CUPONERA_JWT_SECRET_PREVIOUS", SECRET);
    restart(&mut fleet).await;
    assert_eq!(before.get("auth/me").await["email"], EMAIL, "a token of the previous secret is accepted");
    let meanwhile = fleet.admin().await;
    fleet.set("CUPONERA_JWT_SECRET_PREVIOUS", "");
    restart(&mut fleet).await;
    assert_eq!(meanwhile.get("auth/me").await["email"], EMAIL, "new tokens are signed with the new secret");
    before.json(before.request(Method::GET, "auth/me"), 401).await;
    let refreshed = json!({"refreshToken": session["refreshToken"]});
    before.post("auth/refresh", &refreshed, 200).await;
}
