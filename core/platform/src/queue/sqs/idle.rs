//! Records which slots of this process wait for a message, and since when. If Postgres has runnable chunks
//! while a slot waits, messages were lost.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// All waiting slots.
#[derive(Debug, Default)]
pub(super) struct IdleSlots {
    slots: AtomicU64,
    since: Mutex<HashMap<u64, Instant>>,
}

impl IdleSlots {
    /// A number for a new slot.
    pub(super) fn new_slot(&self) -> u64 {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }

    /// Records that the slot waits; an earlier start time is kept.
    pub(super) fn waits(&self, slot: u64) {
        self.since().entry(slot).or_insert_with(Instant::now);
    }

    /// Records that the slot no longer waits, or that this is unknown.
    pub(super) fn ends(&self, slot: u64) {
        self.since().remove(&slot);
    }

    /// How long the longest-waiting slot has waited.
    pub(super) fn longest(&self) -> Option<Duration> {
        self.since().values().map(Instant::elapsed).max()
    }

    fn since(&self) -> MutexGuard<'_, HashMap<u64, Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
