//! Access to the metrics, and the metrics of requests. All servers of these tests share the metrics of one process, so the
//! tests read only series that no other test changes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cuponera_platform::telemetry::MetricsAccess;
use cuponera_testkit::eventually;
use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Limits, Reply, Server};

/// The value of a series; 0 if there is none.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a number"))
}

async fn scrape(client: &Client) -> String {
    let reply = client.get("/metrics").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    reply.text
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_told_to_this_machine_and_not_to_whom_a_proxy_speaks_for() {
    let mut limits = Limits::default();
    limits.callers.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    let server = Server::start_with(limits).await;
    let anonymous = server.anonymous();
    scrape(&anonymous).await;
    let proxies = [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("Forwarded", "for=127.0.0.1"),
        ("Via", "1.1 proxy"),
        ("X-Real-IP", "127.0.0.1"),
        ("CF-Connecting-IP", "203.0.113.9"),
        ("True-Client-IP", "203.0.113.9"),
    ];
    for (header, said) in proxies {
        let reply = Reply::to(anonymous.request(Method::GET, "/metrics").header(header, said)).await;
        assert_eq!(reply.rejected(403), "forbidden", "{header}: {said}");
    }
    for host in ["shop.test", "127.0.0.1.shop.test", "10.0.0.1:8080", "localhost.shop.test", "[2001:db8::1]"]
    {
        let reply = Reply::to(anonymous.request(Method::GET, "/metrics").header("Host", host)).await;
        assert_eq!(reply.rejected(403), "forbidden", "{host}");
    }
    for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "[::1]"] {
        let reply = Reply::to(anonymous.request(Method::GET, "/metrics").header("Host", host)).await;
        assert_eq!(reply.status, 200, "{host}: {}", reply.text);
    }
    assert_eq!(anonymous.post("/metrics", json!({})).await.rejected(405), "method_not_allowed");
    assert_eq!(anonymous.get("/api/v1/metrics").await.rejected(404), "not_found");
}

/// The address of this machine in its network, if it has one.
fn outer_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: the system only selects the source address.
    socket.connect("198.51.100.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_not_told_to_other_machines() {
    let Some(outer) = outer_address() else { return };
    let server = Server::start().await;
    let base = server.another_api_at(outer).await;
    let reply = server.anonymous().at(&base).get("/metrics").await;
    assert_eq!(reply.rejected(403), "forbidden");
    assert_eq!(server.anonymous().at(&base).get("/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_with_an_address_of_their_own_are_not_on_the_api_s() {
    let server =
        Server::start_with(Limits { metrics_access: MetricsAccess::OwnAddress, ..Limits::default() }).await;
    assert_eq!(server.anonymous().get("/metrics").await.rejected(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_counted_by_template_method_and_class_and_nothing_that_callers_choose() {
    let server = Server::start().await;
    let (admin, code) = (server.admin(), "CANARY-METRIC-CODE");
    let of = |method: &str, class: &str| {
        format!(
            "cuponera_http_requests_total{{method=\"{method}\",route=\"/api/v1/coupons/{{code}}/history\",status=\"{class}\"}}"
        )
    };
    let before = scrape(&admin).await;
    admin.get(&format!("coupons/{code}/history")).await.rejected(404);
    let brew = Method::from_bytes(b"BREW").expect("a method");
    assert_eq!(Reply::to(admin.request(brew, &format!("coupons/{code}/history"))).await.status, 405);
    admin.get(&format!("/{code}?{code}={code}")).await.rejected(404);
    let after = scrape(&admin).await;
    assert!(value(&after, &of("GET", "4xx")) > value(&before, &of("GET", "4xx")), "{after}");
    assert!(value(&after, &of("other", "4xx")) > value(&before, &of("other", "4xx")), "{after}");
    let elsewhere = "cuponera_http_requests_total{method=\"GET\",route=\"elsewhere\",status=\"4xx\"}";
    assert!(value(&after, elsewhere) > 0.0, "{after}");
    assert!(!after.contains("CANARY") && !after.contains("BREW"), "{after}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_coupons_jobs_and_locks_is_counted() {
    let server = Server::start().await;
    let (admin, book) = (server.admin(), server.book(json!({})).await);
    let before = scrape(&admin).await;
    server.plant(&book, &["A-CODE"]).await;
    server.give("A-CODE", "ann").await;
    admin.post("coupons/A-CODE/lock", json!({"userId": "ann", "ttlSeconds": 1})).await.expect(200);
    admin.post("coupons/A-CODE/lock", json!({"userId": "bob"})).await.rejected(409);
    let expected = [
        "cuponera_jobs_submitted_total{kind=\"IMPORT_CODES\"}",
        "cuponera_jobs_finished_total{kind=\"IMPORT_CODES\",status=\"SUCCEEDED\"}",
        "cuponera_chunks_total{kind=\"IMPORT_CODES\",outcome=\"done\"}",
        "cuponera_chunk_duration_seconds_count{kind=\"IMPORT_CODES\"}",
        "cuponera_coupon_writes_total{kind=\"assign_named\",outcome=\"done\"}",
        "cuponera_coupon_writes_total{kind=\"lock\",outcome=\"done\"}",
        "cuponera_coupon_writes_total{kind=\"lock\",outcome=\"refused\"}",
        "cuponera_lane_batch_calls_count{kind=\"lock\"}",
        "cuponera_locks_expired_total",
    ];
    eventually("all requests to be counted", async || {
        let after = scrape(&admin).await;
        let grown = |series: &&str| value(&after, series) > value(&before, series);
        expected.iter().all(grown).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_a_limit_is_counted_under_it() {
    let mut limits = Limits::default();
    limits.callers.anonymous =
        Some(cuponera_platform::config::Rate::per_minute(1.try_into().expect("not zero")));
    let server = Server::start_with(limits).await;
    let series = "cuponera_http_rate_limited_total{limit=\"anonymous\"}";
    let before = value(&scrape(&server.anonymous()).await, series);
    for _ in 0..3 {
        server.anonymous().get("jobs").await;
    }
    assert!(value(&scrape(&server.anonymous()).await, series) > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_connections_are_shown_until_they_are_closed() {
    let server = Server::start().await;
    let base = server.another_api().await;
    let address = base.strip_prefix("http://").expect("an address");
    let held: Vec<TcpStream> = (0..200).map(|_| connect(address)).collect();
    let open = async || value(&scrape(&server.anonymous()).await, "cuponera_http_connections");
    assert!(open().await >= 200.0);
    drop(held);
    eventually("the connections to be closed", async || (open().await < 200.0).then_some(())).await;
}

/// A connection that has received an answer and stays open.
fn connect(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server does not listen");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time-out");
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: here\r\n\r\n").expect("the connection is closed");
    let mut answer = [0; 64];
    assert!(stream.read(&mut answer).expect("no answer") > 0);
    stream
}
