//! Clients that disconnect in the middle of an answer, with a close or with a reset: the server releases what it held
//! for them.

use cuponera_testkit::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{NOTHING, submit, wait_for_watching, without_worker};
use crate::support::{Server, id_of, wait_for_job};

/// The way in which a client disconnects.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// With a close.
    Closing,
    /// With a reset, as the kernel does for a killed process with unread data.
    Resetting,
}

const WAYS: [Leaving; 2] = [Leaving::Closing, Leaving::Resetting];

/// Sends a request on its own connection.
async fn ask(server: &Server, path: &str, field: &str) -> TcpStream {
    let client = server.admin();
    let token = client.token().expect("the admin has a token");
    let head = format!(
        "GET /api/v1/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n{field}\r\n",
        client.address()
    );
    let mut stream = TcpStream::connect(client.address()).await.expect("cannot connect to the server");
    stream.write_all(head.as_bytes()).await.expect("the server closed the connection");
    stream
}

/// Reads until `end` has arrived.
async fn read_until(stream: &mut TcpStream, end: &str) {
    let mut text = String::new();
    let mut piece = [0; 1_024];
    while !text.contains(end) {
        let read = stream.read(&mut piece).await.expect("the server closed the connection");
        assert!(read > 0, "the answer ended after {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
}

fn leave(stream: TcpStream, leaving: Leaving) {
    if let Leaving::Resetting = leaving {
        stream.set_zero_linger().expect("cannot set the socket option");
    }
    drop(stream);
}

async fn assert_no_connection_is_in_use(server: &Server) {
    let busy =
        "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                and state <> 'idle' and backend_type = 'client backend'";
    eventually("the connections to the database to be idle", async || {
        let busy: i64 =
            sqlx::query_scalar(busy).fetch_one(server.database.pool()).await.expect("counting failed");
        (busy == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_a_stream_of_events_frees_its_place_and_the_poller() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    for leaving in WAYS {
        let mut stream = ask(&server, &format!("jobs/{job}/events"), "").await;
        read_until(&mut stream, "event: job\ndata: ").await;
        wait_for_watching(&server, |now| now.streams == 1 && now.is_polling).await;
        leave(stream, leaving);
        wait_for_watching(&server, |now| now == NOTHING).await;
    }
    assert_no_connection_is_in_use(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_waiting_for_a_job_frees_its_place_and_the_poller() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    for leaving in WAYS {
        let stream = ask(&server, &format!("jobs/{job}"), "Prefer: wait=60\r\n").await;
        wait_for_watching(&server, |now| now.waits == 1 && now.is_polling).await;
        leave(stream, leaving);
        wait_for_watching(&server, |now| now == NOTHING).await;
    }
    assert_no_connection_is_in_use(&server).await;
}

/// The errors file is far larger than the socket buffers, so the server is still sending it.
#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_errors_of_a_job_half_read_leaves_no_connection_in_use() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let row = format!("no code!,{}\n", "x".repeat(60_000));
    let file = format!("code,padding\n{}", row.repeat(500));
    let job = id_of(&server.upload(&book, file).await.expect(202));
    assert_eq!(wait_for_job(&server.admin(), &job).await["result"]["invalidRowsCount"], 500);
    for leaving in WAYS {
        let mut stream = ask(&server, &format!("jobs/{job}/errors"), "").await;
        read_until(&mut stream, "line,code,reason,row").await;
        leave(stream, leaving);
    }
    assert_no_connection_is_in_use(&server).await;
}
