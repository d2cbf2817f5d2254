//! Slow, silent and endless clients: their connections are closed, and others are served meanwhile.

mod connections;
mod readers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cuponera_api::Limits as Callers;
use cuponera_testkit::eventually;
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{Client, Limits, Reply, Server};

type UploadSender = mpsc::Sender<Result<Bytes, std::io::Error>>;

const SLOW_CLIENTS: usize = 2_000;
/// Maximum duration of other requests while all clients connect. A request that was shut out would wait for 10 s.
const SERVED: Duration = Duration::from_secs(8);
/// Interval between two bytes of a slow client.
const DRIBBLE: Duration = Duration::from_millis(500);

/// A limit on connections. Loopback counts as a proxy, so it may have all of them.
fn behind_a_proxy(connections: Option<usize>) -> Callers {
    let trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    Callers { connections, trusted_proxies, ..Callers::default() }
}

/// The bytes that a slow client sends immediately.
fn opening(client: usize, token: &str) -> String {
    match client % 4 {
        0 => String::new(),
        1 => "GET /health/live HTTP/1.1\r\nHost: a\r\nX-Slow: ".to_owned(),
        2 => "POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n\r\n{"
            .to_owned(),
        _ => format!(
            "POST /api/v1/coupon-books HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: 90000\r\n\r\n{{"
        ),
    }
}

