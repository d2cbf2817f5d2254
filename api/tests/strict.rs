//! Ambiguous requests are rejected, and rejections disclose nothing. The tests send raw bytes, because clients do not send such
//! requests.

use cuponera_testkit::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Limits, Reply, Server, ask, id_of};

async fn without_worker() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

/// A name, the bytes, and the beginning of the answer.
type Case<'a> = (&'a str, String, &'a str);

async fn assert_answers(server: &Server, cases: Vec<Case<'_>>) {
    let address = server.anonymous().address();
    for (name, request, expected) in cases {
        let answer = ask("127.0.0.1", &address, &request).await;
        assert!(answer.starts_with(expected), "{name}: {answer}");
        let answers = answer.matches("HTTP/1.1 ").count();
        assert_eq!(answers, expected.matches("HTTP/1.1 ").count(), "{name}: {answer}");
    }
}

fn get(headers: &str) -> String {
    format!("GET /health/live HTTP/1.1\r\n{headers}Connection: close\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let server = without_worker().await;
    let cases = vec![
        ("one host", get("Host: shop.test\r\n"), "HTTP/1.1 200 "),
        ("with a port", get("Host: shop.test:8080\r\n"), "HTTP/1.1 200 "),
        ("an address of IPv6", get("Host: [::1]:8080\r\n"), "HTTP/1.1 200 "),
        ("no host", get(""), "HTTP/1.1 400 "),
        ("no host before HTTP/1.1", "GET /health/live HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 400 "),
        ("an empty host", get("Host:\r\n"), "HTTP/1.1 400 "),
        ("two hosts", get("Host: a\r\nHost: b\r\n"), "HTTP/1.1 400 "),
        ("the same host twice", get("Host: a\r\nhost: a\r\n"), "HTTP/1.1 400 "),
        ("two hosts in one", get("Host: a, b\r\n"), "HTTP/1.1 400 "),
        ("a host with a path", get("Host: a/b\r\n"), "HTTP/1.1 400 "),
        ("a host with bytes that are no text", get("Host: \u{fc}\r\n"), "HTTP/1.1 400 "),
    ];
    assert_answers(&server, cases).await;
    let answer = ask("127.0.0.1", &server.anonymous().address(), get("")).await;
    assert!(answer.contains("\"bad_request\"") && answer.contains("one Host header"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_head_end_with_cr_lf() {
    let server = without_worker().await;
    let request = |lines: &str| format!("{lines}Connection: close\r\n\r\n");
    let next = "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let post = |body: &str| {
        let length = body.len();
        format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let cases = vec![
        (
            "a bare LF after the request line",
            request("GET /health/live HTTP/1.1\nHost: a\r\n"),
            "HTTP/1.1 400 ",
        ),
        ("after a header", request("GET /health/live HTTP/1.1\r\nHost: a\nX: y\r\n"), "HTTP/1.1 400 "),
        (
            "at the end",
            "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\n".to_owned(),
            "HTTP/1.1 400 ",
        ),
        (
            "everywhere",
            "GET /health/live HTTP/1.1\nHost: a\nConnection: close\n\n".to_owned(),
            "HTTP/1.1 400 ",
        ),
        ("before the request", format!("\n{next}"), "HTTP/1.1 400 "),
        ("a bare CR", request("GET /health/live HTTP/1.1\r\nHost: a\rX: y\r\n"), "HTTP/1.1 400 "),
        ("a line that goes on", request("GET /health/live HTTP/1.1\r\nHost: a\r\n b\r\n"), "HTTP/1.1 400 "),
        ("LF in a body", format!("{}{next}", post("{\n\n}\n")), "HTTP/1.1 422 "),
    ];
    for (name, request, expected) in cases {
        let answer = ask("127.0.0.1", &server.anonymous().address(), &request).await;
        assert!(answer.starts_with(expected), "{name}: {answer}");
        let is_followed = answer.contains("HTTP/1.1 200 ");
        assert_eq!(is_followed, expected == "HTTP/1.1 422 ", "{name}: {answer}");
    }
    // In a second request, after a body that contains line feeds.
    let second = format!("{}GET /health/live HTTP/1.1\nHost: a\r\n\r\n", post("{\n\n}\n"));
    let answer = ask("127.0.0.1", &server.anonymous().address(), second).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_chunked_body_is_the_last_of_its_connection() {
    let server = without_worker().await;
    let chunked = "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                   Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let next = "GET /health/live HTTP/1.1\nHost: a\n\n";
    let answer = ask("127.0.0.1", &server.anonymous().address(), format!("{chunked}{next}")).await;
    assert!(answer.starts_with("HTTP/1.1 422 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_comes_once() {
    let server = without_worker().await;
    let request = || server.admin().request(Method::POST, "coupon-books").json(&json!({"name": "A book"}));
    let twice = Reply::to(request().header("Idempotency-Key", "a").header("Idempotency-Key", "a")).await;
    assert_eq!(twice.rejected(400), "bad_request");
    Reply::to(request().header("Idempotency-Key", "a")).await.expect(201);
    let books = server.admin().get("coupon-books").await.expect(200);
    assert_eq!(books["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_a_client_makes_up_are_answered_with_64_characters_at_most() {
    let server = without_worker().await;
    let (long, cut) = ("\u{fc}".repeat(500), "\u{fc}".repeat(64));
    let field_of = |problem: Value| problem["errors"][0]["field"].as_str().unwrap_or_default().to_owned();
    let unknown = json!({"name": "A book", long.clone(): 1});
    let unknown = server.admin().post("coupon-books", unknown).await.expect(422);
    assert_eq!(field_of(unknown), cut);
    let twice = format!("{{\"name\": \"A book\", \"metadata\": {{\"{long}\": 1, \"{long}\": 2}}}}");
    let request =
        server.admin().request(Method::POST, "coupon-books").header("Content-Type", "application/json");
    let problem = Reply::to(request.body(twice)).await.expect(422);
    assert!(field_of(problem).chars().count() == 64);
    let query = server.admin().get(&format!("coupon-books?{}=1", "x".repeat(500))).await.expect(422);
    assert_eq!(field_of(query), "x".repeat(64));
}

/// Without required fields, and with an unknown field.
fn faulty() -> Value {
    json!({"nothing": 1})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_the_right_is_not_told_which_fields_are_faulty() {
    let server = without_worker().await;
    let (book, other) = (server.book(json!({})).await, server.book(json!({})).await);
    server.plant(&book, &["A-CODE"]).await;
    let limited = server.admin().post("api-keys", json!({"name": "A key", "couponBookIds": [other]})).await;
    let limited = limited.expect(201)["key"].as_str().expect("a key").to_owned();
    let limited = server.anonymous().with_key(&limited);
    let (user, service) = (server.user("ann"), server.service());
    let of_book = format!("coupon-books/{book}");
    let rejected: Vec<(&str, &Client, Method, &str)> = vec![
        ("a USER makes a book", &user, Method::POST, "coupon-books"),
        ("a USER makes codes", &user, Method::POST, "coupon-codes/generate"),
        ("a USER changes a book", &user, Method::PATCH, &of_book),
        ("a SERVICE makes an account", &service, Method::POST, "users"),
        ("a SERVICE makes a key", &service, Method::POST, "api-keys"),
        ("a key changes another book", &limited, Method::PATCH, &of_book),
        ("a key replaces another book", &limited, Method::PUT, &of_book),
        ("a key locks a code of another book", &limited, Method::POST, "coupons/A-CODE/lock"),
        ("a key redeems a code of another book", &limited, Method::POST, "coupons/A-CODE/redeem"),
        ("a key assigns a code of another book", &limited, Method::POST, "assignments/A-CODE"),
    ];
    for (name, who, method, path) in rejected {
        let reply = Reply::to(who.request(method.clone(), path).json(&faulty())).await;
        assert_eq!(reply.status, 403, "{name}: {}", reply.text);
        assert!(!reply.text.contains("nothing"), "{name}: {}", reply.text);
        let broken = who.request(method, path).header("Content-Type", "application/json").body("{");
        assert_eq!(Reply::to(broken).await.status, 403, "{name}, with a body that is no JSON");
    }
    let own =
        Reply::to(limited.request(Method::PATCH, &format!("coupon-books/{other}")).json(&faulty())).await;
    assert_eq!(own.rejected(422), "invalid");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_file_is_an_attachment() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let job = id_of(&server.upload(&book, "code\nno code!\n").await.expect(202));
    let reply = eventually("the file", async || {
        let reply = server.admin().get(&format!("jobs/{job}/errors")).await;
        reply.text.contains("no code!").then_some(reply)
    })
    .await;
    assert_eq!(reply.header("Content-Disposition"), format!("attachment; filename=\"{job}-errors.csv\""));
}
