//! Fair shares: a caller, business or address that uses all it can get leaves enough for others. Each attack uses real
//! connections from addresses of this machine, while another tenant works.

mod logins;
mod watchers;

use std::time::{Duration, Instant};

use cuponera_api::Limits as Callers;
use cuponera_platform::config::Shares;
use cuponera_testkit::{bound, eventually};
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Limits, Reply, Server, connect_from, read_all};

/// The guaranteed 99th percentile of another tenant. `make test` allows more, for a machine with other load: a tenant that was
/// shut out would wait for 15 s.
fn promised() -> Duration {
    bound(Duration::from_millis(500), Duration::from_secs(5))
}

async fn with_shares(shares: Shares) -> Server {
    let callers = Callers { shares, ..Callers::default() };
    Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await
}

/// A tenant that works while another attacks.
struct Neighbor {
    client: Client,
    times: Vec<Duration>,
}

impl Neighbor {
    /// Its earlier requests put its credentials into the cache.
    async fn of(server: &Server) -> Self {
        let client = server.another_admin().await.on_address(address(200));
        client.get("coupon-books").await.expect(200);
        Self { client, times: Vec::new() }
    }

    /// Reads and writes this many times; no call may be rejected.
    async fn work(&mut self, times: usize) {
        for _ in 0..times {
            let begun = Instant::now();
            self.client.get("coupon-books?limit=1").await.expect(200);
            self.client.post("coupon-books", json!({"name": "A book"})).await.expect(201);
            self.times.push(begun.elapsed() / 2);
        }
    }

    fn assert_served(mut self, attack: &str) {
        self.times.sort_unstable();
        let [median, p99] = [50, 99].map(|percent| self.times[self.times.len() * percent / 100]);
        println!("{attack}: another tenant has {median:?}, p99 {p99:?} ({} calls)", self.times.len() * 2);
        assert!(p99 < promised(), "{attack}: p99 {p99:?}");
    }
}

/// An address of this machine.
fn address(n: u16) -> std::net::IpAddr {
    let [high, low] = n.to_be_bytes();
    std::net::Ipv4Addr::new(127, 0, high, low).into()
}

/// A request that announces a body and sends only its first byte.
async fn half_send(n: u16, server: &str, path: &str, credentials: &str) -> TcpStream {
    let head = format!(
        "POST /api/v1/{path} HTTP/1.1\r\nHost: a\r\n{credentials}Content-Type: application/json\r\n\
         Content-Length: 900000\r\n\r\n{{"
    );
    let mut stream = connect_from(&address(n).to_string(), server).await;
    // A rejected connection may be closed already.
    let _ = stream.write_all(head.as_bytes()).await;
    stream
}

/// The number of these connections without an answer.
async fn still_open(streams: &mut [TcpStream]) -> usize {
    let is_open =
        async |stream: &mut TcpStream| timeout(Duration::from_millis(1), stream.readable()).await.is_err();
    join_all(streams.iter_mut().map(is_open)).await.into_iter().filter(|is_open| *is_open).count()
}

/// 1,024 bodies of 16 KiB: a quarter for one caller.
fn little_memory() -> Shares {
    Shares { max_body_memory: bytesize(16), ..Shares::default() }
}

