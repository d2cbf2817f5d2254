//! Every rejection and fault is a problem with a stable code and the id of the request.

use std::io::{Read, Write};
use std::net::TcpStream;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::{Client, Reply, Server};

/// The fields that a 422 names, sorted.
#[track_caller]
fn fields_of(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
    let mut fields: Vec<_> = errors.iter().map(|error| error["field"].as_str().expect("a field")).collect();
    fields.sort_unstable();
    fields
}

fn raw(request: RequestBuilder, media: &str, body: &'static str) -> RequestBuilder {
    request.header("Content-Type", media).body(body)
}

/// A name, a request, and the expected status and code.
type Case = (&'static str, RequestBuilder, u16, &'static str);

/// Requests with faults in the body.
fn bad_bodies(admin: &Client) -> Vec<Case> {
    let post = |path: &str| admin.request(Method::POST, path);
    let json = "application/json";
    let keyless = post("coupon-books").header("Idempotency-Key", "").json(&json!({"name": "B"}));
    vec![
        ("no JSON", raw(post("coupon-books"), json, "{\"name\": "), 400, "bad_json"),
        ("no object", raw(post("coupon-books"), json, "[1]"), 400, "bad_json"),
        ("no body", raw(post("coupon-books"), json, ""), 400, "bad_json"),
        ("wrong type", raw(post("coupon-books"), "text/plain", "{}"), 415, "unsupported_media_type"),
        ("no type", post("coupon-books").body("{}"), 415, "unsupported_media_type"),
        ("wrong type of upload", raw(post("coupon-codes/upload"), json, "{}"), 415, "unsupported_media_type"),
        ("empty idempotency key", keyless, 422, "invalid"),
    ]
}

