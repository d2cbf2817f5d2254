//! Ends expired locks: those that are due in the index in Redis within 250 ms, and all in the agenda in Postgres every
//! second without the index and every 5 s with it.
//!
//! **Invariant.** The index decides nothing: Postgres checks each lock before it ends it. The index may be incomplete:
//! each read of the agenda adds the locks that expire before the next read, and a lost index is detected by its name.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cuponera_platform::cache::{Cache, CacheState};
use cuponera_platform::telemetry::metrics;
use cuponera_store::Result;
use cuponera_store::Store;

use super::lead::HousekeepingLease;

/// Interval of reads of the index.
const INDEX_INTERVAL: Duration = Duration::from_millis(250);
/// Interval of reads of the agenda without the index.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of reads of the agenda with the index.
const POLL_INTERVAL_WITH_INDEX: Duration = Duration::from_secs(5);
/// Locks that expire within this time are added to the index. Longer than [`POLL_INTERVAL_WITH_INDEX`].
const AHEAD: Duration = Duration::from_secs(7);
/// Maximum number of locks that one statement ends.
const MAX_LOCKS_PER_STATEMENT: i64 = 1_000;
/// Maximum number of locks that one read adds to the index. If there are more, the next read follows after
/// [`POLL_INTERVAL`].
const MAX_NOTED: i64 = 10_000;

/// The expiry of locks in one process.
pub(super) struct Locks {
    store: Store,
    cache: Cache,
    looked: Option<AgendaRead>,
}

/// The last read of the agenda.
struct AgendaRead {
    at: Instant,
    /// The database's time of the read.
    time: DateTime<Utc>,
    /// The name of the index that has all locks that expire next.
    index: Option<String>,
}

impl Locks {
    pub(super) fn new(store: Store, cache: Cache) -> Self {
        Self { store, cache, looked: None }
    }

    /// The pause until the next round.
    pub(super) fn pause(&self) -> Duration {
        match self.cache.state() {
            CacheState::Disabled | CacheState::Disconnected => POLL_INTERVAL,
            CacheState::Connected => INDEX_INTERVAL,
        }
    }

    /// Ends due locks: those that the index hands to this worker and, if it has the lease, those of the agenda.
    pub(super) async fn end_due_locks(&mut self, lead: &HousekeepingLease) -> Result<()> {
        let index = self.follow_index().await?;
        if !lead.is_held() {
            return Ok(());
        }
        let patience = match &self.looked {
            None => Duration::ZERO,
            Some(look) if index.is_some() && look.index == index => POLL_INTERVAL_WITH_INDEX,
            Some(_) => POLL_INTERVAL,
        };
        if self.looked.as_ref().is_none_or(|look| look.at.elapsed() >= patience) {
            self.read_agenda(index).await?;
        }
        Ok(())
    }

    /// Ends the locks that are due in the index; returns the name of the index, or `None` without Redis.
    async fn follow_index(&self) -> Result<Option<String>> {
        // Before the first read of the agenda, the Unix epoch: no lock is due, and the call returns the name of the
        // index.
        let now = self.looked.as_ref().map_or(DateTime::UNIX_EPOCH, |look| look.time + look.at.elapsed());
        loop {
            let Some(due) = self.cache.claim_due_locks(now, MAX_LOCKS_PER_STATEMENT).await else {
                return Ok(None);
            };
            if !due.coupons.is_empty() {
                metrics::locks_expired(self.store.expire_locks_of(&due.coupons).await?);
                self.cache.note_locks(&self.store.lock_notes_of(&due.coupons).await?).await;
            }
            if i64::try_from(due.coupons.len()).unwrap_or(i64::MAX) < MAX_LOCKS_PER_STATEMENT {
                return Ok(Some(due.index));
            }
        }
    }

    async fn read_agenda(&mut self, index: Option<String>) -> Result<()> {
        loop {
            let swept = self.store.expire_locks(MAX_LOCKS_PER_STATEMENT).await?;
            metrics::locks_expired(swept.expired);
            if swept.taken < MAX_LOCKS_PER_STATEMENT {
                break;
            }
        }
        let time = self.store.now().await?;
        let mut look = AgendaRead { at: Instant::now(), time, index: None };
        if index.is_some() {
            let soon = self.store.locks_due_within(AHEAD, MAX_NOTED).await?;
            self.cache.note_locks(&soon).await;
            let is_whole = i64::try_from(soon.len()).unwrap_or(i64::MAX) < MAX_NOTED;
            look.index = index.filter(|_| is_whole);
        }
        self.looked = Some(look);
        Ok(())
    }
}
