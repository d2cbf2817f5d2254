//! Races between many concurrent callers over HTTP, with the exact outcomes.
//!
//! The racers use several API servers that share only the database, each racer on its own connection. A gate, a lock
//! on a table, holds the first statements of the servers until all of them wait for it, so they start together. There
//! is no worker, because its sweep would wait at the gate too.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cuponera_domain::id::BookId;
use cuponera_testkit::{eventually, race};
use serde_json::{Value, json};
use sqlx::pool::PoolConnection;
use sqlx::{PgTransaction, Postgres};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{Client, Limits, Reply, Server};

/// Number of API servers.
const SERVERS: usize = 4;

/// The request of a racer.
struct Racer {
    client: Client,
    key: Option<&'static str>,
    body: Value,
}

/// A lock that holds statements on a table. `lookout` is opened beforehand, because a new connection is slow during a
/// race.
struct Gate {
    held: PgTransaction<'static>,
    lookout: PoolConnection<Postgres>,
}

/// The installation of a race.
struct Track {
    server: Server,
    addresses: Vec<String>,
}

impl Track {
    async fn new() -> Self {
        let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
        let mut addresses = Vec::new();
        for _ in 0..SERVERS {
            addresses.push(server.another_api().await);
        }
        Self { server, addresses }
    }

    /// An active book with `quantity` codes, and the codes.
    async fn book(&self, fields: Value, quantity: u64) -> (String, Vec<String>) {
        let book = self.server.book(fields).await;
        let id = BookId(book.parse().expect("an id"));
        let store = self.server.database.store();
        cuponera_testkit::generate(store, self.server.business, id, "{XXXXXXXX}", quantity).await;
        let codes = self.server.codes(&book).await;
        (book, codes.iter().map(|code| code["code"].as_str().expect("a code").to_owned()).collect())
    }

    /// Sends the requests of all racers at the same moment, after all have connected, and releases the servers' first
    /// statements on `table` together; returns the replies.
    async fn race(&self, path: &str, table: &'static str, racers: Vec<Racer>) -> Vec<Reply> {
        let racers = self.line_up(racers).await;
        self.warm_up().await;
        let gate = self.close_gate(table).await;
        let start = Arc::new(Barrier::new(racers.len()));
        let mut tasks = JoinSet::new();
        for Racer { client, key, body } in racers {
            let (start, path) = (start.clone(), path.to_owned());
            tasks.spawn(async move {
                start.wait().await;
                match key {
                    Some(key) => client.post_with_key(&path, key, &body).await,
                    None => client.post(&path, body).await,
                }
            });
        }
        self.open_gate(gate).await;
        tasks.join_all().await
    }

    /// Distributes the racers over the servers and connects them, 16 at a time: a server waits ten seconds for the
    /// first head on a connection, and a busy machine can take longer than that to connect a thousand.
    async fn line_up(&self, racers: Vec<Racer>) -> Vec<Racer> {
        race(16, racers.into_iter().enumerate(), async |(number, racer)| {
            let client = racer.client.at(&self.addresses[number % SERVERS]).apart().await;
            Racer { client, ..racer }
        })
        .await
    }

    /// Makes each server open its connections to the database. A statement waits at the gate for at most three
    /// seconds, so no statement may have to connect while others wait.
    async fn warm_up(&self) {
        let body = json!({"userId": "nobody"});
        race(SERVERS * 12, 0..SERVERS * 12, async |number| {
            let client = self.server.service().at(&self.addresses[number % SERVERS]);
            client.post(&format!("coupons/UNKNOWN-{number}/redeem"), body.clone()).await.expect(404);
        })
        .await;
    }

    async fn close_gate(&self, table: &str) -> Gate {
        let pool = self.server.database.pool();
        let lookout = pool.acquire().await.expect("no connection is free");
        let mut held = pool.begin().await.expect("beginning failed");
        let lock = format!("lock table {table} in exclusive mode");
        sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *held).await.expect("locking failed");
        Gate { held, lookout }
    }

    /// Waits until each server waits at the gate, and opens it.
    async fn open_gate(&self, Gate { held, mut lookout }: Gate) {
        eventually("the servers to wait at the gate", async || {
            let waiting = "select count(*) from pg_stat_activity
                           where datname = current_database() and wait_event_type = 'Lock'";
            let waiting: i64 =
                sqlx::query_scalar(waiting).fetch_one(&mut *lookout).await.expect("the query failed");
            (usize::try_from(waiting).ok() >= Some(SERVERS)).then_some(())
        })
        .await;
        held.commit().await.expect("committing failed");
    }
}

/// `count` racers with the same body.
fn racers(count: usize, client: impl Fn(usize) -> Client, body: &Value) -> Vec<Racer> {
    (0..count).map(|number| Racer { client: client(number), key: None, body: body.clone() }).collect()
}

/// The number of replies for each outcome.
fn tally(replies: &[Reply]) -> BTreeMap<String, usize> {
    replies.iter().fold(BTreeMap::new(), |mut tally, reply| {
        *tally.entry(reply.outcome()).or_default() += 1;
        tally
    })
}

