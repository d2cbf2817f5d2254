//! Limits of connections, in total and for one address, and of the size of a request's head.

use std::time::Duration;

use cuponera_api::Limits as Callers;
use cuponera_testkit::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::behind_a_proxy;
use crate::support::{Limits, Server, ask, connect_from, read_all};

/// Longer than the timeout of a first head (10 s), and shorter than that of later ones (75 s).
const SHOWN_OUT: Duration = Duration::from_mins(1);

async fn without_worker() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

/// Sends a request on a separate connection.
async fn ask_from(source: &str, server: &str) -> String {
    ask(source, server, "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await
}

pub(super) async fn ask_for_health(server: &str) -> String {
    ask_from("127.0.0.1", server).await
}

#[track_caller]
fn assert_refused(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 1") && answer.contains("\"overloaded\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_a_quarter_of_the_connections_and_others_are_served() {
    let server = without_worker().await;
    let callers = Callers { connections: Some(16), ..Callers::default() };
    let address = server.another_api_limited(callers).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(connect_from("127.0.0.7", &address).await);
    }
    assert_refused(&ask_from("127.0.0.7", &address).await);
    assert!(ask_from("127.0.0.8", &address).await.starts_with("HTTP/1.1 200 "));
    silent.pop();
    eventually("a slot to be free", async || {
        ask_from("127.0.0.7", &address).await.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_connection_is_closed_and_its_slot_is_free_again() {
    let server = without_worker().await;
    let address = server.another_api_limited(behind_a_proxy(Some(2))).await;
    let mut silent = [connect_from("127.0.0.1", &address).await, connect_from("127.0.0.1", &address).await];
    silent[1]
        .write_all(b"GET /health/live HTTP/1.1\r\nHost:")
        .await
        .expect("the server closed the connection immediately");
    assert_refused(&ask_for_health(&address).await);
    for silent in &mut silent {
        let answer = timeout(SHOWN_OUT, read_all(silent)).await.expect("the connection is still open");
        assert_eq!(answer, "");
    }
    eventually("a slot to be free", async || {
        ask_for_health(&address).await.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

/// Invariant I-35.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_connections_are_taken_the_next_is_refused_and_those_at_work_are_not_disturbed() {
    const CONNECTIONS: usize = 6;
    let server = without_worker().await;
    let (admin, book) = (server.admin(), server.book(json!({})).await);
    let address = server.another_api_limited(behind_a_proxy(Some(CONNECTIONS))).await;
    let head = format!(
        "POST /api/v1/coupon-codes/upload?couponBookId={book} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
         Content-Type: text/csv\r\nContent-Length: 12\r\nConnection: close\r\n\r\ncode\n",
        admin.token().expect("an admin has a token")
    );
    let mut uploads = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut upload = connect_from("127.0.0.1", &address).await;
        upload.write_all(head.as_bytes()).await.expect("the server closed the connection immediately");
        uploads.push(upload);
    }
    for _ in 0..50 {
        assert_refused(&ask_for_health(&address).await);
    }
    for mut upload in uploads {
        upload.write_all(b"A-CODE\n").await.expect("the upload has ended");
        let answer = read_all(&mut upload).await;
        assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    }
}

/// A head of this many bytes, complete or not.
fn head(bytes: usize, end: &str) -> String {
    let begin = "GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: ";
    format!("{begin}{}{end}", "a".repeat(bytes - begin.len() - end.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_up_to_32_kib_is_answered_and_a_larger_one_is_431_before_it_has_ended() {
    const KIB: usize = 1024;
    let server = without_worker().await;
    let address = server.anonymous().address();
    let cases = [
        (head(32 * KIB, "\r\n\r\n"), "HTTP/1.1 200 "),
        (head(32 * KIB + 1, "\r\n\r\n"), "HTTP/1.1 431 "),
        (head(32 * KIB, ""), "HTTP/1.1 431 "),
        (head(1024 * KIB, ""), "HTTP/1.1 431 "),
    ];
    for (head, expected) in cases {
        let mut stream = connect_from("127.0.0.1", &address).await;
        let (mut reader, mut writer) = stream.split();
        let mut answer = [0; 13];
        let (read, _) = tokio::join!(reader.read_exact(&mut answer), writer.write_all(head.as_bytes()));
        read.expect("the connection was closed without an answer");
        assert_eq!(String::from_utf8_lossy(&answer), expected, "{} bytes", head.len());
    }
}

/// A client that keeps connections open would send its next request on this one.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_to_an_unread_body_says_that_the_connection_is_closed() {
    let server = without_worker().await;
    let address = server.anonymous().address();
    let cases = [
        ("auth/login", 2, "400", false),
        ("auth/login", 1_000_000, "400", false),
        ("auth/login", 3_000_000, "413", true),
        // Rejected before the body is read.
        ("coupon-books", 8_000, "401", true),
        ("coupon-books", 2, "401", true),
    ];
    for (path, length, status, closes) in cases {
        let request = format!(
            "POST /api/v1/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{}",
            " ".repeat(length)
        );
        let mut stream = connect_from("127.0.0.1", &address).await;
        let (mut answer, (mut reader, mut writer)) = (Vec::new(), stream.split());
        let read = async {
            while !answer.ends_with(b"}") {
                assert_ne!(reader.read_buf(&mut answer).await.expect("the connection was reset"), 0);
            }
        };
        tokio::join!(read, async { writer.write_all(request.as_bytes()).await.expect("it was reset") });
        let answer = String::from_utf8_lossy(&answer).to_lowercase();
        assert!(answer.starts_with(&format!("http/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains("\r\nconnection: close\r\n"), closes, "{path}, {length} bytes: {answer}");
    }
}
