//! Streams of events, and requests that wait for a job.

use std::time::{Duration, Instant};

use cuponera_testkit::eventually;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Neighbor, Shares, active_book, address, keys, promised, with_shares};
use crate::support::{Client, Reply, Server, connect_from, id_of};

/// A job of the client's business, which does not end.
async fn job_of(client: &Client) -> String {
    let order = json!({"couponBookId": active_book(client).await, "quantity": 1});
    id_of(&client.post("coupon-codes/generate", order).await.expect(202))
}

async fn watch(n: u16, server: &str, key: &str, path: &str, header: &str) -> TcpStream {
    let head = format!("GET /api/v1/{path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n{header}\r\n");
    let mut stream = connect_from(&address(n).to_string(), server).await;
    let _ = stream.write_all(head.as_bytes()).await;
    stream
}

/// Waits until the job is cancelled. Like any client it asks again when the server is busy or the wait has ended.
async fn until_cancelled(client: Client, job: &str) {
    loop {
        let request = client.request(Method::GET, &format!("jobs/{job}")).header("Prefer", "wait=60");
        let reply = Reply::to(request).await;
        match reply.status {
            200 if reply.json()["status"] == "CANCELLED" => return,
            200 | 503 => {}
            _ => panic!("{reply:?}"),
        }
    }
}

/// Opens this many watches of a job of the server's business, with eight keys and from eight addresses.
async fn watch_often(server: &Server, count: u16, path: &str, header: &str) -> Vec<TcpStream> {
    let (to, keys) = (server.anonymous().address(), keys(server, 8).await);
    join_all((0..count).map(|n| watch(n % 8 + 1, &to, &keys[usize::from(n % 8)], path, header))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_1000_streams_of_events_leaves_other_tenants_theirs() {
    let server = with_shares(Shares::default()).await;
    let mut neighbor = Neighbor::of(&server).await;
    let (own, theirs) = (job_of(&server.admin()).await, job_of(&neighbor.client).await);
    let _held = watch_often(&server, 1_000, &format!("jobs/{own}/events"), "").await;
    eventually("the attack to use up its share", async || {
        (server.app.watching().streams >= 500).then_some(())
    })
    .await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let stream = neighbor.client.request(Method::GET, &format!("jobs/{theirs}/events")).send().await;
        let stream = stream.expect("the server does not answer");
        assert_eq!(stream.status(), 200);
        assert!(begun.elapsed() < promised(), "{:?}", begun.elapsed());
        streams.push(stream);
    }
    assert_eq!(server.app.watching().streams, 520, "a business gets half of them");
    neighbor.work(20).await;
    neighbor.assert_served("1,000 streams of one tenant");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_for_a_job_hold_no_place_of_those_that_run() {
    let server = with_shares(Shares { max_requests: 16, ..Shares::default() }).await;
    let own = job_of(&server.admin()).await;
    let waits = join_all((0..20).map(|_| until_cancelled(server.service(), &own)));
    let rest = async {
        eventually("20 waits", async || (server.app.watching().waits == 20).then_some(())).await;
        eventually("the slots to be free", async || (server.app.in_use().requests == 0).then_some(())).await;
        for _ in 0..20 {
            server.admin().get("coupon-books").await.expect(200);
        }
        server.admin().post(&format!("jobs/{own}/cancel"), json!({})).await.expect(200);
    };
    tokio::join!(waits, rest);
    assert_eq!(server.app.watching().waits, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_its_share_of_waits_is_answered_at_once_and_others_may_wait() {
    let server = with_shares(Shares { max_waits: 16, ..Shares::default() }).await;
    let neighbor = Neighbor::of(&server).await.client;
    let (own, theirs) = (job_of(&server.admin()).await, job_of(&neighbor).await);
    let _held = watch_often(&server, 40, &format!("jobs/{own}"), "Prefer: wait=60\r\n").await;
    eventually("the attack to use up its share", async || (server.app.watching().waits >= 8).then_some(()))
        .await;
    let begun = Instant::now();
    let request = neighbor.request(Method::GET, &format!("jobs/{theirs}")).header("Prefer", "wait=1");
    let reply = Reply::to(request).await;
    assert_eq!((reply.status, reply.header("Preference-Applied")), (200, "wait=1"));
    assert!(begun.elapsed() >= Duration::from_secs(1), "it did not wait");
    assert!(server.app.watching().waits <= 8, "a business gets half of them");
}