/// Requests with faults in the path, the query or the credentials.
fn bad_paths(admin: &Client, anonymous: &Client, book: &str) -> Vec<Case> {
    let get = |path: &str| admin.request(Method::GET, path);
    let bad_pattern = format!("coupon-codes/capacity?couponBookId={book}&pattern=%7B");
    vec![
        ("no credentials", anonymous.request(Method::GET, "jobs"), 401, "unauthorized"),
        ("unknown route", get("nothing"), 404, "not_found"),
        ("unknown route at the root", get("/nothing"), 404, "not_found"),
        ("wrong method", admin.request(Method::PATCH, "jobs"), 405, "method_not_allowed"),
        ("malformed id", get("coupon-books/7"), 404, "not_found"),
        ("malformed id of a job", get("jobs/x"), 404, "not_found"),
        ("unknown id", get("jobs/01890000-0000-7000-8000-000000000000"), 404, "not_found"),
        ("no code", get("coupons/%C3%B1"), 404, "not_found"),
        ("bad status", get("coupon-books?status=OPEN"), 422, "invalid"),
        ("bad cursor", get("coupon-books?cursor=x"), 422, "invalid"),
        ("limit of 0", get("coupon-books?limit=0"), 422, "invalid"),
        ("limit of 501", get("coupon-books?limit=501"), 422, "invalid"),
        ("limit that is not a number", get("coupon-books?limit=many"), 422, "invalid"),
        ("id in the query", get("coupon-codes/capacity?couponBookId=7"), 422, "invalid"),
        ("absent query", get("coupon-codes/capacity"), 422, "invalid"),
        ("bad pattern", get(&bad_pattern), 422, "invalid"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_is_a_problem_with_a_code_under_the_request_s_id() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let paths = bad_paths(&server.admin(), &server.anonymous(), &book);
    for (name, request, status, code) in bad_bodies(&server.admin()).into_iter().chain(paths) {
        let reply = Reply::to(request.header("X-Request-Id", "its-id.7")).await;
        let (outcome, expected) = (reply.outcome(), format!("{status} {code}"));
        assert_eq!(outcome, expected, "{name}: {}", reply.text);
        assert_eq!(reply.header("X-Request-Id"), "its-id.7", "{name}");
        let problem = reply.json();
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{name}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{name}: {problem}");
        assert_eq!(reply.rejected(status), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_id_that_is_strange_or_absent_is_replaced_by_a_new_one() {
    let server = Server::start().await;
    let anonymous = server.anonymous();
    let long = "x".repeat(129);
    for id in ["", "two words", "<script>", long.as_str()] {
        let reply =
            Reply::to(anonymous.request(Method::GET, "/health/live").header("X-Request-Id", id)).await;
        let given = reply.header("X-Request-Id");
        assert!(given != id && given.parse::<uuid::Uuid>().is_ok(), "{id:?} was replaced by {given:?}");
    }
    let [one, two] = [anonymous.get("/health/live").await, anonymous.get("/health/live").await];
    assert_ne!(one.header("X-Request-Id"), two.header("X-Request-Id"));
}

/// A path, a body, and its invalid fields.
type Fault = (&'static str, Value, &'static [&'static str]);

fn faults() -> Vec<Fault> {
    vec![
        (
            "coupon-books",
            json!({"maxCodesPerUser": "two", "requireLock": 1, "surprise": true}),
            &["maxCodesPerUser", "name", "requireLock", "surprise"],
        ),
        (
            "coupon-books",
            json!({"name": 7, "expiresAt": "tomorrow", "discount": {"type": "GIFT", "value": "x", "to": 1}}),
            &["discount.to", "discount.type", "discount.value", "expiresAt", "name"],
        ),
        (
            "coupon-books",
            json!({"expiresAt": "2020-01-01T00:00:00Z", "surprise": true}),
            &["expiresAt", "name", "surprise"],
        ),
        (
            "coupon-books",
            json!({"name": " ", "maxRedeemsPerUser": 0, "lockTtlSeconds": 86401, "totalCodesExpected": -1}),
            &["lockTtlSeconds", "maxRedeemsPerUser", "name", "totalCodesExpected"],
        ),
        (
            "coupon-books",
            json!({"name": "", "maxCodesPerUser": "two", "lockTtlSeconds": 0, "surprise": true}),
            &["lockTtlSeconds", "maxCodesPerUser", "name", "surprise"],
        ),
        (
            "coupon-codes/generate",
            json!({"quantity": 0, "pattern": "{Z}"}),
            &["couponBookId", "pattern", "quantity"],
        ),
        (
            "users",
            json!({"email": "nobody", "password": "short", "role": "SERVICE"}),
            &["email", "password", "role"],
        ),
        ("coupons/ABC/lock", json!({"ttlSeconds": 0, "userid": "ann"}), &["ttlSeconds", "userid"]),
        ("auth/login", json!({}), &["email", "password"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn all_faulty_fields_are_named_at_once() {
    let server = Server::start().await;
    let admin = server.admin();
    for (path, body, fields) in faults() {
        let problem = admin.post(path, body).await.expect(422);
        assert_eq!(fields_of(&problem), fields, "{path}: {problem}");
        assert_eq!(problem["code"], "invalid");
    }
    let book = server.book(json!({})).await;
    let change = json!({"name": null, "status": "OPEN", "createdAt": "2026-01-01T00:00:00Z"});
    let problem = admin.patch(&format!("coupon-books/{book}"), change).await.expect(422);
    assert_eq!(fields_of(&problem), ["createdAt", "name", "status"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_json_body_of_more_than_a_mebibyte_is_413_whether_its_length_is_told_or_not() {
    let server = Server::start().await;
    let admin = server.admin();
    let body = format!(r#"{{"name": "{}"}}"#, "x".repeat(1024 * 1024));
    let post = || admin.request(Method::POST, "coupon-books").header("Content-Type", "application/json");
    assert_eq!(Reply::to(post().body(body.clone())).await.rejected(413), "too_large");
    let pieces: Vec<_> =
        body.as_bytes().chunks(10_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let chunked = reqwest::Body::wrap_stream(futures::stream::iter(pieces));
    assert_eq!(Reply::to(post().body(chunked)).await.rejected(413), "too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_http_does_not_disturb_the_server() {
    let server = Server::start().await;
    let url =
        server.anonymous().request(Method::GET, "/health/live").build().expect("a request").url().clone();
    let host = url.authority().to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut connection = TcpStream::connect(host).expect("cannot connect to the server");
        connection.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n").expect("sending failed");
        let mut answer = Vec::new();
        // A reset is accepted too.
        let _ = connection.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    });
    let answer = answer.await.expect("the client panicked");
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    server.anonymous().get("/health/live").await.expect(200);
}

/// Invariant I-40.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_the_server_tells_nothing_of_its_inside() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    sqlx::query("alter table coupon_book rename column name to gone")
        .execute(server.database.pool())
        .await
        .expect("breaking the schema failed");
    for path in ["coupon-books".to_owned(), format!("coupon-books/{book}")] {
        let reply = server.admin().get(&path).await;
        for word in ["coupon_book", "column", "sql", "postgres", "panicked", ".rs"] {
            assert!(!reply.text.to_lowercase().contains(word), "{word} in {}", reply.text);
        }
        assert_eq!(reply.header("X-Request-Id").len(), 36);
        assert_eq!(reply.rejected(500), "internal");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_a_server_says_503_and_when_to_come_back() {
    let server = Server::start_with(crate::support::Limits { worker: false, ..Default::default() }).await;
    server.database.store().close().await;
    let reply = server.admin().get("coupon-books").await;
    assert_eq!(reply.header("Retry-After"), "1");
    assert_eq!(reply.rejected(503), "unavailable");
    let health = server.anonymous().get("/health").await.expect(503);
    assert_eq!((&health["status"], &health["database"]), (&json!("degraded"), &json!("disconnected")));
    server.anonymous().get("/health/ready").await.expect(503);
    server.anonymous().get("/health/live").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_allows_what_the_template_has_that_says_most_of_it() {
    let server = Server::start().await;
    for (path, allowed) in
        [("jobs/redrive", "POST"), ("jobs/01890000-0000-7000-8000-000000000000", "GET"), ("jobs", "GET")]
    {
        let reply = Reply::to(server.admin().request(Method::PATCH, path)).await;
        assert_eq!((reply.status, reply.header("allow")), (405, allowed), "{path}");
    }
}

/// A rejection that is stored with a key has the language of each request.
#[tokio::test(flavor = "multi_thread")]
async fn the_sentence_of_a_problem_is_in_the_language_that_the_request_prefers() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let assign = |language: &'static str| {
        server
            .admin()
            .request(Method::POST, "assignments/random")
            .header("Accept-Language", language)
            .header("Idempotency-Key", "one-key")
            .json(&json!({"couponBookId": book, "userId": "ana"}))
    };
    for (language, expected, tag) in [
        ("es-MX, en;q=0.5", "No quedan códigos libres.", "es"),
        ("fr", "the book has no free code left", "en"),
        ("en, es", "the book has no free code left", "en"),
        ("es", "No quedan códigos libres.", "es"),
    ] {
        let reply = Reply::to(assign(language)).await;
        assert_eq!(reply.outcome(), "409 sold_out", "{}", reply.text);
        assert_eq!((&reply.json()["detail"], reply.header("Content-Language")), (&json!(expected), tag));
        assert_eq!(reply.header("Vary"), "Accept-Language");
    }
    let unknown = server.admin().request(Method::GET, "coupons/ABC-1").header("Accept-Language", "es");
    let problem = Reply::to(unknown).await.rejected(404);
    assert_eq!(problem, "not_found");
    let bad = server.admin().request(Method::GET, "coupon-books?limit=0").header("Accept-Language", "es");
    let reply = Reply::to(bad).await;
    assert_eq!(reply.json()["detail"], "La petición no es válida. Campos que hay que corregir: limit.");
    let found = server.admin().request(Method::GET, "coupon-books").header("Accept-Language", "es");
    assert_eq!(Reply::to(found).await.header("Content-Language"), "");
}
