//! The metrics of the seals over the event logs.

use std::time::Duration;

use metrics::{counter, gauge};

use super::label;

/// Whether a worker can seal events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealerState {
    /// It seals while it has the lease of housekeeping.
    Ready,
    /// It has no key.
    NoKey,
    /// The chain was begun with another key.
    OtherKey,
}

const STATES: [(SealerState, &str); 3] =
    [(SealerState::Ready, "ready"), (SealerState::NoKey, "no_key"), (SealerState::OtherKey, "other_key")];

/// Creates all series with the value 0.
pub(super) fn prepare() {
    counter!("cuponera_audit_events_sealed_total").increment(0);
    for (_, name) in STATES {
        gauge!("cuponera_audit_sealer", vec![label("state", name)]).set(0.0);
    }
    sealing_lag(Duration::ZERO, Duration::ZERO);
}

/// Sets the state of this worker.
pub fn sealer(current: SealerState) {
    for (state, name) in STATES {
        gauge!("cuponera_audit_sealer", vec![label("state", name)])
            .set(f64::from(u8::from(state == current)));
    }
}

/// Counts the events of a seal.
pub fn events_sealed(count: i32) {
    counter!("cuponera_audit_events_sealed_total").increment(u64::try_from(count).unwrap_or(0));
}

/// Sets the lag of sealing, and the age of the oldest open transaction that has written.
pub(crate) fn sealing_lag(lag: Duration, oldest_writer: Duration) {
    gauge!("cuponera_audit_lag_seconds").set(lag.as_secs_f64());
    gauge!("cuponera_oldest_writer_seconds").set(oldest_writer.as_secs_f64());
}
