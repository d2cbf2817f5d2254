//! Races, and waiting for a condition.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream;
use sqlx::{PgPool, query_scalar};

/// Calls `act` for all items, with `lanes` calls at a time; the results are in the order of the items. The
/// race is between the connections: one task polls all calls, so nothing needs to be shared or cloned.
pub async fn race<I, T, F>(lanes: usize, items: I, act: impl FnMut(I::Item) -> F) -> Vec<T>
where
    I: IntoIterator,
    F: Future<Output = T>,
{
    stream::iter(items).map(act).buffered(lanes).collect().await
}

/// Runs `act` while an open transaction holds a lock that it needs. Waits until `waiting` connections are
/// blocked, then calls `release`, which commits the transaction or rolls it back. At that moment all of
/// them have read and none has written, which makes the strictest race. Fails if `act` ends without having
/// waited.
pub async fn waits_for<T>(
    pool: &PgPool,
    waiting: i64,
    release: impl Future<Output = sqlx::Result<()>>,
    act: impl Future<Output = T>,
) -> T {
    let seen = eventually("the others to wait", async || {
        let blocked = "select count(*) from pg_stat_activity
                       where datname = current_database() and wait_event_type = 'Lock'";
        let blocked: i64 = query_scalar(blocked).fetch_one(pool).await.expect("counting failed");
        (blocked >= waiting).then_some(())
    });
    match select(pin!(act), pin!(seen)).await {
        Either::Left(_) => panic!("the call ended without waiting for the lock"),
        Either::Right(((), act)) => {
            release.await.expect("ending the transaction failed");
            act.await
        }
    }
}

/// Timeout of a condition. Reaching it fails the test, so it is generous.
const TIMEOUT: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(10);

/// Calls `ask` until it returns a value.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < TIMEOUT, "timed out waiting for {what}");
        tokio::time::sleep(POLL).await;
    }
}