#[track_caller]
fn assert_outcomes(replies: &[Reply], expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> =
        expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
    assert_eq!(tally(replies), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_and_a_hundred_codes_make_a_hundred_holders() {
    let track = Track::new().await;
    let (book, _) = track.book(json!({}), 100).await;
    let user = |number| track.server.user(&format!("user-{number}"));
    let racers = racers(1_000, user, &json!({"couponBookId": book}));
    let replies = track.race("assignments/random", "coupon", racers).await;
    assert_outcomes(&replies, &[("201", 100), ("409 sold_out", 900)]);
    let given = replies.iter().filter(|reply| reply.status == 201);
    let codes: HashSet<String> = given.map(|reply| reply.json()["code"].to_string()).collect();
    assert_eq!(codes.len(), 100, "a code was assigned twice");
    track.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_on_a_code_of_three_uses_redeem_it_three_times() {
    let track = Track::new().await;
    let (_, codes) = track.book(json!({"maxRedeemsPerUser": 3}), 2).await;
    for code in &codes {
        track.server.give(code, "ann").await;
        let racers = racers(200, |_| track.server.user("ann"), &json!({}));
        let replies = track.race(&format!("coupons/{code}/redeem"), "coupon", racers).await;
        assert_outcomes(&replies, &[("200", 3), ("409 coupon_already_redeemed", 197)]);
        let done = replies.iter().filter(|reply| reply.status == 200);
        let mut uses: Vec<_> = done.map(|reply| reply.json()["redeemCount"].as_i64()).collect();
        uses.sort_unstable();
        assert_eq!(uses, [Some(1), Some(2), Some(3)]);
    }
    track.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_two_hundred_times_at_once_holds_no_more_than_the_limit() {
    let track = Track::new().await;
    let (book, _) = track.book(json!({"maxCodesPerUser": 1}), 300).await;
    for user in ["ann", "bob", "eve"] {
        let racers = racers(200, |_| track.server.user(user), &json!({"couponBookId": book}));
        let replies = track.race("assignments/random", "coupon", racers).await;
        assert_outcomes(&replies, &[("201", 1), ("409 user_limit_reached", 199)]);
    }
    track.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_who_want_one_code_by_name_leave_it_with_one_holder() {
    let track = Track::new().await;
    let (_, codes) = track.book(json!({}), 2).await;
    for code in &codes {
        let wish = |number: usize| Racer {
            client: track.server.service(),
            key: None,
            body: json!({"userId": format!("user-{number}")}),
        };
        let racers = (0..100).map(wish).collect();
        let replies = track.race(&format!("assignments/{code}"), "coupon", racers).await;
        assert_outcomes(&replies, &[("201", 1), ("409 already_assigned", 99)]);
    }
    track.server.assert_invariants().await;
}

/// Sixteen requests under one key, four at each server.
fn under_one_key(track: &Track, body: &Value) -> Vec<Racer> {
    let racer = |_| Racer { client: track.server.service(), key: Some("the same key"), body: body.clone() };
    (0..16).map(racer).collect()
}

/// The replies with the effect are identical; all others report that the first request still runs.
#[track_caller]
fn assert_one_effect(replies: &[Reply], success: u16) {
    let (done, waiting): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == success);
    let first = done.iter().filter(|reply| reply.header("Idempotent-Replayed") != "true").count();
    assert_eq!(first, 1, "effects: {:?}", tally(replies));
    let answers: HashSet<&str> = done.iter().map(|reply| reply.text.as_str()).collect();
    assert_eq!(answers.len(), 1, "different answers under one key: {answers:?}");
    // At least one of the four requests at each server gets the answer.
    assert!(done.len() >= SERVERS, "{:?}", tally(replies));
    for reply in waiting {
        assert_eq!(reply.outcome(), "409 key_in_progress");
        assert_eq!(reply.header("Retry-After"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_assignments_under_one_key_are_one_assignment() {
    let track = Track::new().await;
    let (book, _) = track.book(json!({}), 100).await;
    let racers = under_one_key(&track, &json!({"couponBookId": book, "userId": "ann"}));
    let replies = track.race("assignments/random", "coupon", racers).await;
    assert_one_effect(&replies, 201);
    let held = track.server.service().get("assignments/user/ann").await.expect(200);
    assert_eq!(held["data"].as_array().map(Vec::len), Some(1), "{held}");
    track.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_redemptions_under_one_key_are_one_use() {
    let track = Track::new().await;
    let (_, codes) = track.book(json!({"maxRedeemsPerUser": 100}), 1).await;
    track.server.give(&codes[0], "ann").await;
    let racers = under_one_key(&track, &json!({"userId": "ann"}));
    let replies = track.race(&format!("coupons/{}/redeem", codes[0]), "coupon", racers).await;
    assert_one_effect(&replies, 200);
    let coupon = track.server.service().get(&format!("coupons/{}", codes[0])).await.expect(200);
    assert_eq!(coupon["redeemCount"], 1);
    track.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_generations_under_one_key_are_one_job() {
    let track = Track::new().await;
    let book = track.server.book(json!({})).await;
    let racers = under_one_key(&track, &json!({"couponBookId": book, "quantity": 500}));
    let replies = track.race("coupon-codes/generate", "coupon_book", racers).await;
    assert_one_effect(&replies, 202);
    let jobs = track.server.service().get("jobs").await.expect(200);
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(1), "{jobs}");
    track.server.assert_invariants().await;
}