fn bytesize(mebibytes: u64) -> bytesize::ByteSize {
    bytesize::ByteSize::mib(mebibytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_2100_half_sent_bodies_leaves_other_tenants_their_share() {
    let server = with_shares(little_memory()).await;
    let mut neighbor = Neighbor::of(&server).await;
    let key = server.service();
    key.get("coupon-books").await.expect(200);
    let credentials = format!("X-API-Key: {}\r\n", key.key().expect("a key"));
    let to = key.address();
    let attack = (0..2_100).map(|n| half_send(n % 8 + 1, &to, "coupon-books", &credentials));
    let (mut held, ()) = tokio::join!(join_all(attack), neighbor.work(20));
    eventually("the attack to use up its share", async || (server.app.in_use().bodies >= 256).then_some(()))
        .await;
    neighbor.work(100).await;
    let open = still_open(&mut held).await;
    assert!(open <= 256 + 8, "{open} bodies of one key are awaited");
    assert_eq!(server.app.in_use().requests, 0, "a request counts as running before its body is complete");
    assert_eq!(key.get("coupon-books").await.status, 200, "a request without a body used memory for bodies");
    neighbor.assert_served("2,100 half-sent bodies of one key");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_logins_from_22_addresses_leave_tenants_and_logins_their_share() {
    let server = with_shares(little_memory()).await;
    let mut neighbor = Neighbor::of(&server).await;
    let to = server.anonymous().address();
    let attack = (0..22 * 99).map(|n| half_send(n % 22 + 1, &to, "auth/login", ""));
    let (mut held, ()) = tokio::join!(join_all(attack), neighbor.work(20));
    eventually("the attack to use up its share", async || (server.app.in_use().bodies >= 256).then_some(()))
        .await;
    // A new client can log in although the share of anonymous requests is used up.
    for n in 201..206 {
        let client = server.anonymous().on_address(address(n));
        client
            .post("auth/login", json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD}))
            .await
            .expect(200);
    }
    neighbor.work(100).await;
    let open = still_open(&mut held).await;
    assert!(open <= 256, "{open} bodies of anonymous requests are awaited");
    neighbor.assert_served("22 addresses with 99 half-sent logins each");
}

/// An upload in progress.
async fn slow_upload(n: u16, server: &str, book: &str, key: &str) -> TcpStream {
    let head = format!(
        "POST /api/v1/coupon-codes/upload?couponBookId={book} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\
         Content-Type: text/csv\r\nContent-Length: 900000\r\n\r\ncode\n"
    );
    let mut stream = connect_from(&address(n).to_string(), server).await;
    let _ = stream.write_all(head.as_bytes()).await;
    stream
}

/// Keys of the server's business.
async fn keys(server: &Server, count: usize) -> Vec<String> {
    let mut keys = Vec::new();
    for _ in 0..count {
        let made = server.admin().post("api-keys", json!({"name": "A key"})).await.expect(201);
        keys.push(made["key"].as_str().expect("a key").to_owned());
    }
    keys
}

/// A book of the client's business to which codes can be added.
async fn active_book(client: &Client) -> String {
    let book =
        crate::support::id_of(&client.post("coupon-books", json!({"name": "A book"})).await.expect(201));
    client.patch(&format!("coupon-books/{book}"), json!({"status": "ACTIVE"})).await.expect(200);
    book
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_uploads_of_four_keys_of_one_business_leave_other_businesses_their_share() {
    let server = with_shares(Shares::default()).await;
    let neighbor = Neighbor::of(&server).await.client;
    let (own, theirs) = (server.book(json!({})).await, active_book(&neighbor).await);
    let (to, keys) = (neighbor.address(), keys(&server, 4).await);
    let attack = (0..4 * 8).map(|n| slow_upload(n % 8 + 1, &to, &own, &keys[usize::from(n % 4)]));
    let _held = join_all(attack).await;
    eventually("the attack to use up its share", async || (server.app.in_use().uploads >= 16).then_some(()))
        .await;
    for n in 0..10 {
        let request = neighbor.request(Method::POST, &format!("coupon-codes/upload?couponBookId={theirs}"));
        let request = request.header("Content-Type", "text/csv").body(format!("code\nA-CODE-{n}\n"));
        let begun = Instant::now();
        Reply::to(request).await.expect(202);
        assert!(begun.elapsed() < promised(), "{:?}", begun.elapsed());
    }
    assert_eq!(server.app.in_use().uploads, 16, "a business gets half of them");
}

/// Uploads occupy the running requests here: each runs until its file is complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_its_share_of_running_requests_leaves_other_tenants_theirs() {
    let server = with_shares(Shares { max_requests: 16, ..Shares::default() }).await;
    let mut neighbor = Neighbor::of(&server).await;
    let (own, key) = (server.book(json!({})).await, server.service());
    key.get("coupon-books").await.expect(200);
    let (to, secret) = (key.address(), key.key().expect("a key").to_owned());
    let mut held = Vec::new();
    for n in 1..=20 {
        held.push(slow_upload(n, &to, &own, &secret).await);
    }
    eventually("the attack to use up its share", async || (server.app.in_use().requests >= 4).then_some(()))
        .await;
    assert_eq!(key.get("coupon-books").await.rejected(503), "overloaded");
    neighbor.work(20).await;
    assert_eq!(server.app.in_use().requests, 4, "a caller gets a quarter of them");
    assert!(read_all(held.last_mut().expect("a connection")).await.starts_with("HTTP/1.1 503 "));
    neighbor.assert_served("running requests of one key");
}
