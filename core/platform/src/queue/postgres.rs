//! The queue of one machine: the job tables, and notifications that wake sleeping workers.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use cuponera_domain::job::JobKind;
use cuponera_store::{Store, listen_for_work};

/// A wake-up is lost while the connection is down: no slot sleeps longer than this without checking.
const MAX_SLEEP: Duration = Duration::from_secs(10);
/// A chunk may be due but locked by another transaction: no slot checks more often than this.
const MIN_SLEEP: Duration = Duration::from_millis(100);

/// The wake-up signal for the sleeping workers of this process.
#[derive(Debug, Default)]
pub struct Wakeups {
    notify: Notify,
}

impl Wakeups {
    /// Listens until `stop` is cancelled. Reconnects automatically and then wakes a worker, because a
    /// wake-up may have been lost.
    pub async fn listen(&self, database_url: &str, stop: &CancellationToken) {
        let mut backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(None)
            .build();
        while !stop.is_cancelled() {
            match listen_for_work(database_url, stop, || self.wake_one()).await {
                Ok(()) => backoff.reset(),
                Err(error) => {
                    warn!(%error, "the connection that listens for work was lost");
                    let pause = backoff.next_backoff().unwrap_or(MAX_SLEEP);
                    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                }
            }
        }
    }

    /// Waits for a wake-up, or until a chunk becomes runnable by time.
    pub async fn wait(&self, due: Option<Duration>) {
        let longest = due.unwrap_or(MAX_SLEEP).clamp(MIN_SLEEP, MAX_SLEEP);
        let _ = tokio::time::timeout(longest, self.notify.notified()).await;
    }

    /// Wakes one sleeping worker, or the next that would sleep.
    pub fn wake_one(&self) {
        self.notify.notify_one();
    }
}

/// One slot: it checks at once after it found work, and sleeps otherwise.
#[derive(Debug)]
pub(super) struct Receiver {
    wakeups: Arc<Wakeups>,
    store: Store,
    found: bool,
}

impl Receiver {
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
