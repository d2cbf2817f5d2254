//! Ends locks that have run out: those that the index in Redis says are due, at once; all that the agenda in Postgres has,
//! every second where there is no such index, and now and then where there is.
//!
//! **Invariant.** The index decides nothing: Postgres ends a lock, or says why it is none. And it need not be whole: each look
//! at the agenda puts into it what runs out before the next look, and an index that was lost is noticed by its name.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use cuponera_core::cache::{Cache, CacheState};
use cuponera_core::error::Result;
use cuponera_core::store::Store;
use cuponera_core::telemetry::metrics;

use super::lead::Lead;

/// How often the index is asked.
const ASK_INDEX: Duration = Duration::from_millis(250);
/// How often the agenda is looked at where nothing else says what is due.
const LOOK_OFTEN: Duration = Duration::from_secs(1);
/// The same where the index does.
const LOOK_SELDOM: Duration = Duration::from_secs(5);
/// What runs out within this time is put into the index: longer than until the next look.
const AHEAD: Duration = Duration::from_secs(7);
/// How many lapsed locks are ended in one statement.
const AT_ONCE: i64 = 1_000;
/// How many locks are put into the index at one look. If there are more, the next look comes soon.
const MOST_AHEAD: i64 = 10_000;

/// The tidying-up of locks, as one process does it.
pub(super) struct Locks {
    store: Store,
    cache: Cache,
    looked: Option<Look>,
}

/// The last look at the agenda.
struct Look {
    at: Instant,
    /// The database's time of it.
    time: DateTime<Utc>,
    /// The index that has been given what runs out next.
    index: Option<String>,
}

impl Locks {
    pub(super) fn new(store: Store, cache: Cache) -> Self {
        Self { store, cache, looked: None }
    }

    /// When to come back.
    pub(super) fn pause(&self) -> Duration {
        match self.cache.state() {
            CacheState::Disabled | CacheState::Disconnected => LOOK_OFTEN,
            CacheState::Connected => ASK_INDEX,
        }
    }

    /// Ends due locks: those that the index hands to this worker, and those of the agenda if it keeps house.
    pub(super) async fn tidy_up(&mut self, lead: &Lead) -> Result<()> {
        let index = self.follow_index().await?;
        if !lead.is_held() {
            return Ok(());
        }
        let patience = match &self.looked {
            None => Duration::ZERO,
            Some(look) if index.is_some() && look.index == index => LOOK_SELDOM,
            Some(_) => LOOK_OFTEN,
        };
        if self.looked.as_ref().is_none_or(|look| look.at.elapsed() >= patience) {
            self.look_at_agenda(index).await?;
        }
        Ok(())
    }

    /// Ends what the index says is due, if there is an index; answers its name.
    async fn follow_index(&self) -> Result<Option<String>> {
        // Any time will do before the first look: nothing is due, and the index tells its name.
        let now = self.looked.as_ref().map_or(DateTime::UNIX_EPOCH, |look| look.time + look.at.elapsed());
        loop {
            let Some(due) = self.cache.claim_due_locks(now, AT_ONCE).await else { return Ok(None) };
            if !due.coupons.is_empty() {
                metrics::locks_expired(self.store.expire_locks_of(&due.coupons).await?);
                self.cache.note_locks(&self.store.lock_notes_of(&due.coupons).await?).await;
            }
            if i64::try_from(due.coupons.len()).unwrap_or(i64::MAX) < AT_ONCE {
                return Ok(Some(due.index));
            }
        }
    }

    async fn look_at_agenda(&mut self, index: Option<String>) -> Result<()> {
        loop {
            let swept = self.store.expire_locks(AT_ONCE).await?;
            metrics::locks_expired(swept.expired);
            if swept.taken < AT_ONCE {
                break;
            }
        }
        let time = self.store.now().await?;
        let mut look = Look { at: Instant::now(), time, index: None };
        if index.is_some() {
            let soon = self.store.locks_due_within(AHEAD, MOST_AHEAD).await?;
            self.cache.note_locks(&soon).await;
            let is_whole = i64::try_from(soon.len()).unwrap_or(i64::MAX) < MOST_AHEAD;
            look.index = index.filter(|_| is_whole);
        }
        self.looked = Some(look);
        Ok(())
    }
}
