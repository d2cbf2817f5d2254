//! Manipulated access tokens and malformed credentials: all are rejected with the same answer.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{admin_session, server};
use crate::support::{JWT_SECRET, Reply, Server};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The claims of a valid token that the server issued to the admin.
async fn good_claims(server: &Server) -> Value {
    let session = admin_session(server).await;
    let token = session["accessToken"].as_str().expect("a token");
    jsonwebtoken::dangerous::insecure_decode::<Value>(token).expect("a token of this server").claims
}

/// The claims with another value of a field, or without the field.
fn with(claims: &Value, field: &str, value: Option<Value>) -> Value {
    let mut claims = claims.clone();
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

/// Names and claims, each with one change. They are signed with the right key.
fn changed_claims(good: &Value) -> Vec<(&'static str, Value)> {
    let changes = [
        ("expired", "exp", Some(json!(now() - 1))),
        ("an expiry that is text", "exp", Some(json!((now() + 600).to_string()))),
        (
            "an expiry with a fraction",
            "exp",
            Some(json!(600.5 + f64::from(u32::try_from(now()).unwrap_or(0)))),
        ),
        ("a negative expiry", "exp", Some(json!(-1))),
        ("an expiry in 200 years", "exp", Some(json!(now() + 6_000_000_000))),
        ("the largest i64 as expiry", "exp", Some(json!(i64::MAX))),
        ("the largest u64 as expiry", "exp", Some(json!(u64::MAX))),
        ("an expiry of 1e300", "exp", Some(json!(1e300))),
        ("an expiry that is null", "exp", Some(Value::Null)),
        ("no end", "exp", None),
        ("not yet", "nbf", Some(json!(now() + 600))),
        ("a not-before time that is text", "nbf", Some(json!("tomorrow"))),
        ("another issuer", "iss", Some(json!("another"))),
        ("no issuer", "iss", None),
        ("another audience", "aud", Some(json!("another"))),
        ("no audience", "aud", None),
        ("no subject", "sub", None),
        ("another subject", "sub", Some(json!(Uuid::now_v7()))),
        ("no login", "sid", None),
        ("another login", "sid", Some(json!(Uuid::now_v7()))),
        ("another business", "business", Some(json!(Uuid::now_v7()))),
        ("an unknown role", "role", Some(json!("ROOT"))),
        ("a role in lower case", "role", Some(json!("admin"))),
        ("a service", "role", Some(json!("SERVICE"))),
        ("a user without a holder id", "role", Some(json!("USER"))),
    ];
    changes.into_iter().map(|(name, field, value)| (name, with(good, field, value))).collect()
}

/// Names and tokens, each manipulated in one way.
fn tampered(good: &Value) -> Vec<(&'static str, String)> {
    let token = signed(Algorithm::HS256, JWT_SECRET, good);
    let parts: Vec<&str> = token.split('.').collect();
    let user = with(&with(good, "role", Some(json!("USER"))), "user_id", Some(json!("ann")));
    let other = signed(Algorithm::HS256, JWT_SECRET, &user);
    let other_body = other.split('.').nth(1).expect("a body");
    // {"alg":"none","typ":"JWT"} and {"alg":"RS256","typ":"JWT"}
    let (none, rs256) = ("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9");
    let mut tokens = vec![
        ("alg none", format!("{none}.{}.", parts[1])),
        ("alg none with the signature", format!("{none}.{}.{}", parts[1], parts[2])),
        ("RS256 over the signature", format!("{rs256}.{}.{}", parts[1], parts[2])),
        ("HS384", signed(Algorithm::HS384, JWT_SECRET, good)),
        ("HS512", signed(Algorithm::HS512, JWT_SECRET, good)),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("no signature and no dot", format!("{}.{}", parts[0], parts[1])),
        ("another body under the signature", format!("{}.{other_body}.{}", parts[0], parts[2])),
        ("another key", signed(Algorithm::HS256, &"another secret".repeat(3), good)),
        ("an empty key", signed(Algorithm::HS256, "", good)),
        ("a byte after its end", format!("{token}A")),
        ("padding after its end", format!("{token}=")),
        ("a dot after its end", format!("{token}.")),
        ("30 KB", "x".repeat(30_000)),
        ("30 KB after its end", format!("{token}{}", "A".repeat(30_000))),
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
    ];
    let changed = changed_claims(good).into_iter();
    tokens.extend(changed.map(|(name, claims)| (name, signed(Algorithm::HS256, JWT_SECRET, &claims))));
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_were_tampered_with_are_all_refused_alike() {
    let server = server().await;
    let claims = good_claims(&server).await;
    let good = signed(Algorithm::HS256, JWT_SECRET, &claims);
    server.anonymous().with_token(&good).get("users").await.expect(200);
    let anonymous = server.anonymous().get("users").await;
    assert_eq!(anonymous.status, 401);
    for (name, token) in tampered(&claims) {
        let reply = server.anonymous().with_token(&token).get("users").await;
        assert_eq!((reply.status, &reply.text), (401, &anonymous.text), "{name}");
    }
    server.anonymous().with_token(&good).get("users").await.expect(200);
}

/// A name and a value, which may not be text.
type RawHeader = (&'static str, Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_no_credentials_are_refused_like_none() {
    let server = server().await;
    let good = format!("Bearer {}", signed(Algorithm::HS256, JWT_SECRET, &good_claims(&server).await));
    let bare = good.trim_start_matches("Bearer ").to_owned();
    let anonymous = server.anonymous().get("users").await;
    let (authorization, key) = ("Authorization", "X-API-Key");
    let cases: Vec<(&str, Vec<RawHeader>)> = vec![
        ("no token", vec![(authorization, b"Bearer".to_vec())]),
        ("an empty token", vec![(authorization, b"Bearer ".to_vec())]),
        ("no scheme", vec![(authorization, bare.into_bytes())]),
        ("another scheme", vec![(authorization, good.replace("Bearer", "Token").into_bytes())]),
        ("a password", vec![(authorization, b"Basic YWRtaW46eA==".to_vec())]),
        ("not ASCII", vec![(authorization, "Bearer contraseña".as_bytes().to_vec())]),
        ("no text", vec![(authorization, b"Bearer \xff\xfe".to_vec())]),
        (
            "the same token twice",
            vec![(authorization, good.clone().into_bytes()), (authorization, good.clone().into_bytes())],
        ),
        (
            "a valid and an invalid token",
            vec![(authorization, good.clone().into_bytes()), (authorization, b"Bearer x".to_vec())],
        ),
        ("a wrong key", vec![(key, b"cup_0000".to_vec())]),
        ("two keys", vec![(key, b"cup_0000".to_vec()), (key, b"cup_0001".to_vec())]),
        ("a key that is not text", vec![(key, b"cup_\xff".to_vec())]),
    ];
    for (name, headers) in cases {
        let request = server.anonymous().request(reqwest::Method::GET, "users");
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let reply = Reply::to(request).await;
        assert_eq!((reply.status, &reply.text), (401, &anonymous.text), "{name}");
    }
}
