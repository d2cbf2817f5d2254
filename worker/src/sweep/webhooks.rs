//! Reads the logs of events and creates the deliveries of webhooks, and deletes old ones, on the worker with the lease. The database decides
//! which events are read. Both begin transactions, so they are not cancelled.

use std::time::{Duration, Instant};

use cuponera_platform::telemetry::metrics;
use cuponera_store::{Result, Store};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lead::HousekeepingLease;
use super::{FailureLog, pause};

/// Polling interval of the logs.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// Maximum number of events of a log that one transaction reads.
const PAGE: i64 = 1_000;
/// Interval of the deletion of old deliveries.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);

/// Creates deliveries until the worker stops, and notifies the part that makes them.
pub(super) async fn create_deliveries(
    store: &Store,
    lead: &HousekeepingLease,
    wake: &Notify,
    stop: &CancellationToken,
) {
    let mut failures = FailureLog::default();
    while !stop.is_cancelled() {
        if lead.is_held() {
            failures.note(read(store, lead, wake, stop).await);
        } else {
            metrics::webhook_events_read(0, Duration::ZERO);
        }
        pause(READ_INTERVAL, stop).await;
    }
}

/// Deletes old deliveries once an hour until the worker stops. A failure is retried after the polling interval.
pub(super) async fn forget_deliveries(store: &Store, lead: &HousekeepingLease, stop: &CancellationToken) {
    let mut failures = FailureLog::default();
    let mut last: Option<Instant> = None;
    while !stop.is_cancelled() {
        if lead.is_held() && last.is_none_or(|last| last.elapsed() >= FORGET_INTERVAL) {
            let forgotten = forget(store, lead, stop).await;
            last = forgotten.is_ok().then(Instant::now);
            failures.note(forgotten);
        }
        pause(READ_INTERVAL, stop).await;
    }
}

/// Reads the logs to their ends.
async fn read(
    store: &Store,
    lead: &HousekeepingLease,
    wake: &Notify,
    stop: &CancellationToken,
) -> Result<()> {
    while lead.is_held() && !stop.is_cancelled() {
        let round = store.read_webhook_events(PAGE).await?;
        metrics::webhook_events_read(round.examined, round.lag);
        if round.created > 0 {
            wake.notify_one();
        }
        if !round.is_behind {
            break;
        }
    }
    Ok(())
}

/// Deletes old deliveries, one slice after the other.
async fn forget(store: &Store, lead: &HousekeepingLease, stop: &CancellationToken) -> Result<()> {
    while lead.is_held() && !stop.is_cancelled() && store.forget_deliveries().await? > 0 {}
    Ok(())
}
