//! Clients that read answers too slowly: the server closes their connections, however they divide their reads, and
//! frees their slots.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_store::Pools;
use cuponera_testkit::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::behind_a_proxy;
use super::connections::ask_for_health;
use crate::support::{Limits, Server, id_of, wait_for_job};

/// Interval between reads.
const A_LITTLE: Duration = Duration::from_millis(100);

/// Sends a request with a very small receive buffer.
async fn ask(server: &str, path: &str, token: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("cannot create a socket");
    socket.set_recv_buffer_size(4_096).expect("cannot set the socket option");
    let mut stream =
        socket.connect(server.parse().expect("an address")).await.expect("cannot connect to the server");
    let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("the server closed the connection");
    stream
}

/// Reads a few bytes at a time until the server closes the connection. Asserts that the slot is taken until then and
/// free afterwards.
async fn read_slowly(server: &str, mut stream: TcpStream) {
    assert!(ask_for_health(server).await.starts_with("HTTP/1.1 503 "), "the slot is not taken");
    let mut few = [0; 16];
    // The next bytes may arrive late: the kernel decides when it sends into a small window.
    eventually("the slow reader to be cut off", async || {
        match timeout(A_LITTLE, stream.read(&mut few)).await {
            Ok(Ok(0) | Err(_)) => Some(()),
            Ok(Ok(_)) | Err(_) => None,
        }
    })
    .await;
    eventually("the slot to be free", async || {
        ask_for_health(server).await.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

/// The page is one buffered body, which hyper frees before a byte is sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_a_page_too_slowly_is_cut_off_and_a_stream_where_nothing_happens_is_not() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let address = server.another_api_limited(behind_a_proxy(Some(2))).await;
    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": 1});
    let job = id_of(&server.admin().post("coupon-codes/generate", order).await.expect(202));
    let token = server.admin().token().expect("an admin has a token").to_owned();
    let mut events = ask(&address, &format!("/api/v1/jobs/{job}/events"), &token).await;
    read_slowly(&address, ask(&address, "/docs", "").await).await;
    server.admin().post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200);
    let (mut told, mut piece) = (String::new(), [0; 1_024]);
    while !told.contains("CANCELLED") {
        let read = events.read(&mut piece).await.expect("the stream was cut off");
        assert!(read > 0, "the stream ended with {told}");
        told.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

/// The file is streamed and larger than the socket buffers.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_errors_file_too_slowly_is_cut_off_and_the_file_is_closed() {
    let server = Server::start().await;
    let address = server.another_api_limited(behind_a_proxy(Some(1))).await;
    let book = server.book(json!({})).await;
    let row = format!("no code!,{}\n", "x".repeat(60_000));
    let file = format!("code,padding\n{}", row.repeat(100));
    let job = id_of(&server.upload(&book, file).await.expect(202));
    wait_for_job(&server.admin(), &job).await;
    let token = server.admin().token().expect("an admin has a token").to_owned();
    let stream = ask(&address, &format!("/api/v1/jobs/{job}/errors"), &token).await;
    read_slowly(&address, stream).await;
    eventually("the file to be closed", async || (server.open_files() == 0).then_some(())).await;
}

/// Its pages are read from the database while the client reads. Both APIs have one connection for reads.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_streamed_export_too_slowly_is_cut_off_and_keeps_no_connection_to_the_database() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let store = server.database.another_store(Pools { hot: 2, rest: 2, ..Pools::MIN }).await;
    let address = server.another_api_limited_on(store.clone(), behind_a_proxy(Some(1))).await;
    let beside = server.admin().at(&server.another_api_on(store).await);
    let book = server.book(json!({})).await;
    // About 4 MB as CSV, which is more than the socket buffers have.
    let codes: Vec<String> = (0..60_000).map(|number| format!("CODE-{number:06}")).collect();
    server.plant(&book, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let token = server.admin().token().expect("an admin has a token").to_owned();
    let export = ask(&address, &format!("/api/v1/coupon-codes/book/{book}/export"), &token).await;
    let is_cut_off = AtomicBool::new(false);
    let reading = async {
        read_slowly(&address, export).await;
        is_cut_off.store(true, Ordering::Relaxed);
    };
    let others = async {
        while !is_cut_off.load(Ordering::Relaxed) {
            beside.get(&format!("coupon-codes/book/{book}?limit=1")).await.expect(200);
        }
    };
    tokio::join!(reading, others);
}

/// Its events are read from the log while the client reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_a_stream_of_events_too_slowly_is_cut_off() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let address = server.another_api_limited(behind_a_proxy(Some(1))).await;
    let token = server.admin().token().expect("an admin has a token").to_owned();
    let mut stream = ask(&address, "/api/v1/events?follow=true", &token).await;
    let (mut begin, mut piece) = (String::new(), [0; 1_024]);
    while !begin.contains("\nid: ") {
        let read = stream.read(&mut piece).await.expect("the stream was cut off");
        assert!(read > 0, "the stream ended with {begin}");
        begin.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    // About 8 MB, which is more than the socket buffers have.
    sqlx::query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         select gen_random_uuid(), $1, $1, n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'test' from generate_series(1, 20000) n",
    )
    .bind(server.business.0)
    .execute(server.database.pool())
    .await
    .expect("inserting failed");
    read_slowly(&address, stream).await;
}
