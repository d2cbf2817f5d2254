//! Distributions by a fleet, and their take-back: eight workers that lose their connections in the middle, and clients that take or use
//! codes of the same book.

use std::time::Duration;

use cuponera_domain::distribution::{Amount, Mode, OnShortage, Rules};
use cuponera_domain::id::JobId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{NewDistribution, Store};
use cuponera_testkit::{eventually, is_soak, race};
use sqlx::{query, query_as, query_scalar};

use crate::fleet::{Fleet, count};

/// The load of one run.
struct Load {
    members: i32,
    codes: u64,
    clients: usize,
}

async fn submit(fleet: &Fleet, store: &Store, members: i32, codes: u64) -> JobId {
    let world = &fleet.world;
    let pool =
        world.store().create_pool(None, world.business, "Pool", None).await.unwrap().outcome.unwrap().id;
    query(
        "with added as (insert into pool_member (pool_id, user_id)
                        select $1, 'user-' || lpad(n::text, 6, '0') from generate_series(0, $2 - 1) n)
         update user_pool set member_count = $2 where id = $1",
    )
    .bind(pool.0)
    .bind(members)
    .execute(world.pool())
    .await
    .unwrap();
    let rules =
        Rules { mode: Mode::Equal, amount: Amount::Total(codes), seed: 7, on_shortage: OnShortage::Fail };
    let new = NewDistribution { pool, book: world.book, rules, dry_run: false };
    store.submit_distribution(None, world.business, "service:test", new).await.unwrap().outcome.unwrap().id
}

/// The maximum number of sessions that are ended: on a slow machine no chunk would end between two of them.
const MAX_KILLED: i64 = 25;

/// Ends sessions of workers in the middle of their chunks until the job is over: their transactions are rolled back, as if the
/// workers had been killed. Returns how many.
pub(crate) async fn kill_chunks(fleet: &Fleet, job: JobId) -> i64 {
    let mut killed = 0;
    while killed < MAX_KILLED && !fleet.job(job).await.status.is_over() {
        let kill = "select count(pg_terminate_backend(pid)) from (
                      select pid from pg_stat_activity
                      where datname = current_database() and application_name like 'chunk %' and state <> 'idle' limit 1) s";
        let found = count(&fleet.world, kill).await;
        killed += found;
        // A chunk takes a moment on a fast machine.
        tokio::time::sleep(Duration::from_millis(if found > 0 { 200 } else { 10 })).await;
    }
    killed
}

/// Eight workers; 100,000 users, 250,000 codes and 50 clients with `CUPONERA_SOAK=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_and_other_clients_leave_a_distribution_exact() {
    let load = if is_soak() {
        Load { members: 100_000, codes: 250_000, clients: 50 }
    } else {
        Load { members: 8_000, codes: 20_000, clients: 20 }
    };
    let fleet = Fleet::new().await;
    let others = 2_000;
    let supply = i32::try_from(load.codes).unwrap() + others;
    fleet.world.insert_codes(supply).await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    for name in ["one", "two", "three", "four", "five", "six", "seven", "eight"] {
        fleet.worker(name, &fleet.queue.connect().await).await;
    }
    let job = submit(&fleet, &store, load.members, load.codes).await;
    let assigning = race(load.clients, 0..others, async |n| {
        fleet.world.run_batch(fleet.world.random(&format!("other-{n}"))).await.outcome
    });
    let (killed, assigned) = futures::join!(kill_chunks(&fleet, job), assigning);
    let assigned = i64::try_from(assigned.iter().filter(|outcome| outcome.is_ok()).count()).unwrap();
    let done = fleet.succeeded(job).await;
    assert!(killed > 0, "no chunk was interrupted");
    assert_eq!((done.succeeded, done.failed), (i64::try_from(load.codes).unwrap(), 0));
    let spread: (i64, i64, i64) = query_as(
        "select min(codes), max(codes), count(*) from (
           select count(*) as codes from coupon where holder like 'user-%' group by holder) s",
    )
    .fetch_one(fleet.world.pool())
    .await
    .unwrap();
    assert_eq!(spread, (2, 3, i64::from(load.members)), "the numbers of two members differ by at most one");
    assert_eq!(
        assigned,
        count(&fleet.world, "select count(*) from coupon where holder like 'other-%'").await
    );
    assert_eq!(count(&fleet.world, "select count(*) from coupon where reserved_by is not null").await, 0);
    fleet.world.assert_invariants().await;
}

/// The codes of 30,000 users with `CUPONERA_SOAK=1`. Invariant I-56.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_and_users_of_the_codes_leave_a_take_back_exact() {
    let (members, clients) = if is_soak() { (30_000, 50) } else { (6_000, 20) };
    let fleet = Fleet::new().await;
    fleet.world.insert_codes(2 * members).await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    for name in ["one", "two", "three", "four"] {
        fleet.worker(name, &fleet.queue.connect().await).await;
    }
    let given = submit(&fleet, &store, members, u64::try_from(2 * members).unwrap()).await;
    fleet.succeeded(given).await;
    let codes: Vec<(String, String)> =
        query_as("select code, holder from coupon order by md5(code) limit 3000")
            .fetch_all(fleet.world.pool())
            .await
            .unwrap();
    let submitted = store.submit_take_back(None, fleet.world.business, "service:test", given, None).await;
    let job = submitted.unwrap().outcome.unwrap().id;
    let using = race(clients, &codes, async |(code, user)| {
        fleet.world.run_batch(fleet.world.redeem(code, user)).await.outcome.is_ok()
    });
    let (killed, used) = futures::join!(kill_chunks(&fleet, job), using);
    let used = i64::try_from(used.iter().filter(|is_used| **is_used).count()).unwrap();
    let done = fleet.succeeded(job).await;
    assert!(killed > 0, "no chunk was interrupted");
    assert!(used > 0, "no code was used");
    assert_eq!((done.succeeded, done.failed), (i64::from(2 * members) - used, used));
    assert_eq!(done.result["takenBackCount"], done.succeeded);
    assert_eq!(
        count(&fleet.world, "select count(*) from coupon where status = 'AVAILABLE'").await,
        done.succeeded
    );
    let revoked = "select count(*) from coupon_event where action = 'REVOKE'";
    assert_eq!(count(&fleet.world, revoked).await, done.succeeded);
    fleet.world.assert_invariants().await;
}

/// The sweep of a worker releases what a cancelled distribution has reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_distribution_leaves_no_reservation() {
    let fleet = Fleet::new().await;
    fleet.world.insert_codes(60_000).await;
    let sqs = fleet.queue.connect().await;
    let store = fleet.store(&sqs);
    fleet.relay(&sqs);
    let job = submit(&fleet, &store, 1_000, 60_000).await;
    fleet.worker("one", &fleet.queue.connect().await).await;
    let reserved = "select count(*) from coupon where reserved_by is not null";
    eventually("codes to be reserved", async || (count(&fleet.world, reserved).await > 0).then_some(()))
        .await;
    let cancelled = store.cancel_job_if_open(None, fleet.world.business, job).await.unwrap().outcome;
    assert!(matches!(cancelled, Ok(_) | Err(Rejection::WrongJobState { .. })));
    eventually("the reservations to be released", async || {
        (count(&fleet.world, reserved).await == 0).then_some(())
    })
    .await;
    let slices: i64 = query_scalar("select count(*) from distribution_slice where positions is not null")
        .fetch_one(fleet.world.pool())
        .await
        .unwrap();
    assert_eq!(slices, 0);
    fleet.world.assert_invariants().await;
}
