//! Connection pools: each kind of work has its own connections and its own statement timeout.

use std::time::Duration;

use cuponera_store::Error;
use cuponera_store::{CodeFilter, Pools, Store};
use cuponera_testkit::{World, eventually, rules};
use futures::future::{Either, join_all, select};
use sqlx::{query, query_scalar};

/// With one connection for reads: the first read waits for a table lock, the others for the connection.
/// Invariant I-14.
#[tokio::test]
async fn reads_that_hang_end_and_keep_no_login_from_a_connection() {
    let world = World::with_pools(rules(), Pools { rest: 3, ..Pools::MIN }).await;
    world.insert_codes(3).await;
    let store = world.store();
    let book = store.get_book(world.business, world.book).await.unwrap();
    let mut holding = world.pool().begin().await.unwrap();
    query("lock table coupon").execute(&mut *holding).await.unwrap();
    let filter = CodeFilter::default();
    let reads = join_all((0..3).map(|_| store.list_codes(&book, &filter, 10)));
    let others = async {
        waits_for_a_lock(store, Duration::ZERO).await;
        store.find_credential("nobody@example.com").await.unwrap();
        store.create_business("Another").await.unwrap();
        store.backlog().await.unwrap();
    };
    let Either::Right(((), reads)) = select(Box::pin(reads), Box::pin(others)).await else {
        panic!("the reads ended before the other calls")
    };
    let read = reads.await;
    let ends: Vec<_> = read.into_iter().map(|read| read.unwrap_err()).collect();
    assert!(ends.iter().all(Error::is_retryable), "{ends:?}");
    assert!(ends.iter().any(|end| end.chain().contains("statement timeout")), "{ends:?}");
    holding.rollback().await.unwrap();
    assert_eq!(store.list_codes(&book, &filter, 10).await.unwrap().items.len(), 3);
}

#[tokio::test]
async fn a_migration_has_no_time_limit() {
    const LIMIT: Duration = Duration::from_millis(300);
    let world = World::new().await;
    let store = world.database.another_store(Pools { rest_statement: LIMIT, ..Pools::MIN }).await;
    let mut holding = world.pool().begin().await.unwrap();
    query("lock table _sqlx_migrations").execute(&mut *holding).await.unwrap();
    let waits = waits_for_a_lock(world.store(), 2 * LIMIT);
    match select(Box::pin(store.migrate()), Box::pin(waits)).await {
        Either::Left((ended, _)) => panic!("the migration ended too early: {ended:?}"),
        Either::Right(((), migration)) => {
            holding.rollback().await.unwrap();
            migration.await.unwrap();
        }
    }
}

/// Returns when a statement has waited this long for a lock.
async fn waits_for_a_lock(store: &Store, time: Duration) {
    eventually("a statement to wait for a lock", async || {
        let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
                       and clock_timestamp() - query_start > make_interval(secs => $1))";
        let waits: bool = query_scalar(waits).bind(time.as_secs_f64()).fetch_one(store.pool()).await.unwrap();
        waits.then_some(())
    })
    .await;
}
