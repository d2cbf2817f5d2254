//! Clients that disconnect at any point of a changing request while the database is slow: each change is executed once and
//! completely or not at all, no connection stays in a transaction, and the server works normally afterwards.

mod aftermath;
mod distance;
mod request;
mod trouble;

use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::id::{AccountId, BookId};
use cuponera_domain::principal::RoleName;
use cuponera_platform::credential::{random_secret, secret_hash};
use cuponera_platform::telemetry::{Exposition, MetricsAccess};
use cuponera_store::{NewApiKey, Pools, RefreshGrant, Store};
use cuponera_testkit::{is_soak, race};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Client, Limits, Server};
use distance::Distance;
use request::{Kind, Request};
use trouble::Trouble;

/// Number of clients that disconnect: enough for each kind of request to be interrupted at every stage within seconds.
const REQUESTS: usize = 330;
const REQUESTS_OF_A_SOAK: usize = 10_000;
/// Number of concurrent clients: more than the server's connections to the database.
const AT_ONCE: usize = 64;
/// The server's connections for hot statements, and for others.
const CONNECTIONS: u32 = 8;
/// Number of codes that are locked, unlocked and redeemed, each by many clients.
const HELD: i32 = 40;
/// Maximum number of redemptions of each code.
const USES: i32 = 30_000;

/// The installation of the storm.
struct Sea {
    server: Server,
    /// The server of the storm. It has few connections to the database, so that a lost connection has an effect.
    client: Client,
    distance: Distance,
    stock: String,
    named: String,
    held: String,
    made: String,
    requests: Vec<Request>,
}

impl Sea {
    async fn new(count: usize) -> Self {
        let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
        let distance = Distance::to(server.database.url()).await;
        let store = Store::connect(
            &distance.url,
            Pools {
                hot: CONNECTIONS,
                solo: CONNECTIONS,
                reads: CONNECTIONS,
                rest: CONNECTIONS,
                ..Pools::MIN
            },
        )
        .await;
        let store = store.expect("the database does not answer through the proxy");
        let client = server.admin().at(&server.another_api_on(store).await);
        let (stock, named, made) =
            (server.book(json!({})).await, server.book(json!({})).await, server.book(json!({})).await);
        let held = server.book(json!({"maxRedeemsPerUser": USES})).await;
        let each = i32::try_from(count / Kind::ALL.len() + 1).expect("a small number");
        plant(&server, &stock, "STOCK", each).await;
        plant(&server, &named, "NAMED", each).await;
        plant(&server, &held, "HELD", HELD).await;
        for number in 0..HELD {
            server.give(&held_code(number), "ann").await;
        }
        let mut sea = Self { server, client, distance, stock, named, held, made, requests: Vec::new() };
        for number in 0..count {
            let request = sea.request(number).await;
            sea.requests.push(request);
        }
        sea
    }

    /// The request with this number; the kinds alternate.
    async fn request(&self, number: usize) -> Request {
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let turn = i32::try_from(number / Kind::ALL.len()).expect("a small number");
        let held = held_code(turn % HELD);
        let user = json!({"userId": "ann"});
        let post = |path: String, body: serde_json::Value| Request::json(number, kind, "POST", path, &body);
        match kind {
            Kind::AssignRandom => {
                let body = json!({"couponBookId": self.stock, "userId": format!("user-{number}")});
                post("assignments/random".into(), body)
            }
            Kind::AssignNamed => post(format!("assignments/NAMED{turn:06}"), json!({"userId": "bob"})),
            Kind::Lock => post(format!("coupons/{held}/lock"), user),
            Kind::Unlock => post(format!("coupons/{held}/unlock"), user),
            Kind::Redeem => post(format!("coupons/{held}/redeem"), user),
            Kind::Generate => {
                let body = json!({"couponBookId": self.made, "quantity": 3, "pattern": "{XXXXXXXXX}"});
                post("coupon-codes/generate".into(), body)
            }
            Kind::Upload => {
                let path = format!("coupon-codes/upload?couponBookId={}", self.made);
                Request::csv(number, kind, path, format!("UP-{number}-A\nUP-{number}-B\nUP-{number}-C\n"))
            }
            Kind::Create => post("coupon-books".into(), json!({"name": format!("Storm {number}")})),
            Kind::Patch => {
                let body = json!({"description": number.to_string(), "metadata": {"number": number}});
                Request::json(number, kind, "PATCH", format!("coupon-books/{}", self.stock), &body)
            }
            Kind::Refresh => post("auth/refresh".into(), json!({"refreshToken": self.login().await})),
            Kind::Cancel => post(format!("jobs/{}/cancel", self.job().await), json!({})),
        }
    }

