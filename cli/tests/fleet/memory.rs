//! The memory that unauthenticated clients can occupy in an API: a head of 32 KiB for each connection, however much
//! they send, and nothing for an answer that they do not read.

use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::fleet::Fleet;

/// Number of clients of each kind; few enough for a process that may open 1,024 files.
const STRANGERS: usize = 200;
/// Bytes sent of an endless head: more than the limit, and less than the kernel buffers.
const HEAD_BYTES: usize = 250 * 1024;
/// A head of 32 KiB, and the overhead of a connection.
const MAX_KIB_EACH: u64 = 56;

/// Sends an endless head. Returns the first bytes of the answer.
async fn send_endless_head(address: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts no connections");
    let head = format!("GET /health/live HTTP/1.1\r\nHost: a\r\nX-Long: {}", "a".repeat(HEAD_BYTES));
    let (mut reader, mut writer) = stream.split();
    let mut answer = [0; 12];
    let (read, _) = tokio::join!(reader.read_exact(&mut answer), writer.write_all(head.as_bytes()));
    read.expect("the connection was closed without an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Requests a large answer and reads only its first byte.
async fn ask_and_not_read(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("the server accepts no connections");
    stream
        .write_all(b"GET /docs HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .expect("the server closed the connection");
    stream.read_u8().await.expect("the server closed the connection");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_make_an_api_keep_no_more_than_32_kib_each() {
    let fleet = Fleet::on_postgres(0).await;
    let address = fleet.address();
    drop(ask_and_not_read(address).await);
    let before = fleet.api.peak_memory_kib();
    let readers = join_all((0..STRANGERS).map(|_| ask_and_not_read(address))).await;
    let answers = join_all((0..STRANGERS).map(|_| send_endless_head(address))).await;
    assert!(answers.iter().all(|answer| answer == "HTTP/1.1 431"), "{answers:?}");
    let grown = fleet.api.peak_memory_kib() - before;
    let each = grown / (2 * STRANGERS as u64);
    println!("{grown} KiB more for {} connections: {each} KiB each", 2 * STRANGERS);
    assert!(grown <= STRANGERS as u64 * MAX_KIB_EACH, "{grown} KiB");
    drop(readers);
}
