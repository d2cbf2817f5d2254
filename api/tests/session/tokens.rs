//! API keys, and access tokens that somebody has tampered with.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::server;
use crate::support::{JWT_SECRET, Server, id_of};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a good token of an admin says.
fn claims(server: &Server) -> Value {
    json!({
        "iss": "cuponera", "aud": "cuponera-api", "sub": Uuid::now_v7(), "iat": now(), "exp": now() + 600,
        "business": server.business.to_string(), "role": "ADMIN",
    })
}

/// The same with another value for a field, or without it.
fn with(server: &Server, field: &str, value: Option<Value>) -> Value {
    let mut claims = claims(server);
    let map = claims.as_object_mut().expect("an object");
    match value {
        Some(value) => map.insert(field.to_owned(), value),
        None => map.remove(field),
    };
    claims
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    encode(&Header::new(algorithm), claims, &key).expect("signing failed")
}

/// A name and a token for every way to tamper with a good one.
fn tampered(server: &Server) -> Vec<(&'static str, String)> {
    let ours = |claims: &Value| signed(Algorithm::HS256, JWT_SECRET, claims);
    let good = ours(&claims(server));
    let parts: Vec<&str> = good.split('.').collect();
    let user = ours(&with(server, "role", Some(json!("USER"))));
    let other_body = user.split('.').nth(1).expect("a body").to_owned();
    vec![
        // {"alg":"none","typ":"JWT"}
        ("alg none", format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.", parts[1])),
        (
            "alg none with the signature",
            format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{}.{}", parts[1], parts[2]),
        ),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("another body under the signature", format!("{}.{other_body}.{}", parts[0], parts[2])),
        ("another key", signed(Algorithm::HS256, &"another secret".repeat(3), &claims(server))),
        ("an empty key", signed(Algorithm::HS256, "", &claims(server))),
        ("another algorithm", signed(Algorithm::HS512, JWT_SECRET, &claims(server))),
        ("run out", ours(&with(server, "exp", Some(json!(now() - 1))))),
        ("an end that is text", ours(&with(server, "exp", Some(json!((now() + 600).to_string()))))),
        ("no end", ours(&with(server, "exp", None))),
        ("another issuer", ours(&with(server, "iss", Some(json!("another"))))),
        ("another audience", ours(&with(server, "aud", Some(json!("another"))))),
        ("no audience", ours(&with(server, "aud", None))),
        ("no subject", ours(&with(server, "sub", None))),
        ("an unknown role", ours(&with(server, "role", Some(json!("ROOT"))))),
        ("a user without a holder id", user),
        ("100 KB", "x".repeat(100_000)),
        ("no token at all", "Bearer".to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_were_tampered_with_are_all_refused_alike() {
    let server = server().await;
    let good = signed(Algorithm::HS256, JWT_SECRET, &claims(&server));
    server.nobody().with_token(&good).get("users").await.expect(200);
    let nobody = server.nobody().get("users").await;
    assert_eq!(nobody.status, 401);
    for (name, token) in tampered(&server) {
        let reply = server.nobody().with_token(&token).get("users").await;
        assert_eq!((reply.status, &reply.text), (401, &nobody.text), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_scheme_or_a_wrong_key_is_nobody() {
    let server = server().await;
    let nobody = server.nobody().get("jobs").await;
    let basic = server.nobody().request(reqwest::Method::GET, "jobs").basic_auth("admin", Some("x"));
    let basic = crate::support::Reply::to(basic).await;
    let key = server.nobody().with_key("cup_0000").get("jobs").await;
    for reply in [basic, key] {
        assert_eq!((reply.status, &reply.text), (401, &nobody.text));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_key_is_shown_once_works_until_it_is_revoked_and_is_of_its_role() {
    let server = server().await;
    let admin = server.admin();
    let made = admin.post("api-keys", json!({"name": "The till"})).await.expect(201);
    let key = made["key"].as_str().expect("the key").to_owned();
    assert!(
        key.starts_with("cup_") && key.len() >= 64 && key.starts_with(made["hint"].as_str().expect("a hint"))
    );
    assert_eq!(made["role"], "SERVICE");
    let list = admin.get("api-keys").await;
    assert!(!list.text.contains(&key), "the list shows a key");
    let till = server.nobody().with_key(&key);
    assert_eq!(till.get("auth/me").await.expect(200)["role"], "SERVICE");
    assert_eq!(till.get("users").await.refused(403), "forbidden");
    let of_admin = admin.post("api-keys", json!({"name": "A script", "role": "ADMIN"})).await.expect(201);
    server.nobody().with_key(of_admin["key"].as_str().expect("the key")).get("users").await.expect(200);
    assert_eq!(admin.delete(&format!("api-keys/{}", id_of(&made))).await.status, 204);
    assert_eq!(till.get("auth/me").await.refused(401), "unauthorized");
    assert_eq!(admin.delete(&format!("api-keys/{}", id_of(&made))).await.refused(404), "not_found");
    let refused = admin.post("api-keys", json!({"name": "A person", "role": "USER"})).await.expect(422);
    assert_eq!(refused["errors"][0]["field"], "role");
}
