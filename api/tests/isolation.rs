//! A row that another transaction holds delays only the calls that need it.

use std::time::{Duration, Instant};

use cuponera_testkit::{bound, race};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgTransaction, query};

use crate::support::{Client, Limits, Reply, Server};

const OTHERS: usize = 300;
/// Maximum duration of a call that does not need the held row: promised, and on a machine with other load.
const PROMISED: Duration = Duration::from_millis(500);
const TELLING: Duration = Duration::from_secs(2);

/// A running API, and a code for each call, each held by a user named after it.
async fn crowd() -> (Server, Vec<String>) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({"name": "Book"})).await;
    let codes: Vec<String> = (0..=OTHERS).map(|number| format!("CODE-{number:04}")).collect();
    server.plant(&book, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let service = server.service();
    race(16, &codes, async |code| {
        service.post(&format!("assignments/{code}"), json!({"userId": code})).await.expect(201)
    })
    .await;
    (server, codes)
}

/// A transaction that locks rows and stays open.
async fn holding(server: &Server, sql: &str) -> PgTransaction<'static> {
    let mut held = server.database.pool().begin().await.expect("beginning failed");
    let rows = query(AssertSqlSafe(sql)).execute(&mut *held).await.expect("holding a row failed");
    assert!(rows.rows_affected() > 0, "{sql} locks no row");
    held
}

/// The duration of the slowest of these calls, which run while others of their kind wait for a held row.
async fn slowest(client: &Client, calls: &[(String, serde_json::Value, u16)]) -> Duration {
    let times = race(32, calls, async |(path, body, status)| {
        let begun = Instant::now();
        client.post_with_key(path, &format!("key of {path} {body}"), body).await.expect(*status);
        begun.elapsed()
    });
    times.await.into_iter().max().expect("there are calls")
}

fn assert_busy(reply: Reply) {
    assert_eq!(reply.header("Retry-After"), "1");
    assert_eq!(reply.rejected(503), "coupon_busy");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_coupon_delays_no_redemption_of_another() {
    let (server, codes) = crowd().await;
    let service = server.service();
    let redeem = |code: &String| (format!("coupons/{code}/redeem"), json!({"userId": code}), 200);
    let held = holding(&server, &format!("select from coupon where code = '{}' for update", codes[0])).await;
    let (path, body, _) = redeem(&codes[0]);
    let others: Vec<_> = codes[1..].iter().map(redeem).collect();
    // Several calls want the held coupon at once.
    let stuck = race(8, 0..24, async |n| service.post_with_key(&path, &format!("stuck {n}"), &body).await);
    let (stuck, slowest) = tokio::join!(stuck, slowest(&service, &others));
    assert!(slowest < bound(PROMISED, TELLING), "a call for another row took {slowest:?}");
    stuck.into_iter().for_each(assert_busy);
    held.rollback().await.expect("rolling back failed");
    service.post_with_key(&path, "stuck 0", &body).await.expect(200);
    server.assert_invariants().await;
}

/// A quota cannot be skipped as a coupon can: the calls of its batch run one by one.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_quota_delays_no_assignment_to_another() {
    let (server, codes) = crowd().await;
    let service = server.service();
    let book = server.book(json!({"name": "Another", "maxCodesPerUser": 2})).await;
    let free: Vec<String> = (0..1_000).map(|number| format!("FREE-{number:04}")).collect();
    server.plant(&book, &free.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let random =
        |user: &String| ("assignments/random".to_owned(), json!({"couponBookId": book, "userId": user}), 201);
    let (path, body, _) = random(&codes[0]);
    service.post(&path, body.clone()).await.expect(201);
    let quota =
        format!("select from user_quota where book_id = '{book}' and user_id = '{}' for update", codes[0]);
    let held = holding(&server, &quota).await;
    let others: Vec<_> = codes[1..].iter().map(random).collect();
    let stuck = race(8, 0..24, async |n| service.post_with_key(&path, &format!("stuck {n}"), &body).await);
    let (stuck, slowest) = tokio::join!(stuck, slowest(&service, &others));
    assert!(slowest < bound(PROMISED, TELLING), "a call for another row took {slowest:?}");
    stuck.into_iter().for_each(assert_busy);
    held.rollback().await.expect("rolling back failed");
    service.post_with_key(&path, "stuck 0", &body).await.expect(201);
    server.assert_invariants().await;
}
