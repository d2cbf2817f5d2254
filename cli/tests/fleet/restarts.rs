//! A database that is disconnected and restarted under load: callers get 503 with Retry-After, confirmed changes are
//! kept, and no process needs a restart.

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
/// The time after a restart within which everything must work.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
/// The limit outside of a soak: a program that needs a restart never works again.
const NEVER_SERVES: Duration = Duration::from_secs(30);
/// The duration of load between two cuts.
const CALM: Duration = Duration::from_millis(1_500);

/// Number of cuts: ten in a soak, otherwise three.
fn cuts() -> u32 {
    if is_soak() { 10 } else { 3 }
}

/// A Postgres of the test, behind a forwarder with a fixed address.
struct Server {
    folder: TempDir,
    running: Option<PrivatePostgres>,
    url: String,
    port: Arc<AtomicU16>,
}

impl Server {
    async fn start() -> Self {
        let folder = TempDir::new().expect("creating a temporary folder failed");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("binding to loopback failed");
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

    /// Starts Postgres. Returns its own URL.
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

    /// Like `pg_ctl restart -m immediate`: all connections end, and Postgres recovers from its log.
    async fn cut(&mut self) {
        let file = std::fs::read_to_string(self.folder.path().join("postgres/postmaster.pid"));
        let file = file.expect("no Postgres runs");
        let pid = file.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), Signal::QUIT).expect("Postgres is gone");
        // Only reaps the dead process.
        drop(self.running.take().expect("it runs").stop().await);
        self.run().await;
    }
}

/// Forwards each connection to the current port.
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

/// The answers that the clients received.
#[derive(Default)]
struct Told {
    /// Code, holder, and whether the answer confirmed a redemption.
    confirmed: Mutex<Vec<(String, String, bool)>>,
    fails: AtomicU32,
    done: AtomicBool,
}

/// Sends one change under its own key until it is confirmed. Any answer but success, a 503 with Retry-After, or
/// `key_in_progress` fails the test.
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
            // The previous attempt still runs.
            409 if text.contains("key_in_progress") => {}
            _ => panic!("{path}: {status} {text}"),
        }
        told.fails.fetch_add(1, Ordering::Relaxed);
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

/// Checks that each confirmed assignment exists, and that the number of redemptions is the number of confirmed ones.
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
    .expect("the query failed");
    assert_eq!(strange, 0, "confirmed codes without their holder");
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
    let fails = told.fails.load(Ordering::Relaxed);
    println!("{} confirmed, {fails} rejected; full service {longest:?} after a cut", confirmed());
    assert!(fails > 0, "no client noticed a cut");
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
