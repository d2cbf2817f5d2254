//! Housekeeping: expired locks, counts, deliveries of webhooks, seals of the event logs, partitions, and the deletion of old
//! rows and files. No decision depends on it, and no call waits for it.
//!
//! One worker at a time does it. In addition, each worker ends the locks that Redis hands to it.

mod clean_out;
mod lead;
mod locks;
mod seals;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use cuponera_domain::audit::AuditKey;
use cuponera_platform::cache::Cache;
use cuponera_platform::files::Files;
use cuponera_platform::telemetry::metrics;
use cuponera_store::Result;
use cuponera_store::Store;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use clean_out::Cleanup;
use lead::HousekeepingLease;
use locks::Locks;

/// Interval of the roll-up of counts.
const ROLL_UP_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of locks of SHARED codes that one statement ends: it holds their codes for some milliseconds.
const MAX_SHARED_LOCKS: usize = 200;

/// The parts of a worker that housekeeping uses.
pub(crate) struct Sweep {
    pub(crate) store: Store,
    pub(crate) files: Files,
    pub(crate) cache: Cache,
    /// The name of the worker.
    pub(crate) name: String,
    /// How long the details of a job are kept after its end.
    pub(crate) retention: Duration,
    /// Notified of new deliveries of webhooks.
    pub(crate) wake: Arc<Notify>,
    /// The key of the seals over the event logs.
    pub(crate) audit_key: Option<AuditKey>,
}

/// Does the housekeeping until the worker stops.
pub(crate) async fn run(sweep: Sweep, stop: CancellationToken) {
    let Sweep { store, files, cache, name, retention, wake, audit_key } = sweep;
    let lead = HousekeepingLease::new(store.clone(), name);
    let clean_out = Cleanup { store: store.clone(), files, retention };
    // The first round of each task then knows whether this worker has the lease. An error counts as no.
    let _ = lead.renew().await;
    tokio::join!(
        lead.keep(&stop),
        end_locks(Locks::new(store.clone(), cache), &lead, &stop),
        end_shared_locks(&store, &lead, &stop),
        run_roll_ups(&store, &lead, &stop),
        run_statistics(&store, &lead, &stop),
        webhooks::create_deliveries(&store, &lead, &wake, &stop),
        webhooks::forget_deliveries(&store, &lead, &stop),
        seals::seal_events(&store, audit_key.as_ref(), &lead, &stop),
        clean_out.run(&lead, &stop),
    );
}

async fn end_locks(mut locks: Locks, lead: &HousekeepingLease, stop: &CancellationToken) {
    let mut failures = FailureLog::default();
    while !stop.is_cancelled() {
        failures.note(locks.end_due_locks(lead).await);
        pause(locks.pause(), stop).await;
    }
}

/// Ends the expired locks of SHARED codes. They have no index in Redis: a code may have very many.
async fn end_shared_locks(store: &Store, lead: &HousekeepingLease, stop: &CancellationToken) {
    let mut failures = FailureLog::default();
    while !stop.is_cancelled() {
        if lead.is_held() {
            failures.note(end_due_shared_locks(store, stop).await);
        }
        pause(ROLL_UP_INTERVAL, stop).await;
    }
}

async fn end_due_shared_locks(store: &Store, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() {
        let ended = store.expire_shared_locks(MAX_SHARED_LOCKS).await?;
        metrics::locks_expired(ended.expired);
        if ended.expired == 0 || usize::try_from(ended.taken).is_ok_and(|taken| taken < MAX_SHARED_LOCKS) {
            break;
        }
    }
    Ok(())
}

async fn run_roll_ups(store: &Store, lead: &HousekeepingLease, stop: &CancellationToken) {
    let mut counts = FailureLog::default();
    let mut statistics = FailureLog::default();
    let mut reserved = FailureLog::default();
    let mut expiries = FailureLog::default();
    let mut stalled = FailureLog::default();
    while !stop.is_cancelled() {
        if lead.is_held() {
            counts.note(store.roll_up_counts().await.map(drop));
            statistics.note(store.roll_up_statistics().await);
            reserved.note(store.release_reserved_codes().await.map(drop));
            expiries.note(store.record_expiries().await.map(drop));
            stalled.note(end_lapsed_sessions(store).await);
        }
        pause(ROLL_UP_INTERVAL, stop).await;
    }
}

/// Lists top holders, and counts the events of an earlier version. Both may take longer than the interval of roll-ups.
async fn run_statistics(store: &Store, lead: &HousekeepingLease, stop: &CancellationToken) {
    let mut holders = FailureLog::default();
    let mut backfill = FailureLog::default();
    while !stop.is_cancelled() {
        if lead.is_held() {
            backfill.note(backfill_statistics(store, stop).await);
            holders.note(list_top_holders(store, stop).await);
        }
        pause(ROLL_UP_INTERVAL, stop).await;
    }
}

async fn backfill_statistics(store: &Store, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() && store.backfill_statistics().await? {}
    Ok(())
}

async fn list_top_holders(store: &Store, stop: &CancellationToken) -> Result<()> {
    while !stop.is_cancelled() && store.list_top_holders().await? {}
    Ok(())
}

async fn end_lapsed_sessions(store: &Store) -> Result<()> {
    let ended = store.end_lapsed_sessions().await?;
    if ended > 0 {
        warn!(
            ended,
            "ended the database sessions of workers that stopped responding in the middle of a chunk"
        );
    }
    Ok(())
}

/// Waits for this time, or until the worker stops.
async fn pause(time: Duration, stop: &CancellationToken) {
    let _ = tokio::time::timeout(time, stop.cancelled()).await;
}

/// Logs a failure once, not again every second.
#[derive(Default)]
struct FailureLog {
    is_bad: bool,
}

impl FailureLog {
    fn note(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.is_bad = false,
            Err(failure) => {
                if !self.is_bad {
                    warn!(error = failure.chain(), "housekeeping failed and is retried");
                }
                self.is_bad = true;
            }
        }
    }
}