    /// The refresh token of a new login.
    async fn login(&self) -> String {
        let token = random_secret(32).expect("no randomness");
        let (account, hash): (Uuid, String) = sqlx::query_as("select id, password_hash from user_account")
            .fetch_one(self.server.database.pool())
            .await
            .expect("there is no account");
        let grant = RefreshGrant { secret_hash: secret_hash(&token), ttl: Duration::from_hours(1) };
        let store = self.server.database.store();
        let business = self.server.business;
        let login = store.start_login_if_verified(AccountId(account), business, &hash, &grant, None).await;
        login.expect("logging in failed").expect("the login was rejected");
        token
    }

    /// The id of a new job that can be cancelled.
    async fn job(&self) -> String {
        let pattern = Pattern::parse("CANCELLED-{XXXXXXXX}").expect("a pattern");
        let (store, book) = (self.server.database.store(), BookId(self.stock.parse().expect("an id")));
        let job =
            store.submit_generation(None, self.server.business, "service:test", book, &pattern, 1).await;
        job.expect("submitting failed").outcome.expect("the generation was rejected").id.to_string()
    }

    /// The number of requests of a kind.
    fn count(&self, kind: Kind) -> usize {
        self.requests.iter().filter(|request| request.kind == kind).count()
    }
}

/// Number of futures that are dropped during a database call.
const DROPPED: u32 = 60;

/// Drops [`DROPPED`] futures, each a little later than the one before, and writes after each; all acknowledged writes must
/// exist. On a connection returned in the middle of `BEGIN`, a write would be part of a transaction that is never committed.
async fn assert_later_writes_stay(step: Duration, act: impl AsyncFn(&Store)) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let distance = Distance::to(server.database.url()).await;
    let store = Store::connect(&distance.url, Pools::MIN).await.expect("the database is unavailable");
    for round in 0..DROPPED {
        let _ = tokio::time::timeout(step * round, act(&store)).await;
        let key = NewApiKey {
            business: server.business,
            name: format!("written {round}"),
            role: RoleName::Service,
            secret_hash: secret_hash(&round.to_string()),
            hint: "hint".to_owned(),
            scope: cuponera_domain::principal::KeyScope::default(),
            created_by: None,
            expires_at: None,
        };
        store.create_api_key(&key).await.expect("writing failed");
    }
    let written = "select count(*) from api_key where name like 'written %'";
    let written: i64 =
        sqlx::query_scalar(written).fetch_one(server.database.pool()).await.expect("no answer");
    assert_eq!(written, i64::from(DROPPED), "acknowledged writes are missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_begin_that_is_dropped_under_way_takes_no_later_write_with_it() {
    assert_later_writes_stay(Duration::from_micros(200), async |store| drop(store.pool().begin().await))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_that_goes_away_takes_no_later_write_with_it() {
    assert_later_writes_stay(Duration::from_micros(800), async |store| {
        let metrics = Exposition::new(MetricsAccess::Loopback);
        metrics.watch("api", store);
        metrics.render().await;
    })
    .await;
}

fn held_code(number: i32) -> String {
    format!("HELD{number:06}")
}

async fn plant(server: &Server, book: &str, prefix: &str, count: i32) {
    let codes: Vec<String> = (0..count).map(|number| format!("{prefix}{number:06}")).collect();
    server.plant(book, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_off_wherever_each_change_is_had_whole_and_once_and_nothing_is_left_open() {
    let count = if is_soak() { REQUESTS_OF_A_SOAK } else { REQUESTS };
    let sea = Sea::new(count).await;
    let trouble = Trouble::begin(&sea.server, HELD).await;
    let breaks = race(AT_ONCE, sea.requests.iter().enumerate(), async |(number, request)| {
        let mut rng = StdRng::seed_from_u64(number as u64);
        let seed = rng.random();
        request.break_off(&sea.client, seed).await
    })
    .await;
    trouble.end().await;
    sea.distance.end();
    sea.assert_quiet_and_whole().await;
    let replies = sea.repeat_all().await;
    sea.assert_each_was_had_once(&replies).await;
    sea.assert_all_connections_are_usable().await;
    sea.assert_all_is_in_order().await;
    let had = replies.iter().filter(|reply| reply.header("Idempotent-Replayed") == "true").count();
    println!(
        "{count} clients disconnected: {}; {had} of their requests were executed",
        request::summary(&breaks)
    );
    assert!(had > 0 && had < count / 11 * 9, "all requests were interrupted at the same stage");
}
