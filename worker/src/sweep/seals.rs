//! Seals the event logs, on the worker with the lease. The database decides which events are sealed, and that two sealers produce one
//! chain. Nothing here begins a transaction.

use std::time::Duration;

use cuponera_domain::audit::{AuditKey, Log};
use cuponera_platform::telemetry::metrics::{self, SealerState};
use cuponera_store::{MAX_EVENTS_SEALED, Result, SealRound, Store};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::lead::HousekeepingLease;
use super::{FailureLog, pause};

/// Interval of rounds. Each round makes a seal for each log that has new events, so a shorter one would make more rows.
const SEAL_INTERVAL: Duration = Duration::from_secs(2);

/// Seals events until the worker stops.
pub(super) async fn seal_events(
    store: &Store,
    key: Option<&AuditKey>,
    lead: &HousekeepingLease,
    stop: &CancellationToken,
) {
    let Some(key) = key else {
        warn!(fix = "set CUPONERA_AUDIT_KEY", "this worker has no audit key: it seals no events");
        metrics::sealer(SealerState::NoKey);
        return;
    };
    metrics::sealer(SealerState::Ready);
    let mut failures = FailureLog::default();
    let mut has_other_key = false;
    while !stop.is_cancelled() {
        if lead.is_held() {
            let sealed = seal(store, key, lead, stop).await;
            if let Ok(is_other) = sealed {
                report(is_other, has_other_key);
                has_other_key = is_other;
            }
            failures.note(sealed.map(drop));
        }
        pause(SEAL_INTERVAL, stop).await;
    }
}

/// Seals both logs to their ends. Returns whether the chain was begun with another key.
async fn seal(
    store: &Store,
    key: &AuditKey,
    lead: &HousekeepingLease,
    stop: &CancellationToken,
) -> Result<bool> {
    for log in Log::ALL {
        while lead.is_held() && !stop.is_cancelled() {
            match store.seal_events(key, log, MAX_EVENTS_SEALED).await? {
                SealRound::Sealed(events) => {
                    metrics::events_sealed(events);
                    if i64::from(events) < MAX_EVENTS_SEALED {
                        break;
                    }
                }
                SealRound::UpToDate => break,
                SealRound::Raced => {}
                SealRound::OtherKey => return Ok(true),
            }
        }
    }
    Ok(false)
}

/// Reports a change of the state once.
fn report(is_other: bool, was_other: bool) {
    if is_other == was_other {
        return;
    }
    if is_other {
        error!(
            fix = "set CUPONERA_AUDIT_KEY to the key with which the chain was begun",
            "the seals of this database were made with another audit key: this worker seals no events"
        );
    }
    metrics::sealer(if is_other { SealerState::OtherKey } else { SealerState::Ready });
}
