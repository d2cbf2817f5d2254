//! A database that is cut off and started again under load: who calls is told to come back, what was confirmed is there,
//! and no process of ours needs a restart.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuponera_postgres::{Binaries, Options, PrivatePostgres};
use cuponera_testkit::{TestDatabase, assert_invariants, bound, eventually, is_soak};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::{PgPool, query, query_scalar};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{book, generate};
use crate::support::Admin;
use crate::support::fleet::FleetInstallation;

const CLIENTS: u32 = 16;
const CODES: u64 = 200_000;
/// After which everything must work again.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
/// What needs a restart never does.
const NEVER_SERVES: Duration = Duration::from_secs(30);
/// How long there is load between two cuts.
const CALM: Duration = Duration::from_millis(1_500);

/// Ten cuts in a soak; three show the same.
fn cuts() -> u32 {
    if is_soak() { 10 } else { 3 }
}

/// A Postgres of the test's own, always at the same address however often it starts.
struct Server {
    folder: TempDir,
    running: Option<PrivatePostgres>,
    url: String,
    port: Arc<AtomicU16>,
}

impl Server {
    async fn start() -> Self {
        let folder = TempDir::new().expect("there is no place for temporary files");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has no free port");
        let address = listener.local_addr().expect("an address");
        let port = Arc::new(AtomicU16::new(0));
        tokio::spawn(forward(listener, port.clone()));
        let mut server = Self { folder, running: None, url: String::new(), port };
        let url = server.run().await;
        let admin = PgPool::connect(&url).await.expect("the database does not answer");
        query("create database shop").execute(&admin).await.expect("making a database failed");
        admin.close().await;
        let (login, _) = url.rsplit_once('@').expect("a URL with a login");
        server.url = format!("{login}@{address}/shop");
        server
    }

    /// Starts it, and says where it is itself.
    async fn run(&mut self) -> String {
        let binaries = Binaries::find().expect("there is no Postgres");
        let options = Options::new(self.folder.path()).with_setting("max_connections", "100");
        let server = PrivatePostgres::start(&binaries, &options).await.expect("Postgres does not start");
        let url = server.url().to_owned();
        let (_, rest) = url.rsplit_once(':').expect("a port");
        let port = rest.split('/').next().expect("a port").parse().expect("a port");
        self.port.store(port, Ordering::Release);
        self.running = Some(server);
        url
    }

    /// As `pg_ctl restart -m immediate` does it: all connections are cut, and it recovers from its log.
    async fn cut(&mut self) {
        let file = std::fs::read_to_string(self.folder.path().join("postgres/postmaster.pid"));
        let file = file.expect("no Postgres runs");
        let pid = file.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::QUIT).expect("Postgres is gone");
        // What remains is to collect the dead.
        drop(self.running.take().expect("it runs").stop().await);
        self.run().await;
    }
}

/// Hands each connection on to whatever port is current.
async fn forward(listener: TcpListener, port: Arc<AtomicU16>) {
    let mut connections = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port.load(Ordering::Acquire)));
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(target).await {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// Code and holder, and whether it was said to be redeemed.
    confirmed: Mutex<Vec<(String, String, bool)>>,
    refused: AtomicU32,
    done: AtomicBool,
}

