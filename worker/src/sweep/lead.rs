//! Selects the worker that does the housekeeping: the one with the lease in the database.
//!
//! **Invariant.** Two workers may do the housekeeping at once, for example after a process was frozen: each statement
//! checks its own preconditions.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cuponera_store::Result;
use cuponera_store::Store;
use tokio_util::sync::CancellationToken;

use super::{FailureLog, pause};

/// Duration of the lease. It expires at most this long after the leader has died.
const LEASE: Duration = Duration::from_secs(6);
/// Interval at which the leader renews the lease and the other workers request it.
const RENEW: Duration = Duration::from_secs(2);

/// The lease as this worker knows it.
pub(super) struct HousekeepingLease {
    store: Store,
    holder: String,
    until: Mutex<Option<Instant>>,
}

impl HousekeepingLease {
    pub(super) fn new(store: Store, holder: String) -> Self {
        Self { store, holder, until: Mutex::new(None) }
    }

    /// Whether this worker has the lease.
    pub(super) fn is_held(&self) -> bool {
        self.until.lock().is_ok_and(|until| until.is_some_and(|until| Instant::now() < until))
    }

    /// Requests or renews the lease.
    pub(super) async fn renew(&self) -> Result<()> {
        // Measured from before the request, so that the lease ends here before it ends in the database.
        let asked = Instant::now();
        let is_ours = self.store.lead_housekeeping(&self.holder, LEASE).await?;
        if let Ok(mut until) = self.until.lock() {
            *until = is_ours.then(|| asked + LEASE);
        }
        Ok(())
    }

    /// Renews the lease until the worker stops, then releases it.
    pub(super) async fn keep(&self, stop: &CancellationToken) {
        let mut mood = FailureLog::default();
        while !stop.is_cancelled() {
            mood.note(self.renew().await);
            pause(RENEW, stop).await;
        }
        if self.is_held() {
            mood.note(self.store.yield_housekeeping(&self.holder).await);
        }
    }
}
