//! Which places of this process wait for a message, and since when: Postgres has work and a place waits in vain means that
//! messages were lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All places that wait.
#[derive(Debug, Default)]
pub(super) struct Idle {
    places: AtomicU64,
    since: Mutex<HashMap<u64, Instant>>,
}

impl Idle {
    /// A number for a new place.
    pub(super) fn new_place(&self) -> u64 {
        self.places.fetch_add(1, Ordering::Relaxed)
    }

    /// The place waits, maybe already for some time.
    pub(super) fn waits(&self, place: u64) {
        self.since().entry(place).or_insert_with(Instant::now);
    }

    /// The place does not wait any more, or cannot tell.
    pub(super) fn ends(&self, place: u64) {
        self.since().remove(&place);
    }

    /// How long the place that waits longest has done so.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.since().values().map(Instant::elapsed).max()
    }

    fn since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
