//! Which of several workers keeps house: the one that has the lease in the database.
//!
//! **Invariant.** Nothing is wrong if two keep house at once, as after a process was frozen: each statement decides by itself.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use cuponera_core::error::Result;
use cuponera_core::store::Store;
use tokio_util::sync::CancellationToken;

use super::{Mood, pause};

/// How long the lease holds. Another worker takes over at most this long after the leader has died.
const LEASE: Duration = Duration::from_secs(6);
/// How often the leader renews the lease, and the others ask for it.
const RENEW: Duration = Duration::from_secs(2);

/// The lease, as one worker knows it.
pub(super) struct Lead {
    store: Store,
    holder: String,
    until: Mutex<Option<Instant>>,
}

impl Lead {
    pub(super) fn new(store: Store, holder: String) -> Self {
        Self { store, holder, until: Mutex::new(None) }
    }

    /// Whether this worker keeps house.
    pub(super) fn is_held(&self) -> bool {
        self.until.lock().is_ok_and(|until| until.is_some_and(|until| Instant::now() < until))
    }

    /// Asks for the lease, or renews it.
    pub(super) async fn renew(&self) -> Result<()> {
        // Counted from before the question: the database counts from a later moment.
        let asked = Instant::now();
        let is_ours = self.store.lead_housekeeping(&self.holder, LEASE).await?;
        if let Ok(mut until) = self.until.lock() {
            *until = is_ours.then(|| asked + LEASE);
        }
        Ok(())
    }

    /// Renews the lease until the worker stops, and then gives it back.
    pub(super) async fn keep(&self, stop: &CancellationToken) {
        let mut mood = Mood::default();
        while !stop.is_cancelled() {
            mood.note(self.renew().await);
            pause(RENEW, stop).await;
        }
        if self.is_held() {
            mood.note(self.store.yield_housekeeping(&self.holder).await);
        }
    }
}
