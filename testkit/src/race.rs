//! Racing, and waiting for a condition.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::{Either, select};
use futures::stream;
use sqlx::{PgPool, query_scalar};

/// Acts on all items, `lanes` of them at a time; the answers stand in the order of the items. The race is between the
/// connections: one task drives them all, so nothing needs to be shared or cloned.
pub async fn race<I, T, F>(lanes: usize, items: I, act: impl FnMut(I::Item) -> F) -> Vec<T>
where
    I: IntoIterator,
    F: Future<Output = T>,
{
    stream::iter(items).map(act).buffered(lanes).collect().await
}

/// Acts while an open transaction has locked what the act needs: sees `waiting` connections wait, releases them, which is
/// to commit the transaction or to roll it back, and lets them go on. All of them have looked by then and none has acted:
/// the sharpest race there is. Fails if the act ends without having waited.
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
        Either::Left(_) => panic!("it ended without waiting for what is held"),
        Either::Right(((), act)) => {
            release.await.expect("ending the transaction failed");
            act.await
        }
    }
}

/// How long a condition may take before the test is given up; reaching it is a failure, so it is generous.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_millis(10);

/// Asks until the answer is there.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}