/// Sends a byte at a time until the server closes the connection; returns the server's answer.
async fn dribble(address: String, opening: String) -> String {
    let mut stream = TcpStream::connect(address).await.expect("cannot connect to the server");
    stream.write_all(opening.as_bytes()).await.expect("the server closed the connection immediately");
    let mut answer = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        loop {
            tokio::time::sleep(DRIBBLE).await;
            if !opening.is_empty() && writer.write_all(b"a").await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        // The server answers or just closes.
        _ = reader.read_to_end(&mut answer) => {}
        () = write => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_slow_clients_are_shown_out_and_others_are_served_meanwhile() {
    let callers = behind_a_proxy(None);
    let server = Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await;
    let admin = server.admin();
    // Puts the admin into the credential cache. Otherwise a thousand requests would queue for the look-up.
    admin.get("coupon-books").await.expect(200);
    let (address, token) = (admin.address(), admin.token().expect("an admin has a token").to_owned());
    let begun = Instant::now();
    let mut slow: JoinSet<String> =
        (0..SLOW_CLIENTS).map(|client| dribble(address.clone(), opening(client, &token))).collect();
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    let mut ends = Vec::new();
    while ends.len() < SLOW_CLIENTS {
        let asked = Instant::now();
        admin.apart().await.get("coupon-books").await.expect(200);
        slowest = slowest.max(asked.elapsed());
        answered += 1;
        while let Some(end) = slow.try_join_next() {
            ends.push(end.expect("a slow client failed"));
        }
        assert!(
            begun.elapsed() < Duration::from_mins(1),
            "{} clients are still connected",
            SLOW_CLIENTS - ends.len()
        );
    }
    let timed_out = ends.iter().filter(|answer| answer.starts_with("HTTP/1.1 408")).count();
    println!(
        "{answered} requests served, the slowest in {slowest:?}; all slow clients closed after {:?}",
        begun.elapsed()
    );
    assert_eq!(timed_out, SLOW_CLIENTS / 2, "each client with a complete head gets 408");
    assert!(slowest < SERVED, "{slowest:?}");
}

/// An endless body. Counts the bytes that were read of it.
fn endless(taken: &Arc<AtomicU64>, begin: &'static str) -> reqwest::Body {
    const PIECE: &[u8] = &[b'a'; 64 * 1024];
    let taken = taken.clone();
    let begin = stream::once(async move { Bytes::from_static(begin.as_bytes()) });
    let pieces = stream::repeat(Bytes::from_static(PIECE)).take(4_096);
    reqwest::Body::wrap_stream(begin.chain(pieces).map(move |piece| {
        taken.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok::<_, std::io::Error>(piece)
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_not_held_in_memory_where_it_has_no_file() {
    const MOST: u64 = 16 * 1024 * 1024;
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let head = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"";
    let field = "--b\r\nContent-Disposition: form-data; name=\"dryRun\"\r\n\r\n";
    for (begin, status) in [("", 400), ("--b\r\n", 400), (head, 400), (field, 422)] {
        let taken = Arc::new(AtomicU64::new(0));
        let request = server.admin().request(Method::POST, "coupon-codes/upload");
        let request = request.header("Content-Type", "multipart/form-data; boundary=b");
        // The answer may arrive while the body is still being sent.
        match request.body(endless(&taken, begin)).send().await {
            Ok(response) => assert_eq!(response.status(), status, "{begin:?}"),
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < MOST, "{begin:?}: {taken} bytes were read");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_refused() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    for path in ["coupon-books", "coupon-codes/upload", "auth/login"] {
        for encoding in ["gzip", "br", "deflate, gzip"] {
            let request = server.admin().request(Method::POST, path).header("Content-Encoding", encoding);
            let reply = Reply::to(request.json(&json!({}))).await;
            assert_eq!(reply.rejected(415), "unsupported_media_type", "{path} {encoding}");
        }
    }
    let request = server.admin().request(Method::POST, "coupon-books").header("Content-Encoding", "identity");
    Reply::to(request.json(&json!({"name": "A book"}))).await.expect(201);
}

/// An upload that continues until its sender is dropped.
async fn open_upload(client: &Client, book: &str) -> (UploadSender, JoinHandle<Reply>) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    }));
    let path = format!("coupon-codes/upload?couponBookId={book}");
    let request = client.request(Method::POST, &path).header("Content-Type", "text/csv").body(body);
    let answer = tokio::spawn(Reply::to(request));
    // A rejected upload may have ended already; its reply shows this.
    let _ = sender.send(Ok(Bytes::from_static(b"code\n"))).await;
    (sender, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn more_uploads_than_one_caller_has_places_for_are_told_to_come_back_and_a_place_is_free_again() {
    const PLACES: usize = 8;
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    let mut held = Vec::new();
    for _ in 0..=PLACES {
        held.push(open_upload(&server.admin(), &book).await);
    }
    let one_too_many = async || held.iter().position(|(_, answer)| answer.is_finished());
    let rejected = held.remove(eventually("an upload to be rejected", one_too_many).await).1;
    let rejected = rejected.await.expect("the client failed");
    assert_eq!(rejected.header("retry-after"), "1");
    assert_eq!(rejected.rejected(503), "overloaded");
    let others = server.service().on_address(std::net::Ipv4Addr::new(127, 0, 0, 9).into());
    let others = others.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
    let others = others.header("Content-Type", "text/csv").body("code\nOF-ANOTHER\n");
    Reply::to(others).await.expect(202);
    held.truncate(PLACES / 2);
    eventually("a slot to be free", async || {
        (server.upload(&book, "code\nONE-MORE\n").await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_refused_while_it_comes_in_is_told_why() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (admin, book) = (server.admin(), server.book(json!({})).await);
    let token = admin.token().expect("an admin has a token").to_owned();
    let head = format!(
        "POST /api/v1/coupon-codes/upload?couponBookId={book} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: text/csv\r\nContent-Length: 50000000\r\n\r\ncode\n\"an open quote"
    );
    for _ in 0..20 {
        let mut stream = TcpStream::connect(admin.address()).await.expect("cannot connect to the server");
        stream.write_all(head.as_bytes()).await.expect("the server closed the connection immediately");
        let (mut reader, mut writer) = stream.split();
        // The client sends until it has read the answer, as a distant client does.
        let piece = vec![b'a'; 64 * 1024];
        let mut answer = [0; 4_096];
        let read = loop {
            tokio::select! {
                biased;
                read = reader.read(&mut answer) => break read.expect("the connection was reset before the answer"),
                sent = writer.write_all(&piece) => sent.expect("the connection was closed before the answer"),
            }
        };
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
        // The client sends a little more; a client that reads late must still get the answer.
        for _ in 0..4 {
            writer.write_all(&piece).await.expect("the connection was closed while the client still sent");
        }
    }
}
