//! Headers for browsers: the origins that may call the API, and the restrictions on responses.

use cuponera_platform::config::Origin;
use reqwest::Method;

use crate::support::{Limits, Reply, Server};

async fn with_origins(origins: &[&str]) -> Server {
    let cors_origins: Vec<Origin> = origins.iter().map(|origin| origin.parse().expect("an origin")).collect();
    Server::start_with(Limits { worker: false, cors_origins, ..Limits::default() }).await
}

async fn preflight(server: &Server, origin: &str) -> Reply {
    let request = server.anonymous().request(Method::OPTIONS, "coupon-books").header("Origin", origin);
    Reply::to(request.header("Access-Control-Request-Method", "POST")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_forbids_what_browsers_would_do_with_it() {
    let server = with_origins(&[]).await;
    for (client, path, status) in [
        (server.admin(), "coupon-books", 200),
        (server.anonymous(), "coupon-books", 401),
        (server.anonymous(), "/nowhere", 404),
        (server.anonymous(), "/openapi.json", 200),
        (server.anonymous(), "/docs", 200),
    ] {
        let reply = client.get(path).await;
        assert_eq!(reply.status, status, "{path}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(reply.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(reply.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(reply.header("cache-control"), "no-store", "{path}");
        let policy = reply.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert_eq!(policy.contains("unsafe-inline"), path == "/docs", "{path}: {policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_pages_of_the_origins_in_the_settings_may_call() {
    let server = with_origins(&["https://shop.example", "http://localhost:5173"]).await;
    let allowed = preflight(&server, "https://shop.example").await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET, POST");
    assert!(allowed.header("access-control-allow-headers").contains("Idempotency-Key"));
    assert_eq!(allowed.header("vary"), "Origin");
    let answer =
        server.admin().request(Method::GET, "coupon-books").header("Origin", "http://localhost:5173");
    let answer = Reply::to(answer).await;
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:5173");
    assert!(answer.header("access-control-expose-headers").contains("X-Request-Id"));
    // A page can read rejections too.
    let rejected =
        server.anonymous().request(Method::GET, "coupon-books").header("Origin", "https://shop.example");
    let rejected = Reply::to(rejected).await;
    assert_eq!(rejected.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(rejected.rejected(401), "unauthorized");
    for stranger in
        ["https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"]
    {
        let rejected = preflight(&server, stranger).await;
        assert_eq!(rejected.header("access-control-allow-origin"), "", "{stranger}");
        let read = server.admin().request(Method::GET, "coupon-books").header("Origin", stranger);
        let read = Reply::to(read).await;
        assert_eq!((read.status, read.header("access-control-allow-origin")), (200, ""), "{stranger}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_star_lets_all_pages_call_but_without_cookies_and_no_origin_lets_none() {
    let server = with_origins(&["*"]).await;
    let anybody = preflight(&server, "https://anybody.example").await;
    assert_eq!(anybody.header("access-control-allow-origin"), "*");
    assert_eq!(anybody.header("access-control-allow-credentials"), "");
    let server = with_origins(&[]).await;
    let rejected = preflight(&server, "https://anybody.example").await;
    assert_eq!(rejected.header("access-control-allow-origin"), "");
    assert_eq!(rejected.rejected(405), "method_not_allowed");
}
