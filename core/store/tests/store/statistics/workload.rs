//! Statistics beside writers.

use cuponera_domain::book::BookRules;
use cuponera_domain::money::{Currency, Money};
use cuponera_domain::statistics::{EventSums, Interval, Window};
use cuponera_testkit::{World, race};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};

use super::{revoke, roll_back, statistics, total, window};
use crate::bearer::bearer;

const CLIENTS: usize = 32;
const USERS: usize = 20;
/// Ids of the last redemptions of a client, which it may roll back.
const REMEMBERED: usize = 4;

/// Operations of each client: a hundredth, or all of the 200,000.
fn operations() -> usize {
    if std::env::var_os("CUPONERA_SOAK").is_some() { 6_250 } else { 125 }
}

/// Random operations of one client; the clock of the events moves with them.
async fn work(world: &World, codes: &[String], client: usize) {
    let mut random = StdRng::seed_from_u64(client as u64);
    let mut redemptions = Vec::new();
    for _ in 0..operations() {
        let code = &codes[random.random_range(0..codes.len())];
        let user = format!("u{}", random.random_range(0..USERS));
        match random.random_range(0..100) {
            0..30 => drop(world.run_batch(world.random(&user)).await),
            30..50 => drop(world.run_batch(world.lock(code, &holder(world, code, &user).await)).await),
            50..60 => drop(world.run_batch(world.unlock(code, &holder(world, code, &user).await)).await),
            60..85 => {
                let mut call = world.redeem(code, &holder(world, code, &user).await);
                if random.random_bool(0.5) {
                    let currency = Currency::parse(["EUR", "JPY"][random.random_range(0..2)]).unwrap();
                    call.ask.amount = Money::parse(&random.random_range(1..1_000).to_string(), currency).ok();
                }
                if let Ok(done) = world.run_batch(call).await.outcome {
                    redemptions.push((code.clone(), done.redemption));
                }
            }
            85..90 => {
                let at = redemptions.len().checked_sub(1 + random.random_range(0..REMEMBERED));
                if let Some((code, id)) = at.map(|at| &redemptions[at]) {
                    drop(world.run_batch(world.call(roll_back(code, *id))).await);
                }
            }
            90..97 => drop(world.run_batch(world.call(revoke(code))).await),
            97 => {
                let void = cuponera_store::Void {
                    code: code.clone(),
                    user: None,
                    only: None,
                    reason: "a test".to_owned(),
                };
                drop(world.run_batch(world.call(void)).await);
            }
            _ => {
                // 16 hours in all, in one of fifty operations.
                let step = 16.0 * 3_600.0 * 50.0 / f64::from(u32::try_from(operations() * CLIENTS).unwrap());
                let sql = "update test_clock set ahead = ahead + make_interval(secs => $1)";
                query(sql).bind(step).execute(world.pool()).await.unwrap();
            }
        }
    }
}

/// The holder of the code, so that most calls succeed.
async fn holder(world: &World, code: &str, otherwise: &str) -> String {
    world.coupon(code).await.holder.unwrap_or_else(|| otherwise.to_owned())
}

/// Sums of events by local time, without the code under test.
async fn recount(world: &World, interval: Interval, time_zone: &str) -> Vec<EventSums> {
    let sql = format!(
        "select array[count(*) filter (where action = 'ASSIGN'), count(*) filter (where action = 'LOCK' and from_status = 'ASSIGNED'),
                      count(*) filter (where action = 'UNLOCK'), count(*) filter (where action = 'EXPIRE'),
                      count(*) filter (where action = 'REDEEM'), count(*) filter (where action = 'REVOKE'),
                      count(*) filter (where action = 'ROLLBACK'), count(*) filter (where action = 'VOID')]
         from coupon_event group by date_trunc('{}', at at time zone '{time_zone}') order by min(at)",
        interval.as_str()
    );
    let rows: Vec<Vec<i64>> = query_scalar(AssertSqlSafe(sql)).fetch_all(world.pool()).await.unwrap();
    let sums = |row: Vec<i64>| EventSums {
        assigned: row[0],
        locked: row[1],
        unlocked: row[2],
        lock_expired: row[3],
        redeemed: row[4],
        revoked: row[5],
        rolled_back: row[6],
        voided: row[7],
    };
    rows.into_iter().map(sums).collect()
}

/// The events are written at a clock that runs ahead: from before midnight in the first of these time zones to after midnight in the
/// last.
const TIME_ZONES: [&str; 3] = ["Asia/Kolkata", "Europe/Madrid", "America/New_York"];

async fn world_with_a_clock() -> (World, Vec<String>) {
    let world = World::with(BookRules { max_redeems_per_user: 2, lock_ttl_seconds: 1, ..bearer() }).await;
    for sql in [
        "create table test_clock (ahead interval not null)",
        "insert into test_clock select date_trunc('day', now(), 'UTC') + interval '2 days 18 hours' - now()",
        "create function test_now() returns timestamptz language sql stable as 'select now() + (select ahead from test_clock)'",
        "alter table only coupon_event alter column at set default test_now()",
        "alter table redemption alter column at set default test_now()",
    ] {
        query(sql).execute(world.pool()).await.unwrap();
    }
    // Enough for the last operations to find some that are not used up.
    let codes = world.insert_codes(i32::try_from(operations() * CLIENTS / 3).unwrap()).await;
    (world, codes)
}

/// Invariant I-62.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_random_workload_over_midnight_statistics_are_those_of_a_recount() {
    let (world, codes) = world_with_a_clock().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let roll_ups = async {
        while !stop.is_cancelled() {
            world.store().roll_up_statistics().await.unwrap();
            world.store().roll_up_counts().await.unwrap();
        }
    };
    // The numbers of the past never go down.
    let reader = async {
        let mut before = 0;
        while !stop.is_cancelled() {
            let all =
                Window { to: Some(chrono::Utc::now() + chrono::TimeDelta::days(20)), ..super::recently() };
            let now = total(&statistics(&world, Some(world.book), &all).await).assigned;
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    };
    let clients = async {
        race(CLIENTS, 0..CLIENTS, |client| work(&world, &codes, client)).await;
        stop.cancel();
    };
    tokio::join!(roll_ups, reader, clients);
    let last: (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>) =
        query_as("select min(at), max(at) from coupon_event").fetch_one(world.pool()).await.unwrap();
    for time_zone in TIME_ZONES {
        for interval in [Interval::Day, Interval::Hour] {
            let window = window(&last.0.to_rfc3339(), &last.1.to_rfc3339(), interval, time_zone);
            for book in [Some(world.book), None] {
                let found = statistics(&world, book, &window).await;
                let mut series = found.series.clone();
                series.retain(|sums| *sums != EventSums::default());
                assert_eq!(series, recount(&world, interval, time_zone).await, "{time_zone} {interval:?}");
                assert!(interval == Interval::Hour || series.len() >= 2, "no midnight in {time_zone}");
            }
        }
    }
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
}