/// One change under a key of its own, tried until it is confirmed. Anything but success and an honest 503 fails the test.
async fn insist(admin: &Admin, told: &Told, path: &str, body: &Value) -> Value {
    let key = format!("{}-{}", path.replace('/', "-"), rand::random::<u64>());
    loop {
        let request = admin.request(Method::POST, path).header("Idempotency-Key", &key).json(body);
        let answer = request.send().await.expect("the API does not answer");
        let (status, retry_after) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        let text = answer.text().await.expect("an answer has a body");
        match status {
            200 | 201 => return serde_json::from_str(&text).expect("an answer is JSON"),
            503 => assert!(retry_after, "{path}: a 503 without Retry-After: {text}"),
            // The attempt before this one is still at work.
            409 if text.contains("key_in_progress") => {}
            _ => panic!("{path}: {status} {text}"),
        }
        told.refused.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn shop(admin: Arc<Admin>, told: Arc<Told>, book: Value, client: u32) {
    for turn in 0.. {
        if told.done.load(Ordering::Acquire) {
            return;
        }
        let user = format!("user-{client}-{turn}");
        let given = json!({"couponBookId": book, "userId": user});
        let given = insist(&admin, &told, "assignments/random", &given).await;
        let code = given["code"].as_str().expect("a code").to_owned();
        let note = |redeemed| {
            let mut confirmed = told.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
            confirmed.push((code.clone(), user.clone(), redeemed));
        };
        note(false);
        let lock = insist(&admin, &told, &format!("coupons/{code}/lock"), &json!({"userId": user})).await;
        let redeem = json!({"userId": user, "lockId": lock["lockId"]});
        let redeemed = insist(&admin, &told, &format!("coupons/{code}/redeem"), &redeem).await;
        assert_eq!(redeemed["redeemCount"], 1, "{redeemed}");
        note(true);
    }
}

/// Each thing that was confirmed is there, once; and as many redemptions as were confirmed, but for those at work.
async fn assert_kept(pool: &PgPool, told: &Told) {
    let confirmed = told.confirmed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let redeemed = confirmed.iter().filter(|(_, _, redeemed)| *redeemed).count();
    let (codes, users): (Vec<_>, Vec<_>) = confirmed.into_iter().map(|(code, user, _)| (code, user)).unzip();
    let strange: i64 = query_scalar(
        "select count(*) from unnest($1::text[], $2::text[]) as told (code, holder)
         left join coupon c using (code) where c.holder is distinct from told.holder",
    )
    .bind(codes)
    .bind(users)
    .fetch_one(pool)
    .await
    .expect("looking failed");
    assert_eq!(strange, 0, "codes that were confirmed and are not with their holders");
    let kept: i64 =
        query_scalar("select count(*) from redemption").fetch_one(pool).await.expect("counting failed");
    assert_eq!(usize::try_from(kept).expect("a count"), redeemed, "redemptions");
}

#[tokio::test]
async fn a_database_that_is_cut_off_costs_patience_and_nothing_else() {
    let mut server = Server::start().await;
    let installation = FleetInstallation::on_aws(TestDatabase::create().await).await;
    let fleet = installation.tell("CUPONERA_DATABASE_URL", &server.url).start(2).await;
    let admin = Arc::new(fleet.admin().await);
    let book = book(&admin).await;
    let first = generate(&admin, &book, CODES).await;
    assert_eq!(admin.over(&first).await["status"], "SUCCEEDED");

    let second = generate(&admin, &book, CODES).await;
    let told = Arc::new(Told::default());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(shop(admin.clone(), told.clone(), book.clone(), client));
    }
    let confirmed = || told.confirmed.lock().unwrap_or_else(PoisonError::into_inner).len();
    let mut longest = Duration::ZERO;
    for _ in 0..cuts() {
        tokio::time::sleep(CALM).await;
        server.cut().await;
        let back = Instant::now();
        let (before, goal) = (confirmed(), 3 * usize::try_from(CLIENTS).expect("few"));
        eventually("the shops to be served again", async || (confirmed() >= before + goal).then_some(()))
            .await;
        longest = longest.max(back.elapsed());
    }
    told.done.store(true, Ordering::Release);
    while let Some(client) = clients.join_next().await {
        client.expect("a client failed");
    }
    let refused = told.refused.load(Ordering::Relaxed);
    println!("{} confirmed, {refused} told to come back; full service {longest:?} after a cut", confirmed());
    assert!(refused > 0, "nobody noticed a cut");
    assert!(longest < bound(SERVES_WITHIN, NEVER_SERVES), "{longest:?}");
    let job = admin.over(&second).await;
    assert_eq!(
        (&job["status"], &job["progress"]["succeeded"]),
        (&json!("SUCCEEDED"), &json!(CODES)),
        "{job}"
    );

    let pool = PgPool::connect(&server.url).await.expect("the database does not answer");
    assert_kept(&pool, &told).await;
    assert_invariants(&pool).await;
    pool.close().await;
    drop(fleet);
    server.running.take().expect("it runs").stop().await.expect("Postgres does not stop");
}
