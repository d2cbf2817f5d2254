//! The queue of one machine: the job tables, and `LISTEN`/`NOTIFY` to wake sleeping workers.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{PgPool, PgTransaction, query};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use cuponera_store::Result;
use cuponera_domain::job::JobKind;
use cuponera_store::{Store, connect_options};

const CHANNEL: &str = "cuponera_work";
/// A wake-up is lost while the connection is down: no slot sleeps longer than this without checking.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// A chunk may be due but locked by another transaction: no slot checks more often than this.
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);

/// Wakes the workers when the transaction commits.
pub async fn announce(transaction: &mut PgTransaction<'_>) -> Result<()> {
    query!("select pg_notify($1, '') as _notified", CHANNEL).fetch_one(&mut **transaction).await?;
    Ok(())
}

/// The wake-up signal for the sleeping workers of this process.
#[derive(Debug, Default)]
pub struct Wakeups {
    notify: Notify,
}

impl Wakeups {
    /// Listens until `stop` is cancelled. Reconnects automatically and then wakes a worker, because a
    /// wake-up may have been lost.
    pub async fn listen(&self, database_url: &str, stop: &CancellationToken) {
        let mut patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(None)
            .build();
        while !stop.is_cancelled() {
            match self.listen_once(database_url, stop).await {
                Ok(()) => patience.reset(),
                Err(error) => {
                    warn!(%error, "the connection that listens for work was lost");
                    let pause = patience.next_backoff().unwrap_or(LONGEST_SLEEP);
                    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                }
            }
        }
    }

    /// Waits for a wake-up, or until a chunk becomes runnable by time.
    pub async fn wait(&self, due: Option<Duration>) {
        let longest = due.unwrap_or(LONGEST_SLEEP).clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        let _ = tokio::time::timeout(longest, self.notify.notified()).await;
    }

    /// Wakes one sleeping worker, or the next that would sleep.
    pub fn wake_one(&self) {
        self.notify.notify_one();
    }

    async fn listen_once(&self, database_url: &str, stop: &CancellationToken) -> sqlx::Result<()> {
        let options = connect_options(database_url)
            .map_err(|error| sqlx::Error::Configuration(error.into()))?
            .application_name("cuponera");
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let heard = self.listen_on(&pool, stop).await;
        // Otherwise the connection is returned in the background, to a server that may be shutting down.
        pool.close().await;
        heard
    }

    async fn listen_on(&self, pool: &PgPool, stop: &CancellationToken) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        debug!("listening for work");
        self.wake_one();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                heard = listener.try_recv() => match heard? {
                    Some(_) => self.wake_one(),
                    None => return Ok(()),
                }
            }
        }
    }
}

/// One slot: it checks at once after it found work, and sleeps otherwise.
#[derive(Debug)]
pub(super) struct Sleeper {
    wakeups: Arc<Wakeups>,
    store: Store,
    found: bool,
}

impl Sleeper {
    pub(super) fn new(wakeups: Arc<Wakeups>, store: Store) -> Self {
        Self { wakeups, store, found: true }
    }

    /// Waits until the tables should be checked; returns `false` when `stop` is cancelled.
    pub(super) async fn next(&mut self, stop: &CancellationToken) -> bool {
        if !self.found && !stop.is_cancelled() {
            let due = self.store.next_chunk_due(&JobKind::ALL).await.ok().flatten();
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wakeups.wait(due) => {}
            }
        }
        self.found = true;
        !stop.is_cancelled()
    }

    pub(super) fn claimed(&self) {
        self.wakeups.wake_one();
    }

    pub(super) fn found_nothing(&mut self) {
        self.found = false;
    }
}
