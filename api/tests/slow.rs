//! Clients that are slow, silent or without end: they are shown out, and others are served meanwhile.

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
/// How long those who are not slow may wait, with all others connecting: who was shut out would be so for 10 s.
const SERVED: Duration = Duration::from_secs(8);
/// Between two bytes of a slow client.
const DRIBBLE: Duration = Duration::from_millis(500);

/// A limit on connections, of which loopback may have all: it counts as a proxy.
fn behind_a_proxy(connections: Option<usize>) -> Callers {
    let trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
    Callers { connections, trusted_proxies, ..Callers::default() }
}

/// What a slow client has said before it begins to dribble.
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

/// Dribbles until the server has had enough; gives back what it said at last.
async fn dribble(address: String, opening: String) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server takes no connections");
    stream.write_all(opening.as_bytes()).await.expect("the server has closed at once");
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
        // Whether it ends with an answer or is cut off.
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
    // Who the admin is, is remembered: looked up only now, a thousand requests would queue for it.
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
        assert!(begun.elapsed() < Duration::from_mins(1), "{} are still there", SLOW_CLIENTS - ends.len());
    }
    let timed_out = ends.iter().filter(|answer| answer.starts_with("HTTP/1.1 408")).count();
    println!("{answered} served, the slowest in {slowest:?}; all slow ones gone after {:?}", begun.elapsed());
    assert_eq!(timed_out, SLOW_CLIENTS / 2, "those with an honest head are told why");
    assert!(slowest < SERVED, "{slowest:?}");
}

/// A body without end; counts what was taken of it.
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
        // The answer may come while the body is still being sent.
        match request.body(endless(&taken, begin)).send().await {
            Ok(response) => assert_eq!(response.status(), status, "{begin:?}"),
            Err(error) => assert!(error.is_request() || error.is_body(), "{error:?}"),
        }
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken < MOST, "{begin:?}: {taken} bytes were taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_bodies_are_refused() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    for path in ["coupon-books", "coupon-codes/upload", "auth/login"] {
        for encoding in ["gzip", "br", "deflate, gzip"] {
            let request = server.admin().request(Method::POST, path).header("Content-Encoding", encoding);
            let reply = Reply::to(request.json(&json!({}))).await;
            assert_eq!(reply.refused(415), "unsupported_media_type", "{path} {encoding}");
        }
    }
    let request = server.admin().request(Method::POST, "coupon-books").header("Content-Encoding", "identity");
    Reply::to(request.json(&json!({"name": "A book"}))).await.expect(201);
}

/// An upload that lasts until its sender is dropped.
async fn open_upload(client: &Client, book: &str) -> (UploadSender, JoinHandle<Reply>) {
    let (sender, receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = reqwest::Body::wrap_stream(stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    }));
    let path = format!("coupon-codes/upload?couponBookId={book}");
    let request = client.request(Method::POST, &path).header("Content-Type", "text/csv").body(body);
    let answer = tokio::spawn(Reply::to(request));
    // One that is refused may have ended by now; its answer says so.
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
    let refused = held.remove(eventually("an upload to be refused", one_too_many).await).1;
    let refused = refused.await.expect("the client failed");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.refused(503), "overloaded");
    let others = server.service().on_address(std::net::Ipv4Addr::new(127, 0, 0, 9).into());
    let others = others.request(Method::POST, &format!("coupon-codes/upload?couponBookId={book}"));
    let others = others.header("Content-Type", "text/csv").body("code\nOF-ANOTHER\n");
    Reply::to(others).await.expect(202);
    held.truncate(PLACES / 2);
    eventually("a place to be free", async || {
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
        let mut stream = TcpStream::connect(admin.address()).await.expect("the server takes no connections");
        stream.write_all(head.as_bytes()).await.expect("the server has closed at once");
        let (mut reader, mut writer) = stream.split();
        // It goes on sending until it has read the answer, as a client far away does.
        let piece = vec![b'a'; 64 * 1024];
        let mut answer = [0; 4_096];
        let read = loop {
            tokio::select! {
                biased;
                read = reader.read(&mut answer) => break read.expect("the answer was taken back"),
                sent = writer.write_all(&piece) => sent.expect("the connection was closed before the answer"),
            }
        };
        let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
        assert!(answer.starts_with("HTTP/1.1 422"), "{answer}");
        // And a little longer: the answer must still be there for whoever reads it late.
        for _ in 0..4 {
            writer.write_all(&piece).await.expect("the connection was closed on what was still coming");
        }
    }
}
