//! Counts the use of the password queue by address, caller and account.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::Owner;

/// How long failed requests count after the last failure.
pub(super) const FAILURE_TTL: Duration = Duration::from_mins(10);
/// Maximum number of keys with failed requests.
const MAX_ENTRIES: usize = 100_000;

/// Requests with the same key are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum UsageKey {
    Owner(Owner),
    Account(u64),
}

#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<UsageKey, Count>);

#[derive(Debug, Default)]
struct Count {
    /// In the queue or being hashed.
    current: u32,
    /// Failed requests, and the time of the last failure.
    failed: u32,
    last_failure: Option<Instant>,
}

impl Count {
    fn count(&self, now: Instant) -> u32 {
        self.current.saturating_add(if self.has_recent_failure(now) { self.failed } else { 0 })
    }

    fn has_recent_failure(&self, now: Instant) -> bool {
        self.last_failure.is_some_and(|at| now.saturating_duration_since(at) < FAILURE_TTL)
    }
}

impl Usage {
    /// Adds a use. Returns the earlier uses by addresses and callers, and of accounts.
    pub(super) fn add(&mut self, usage_keys: &[UsageKey], now: Instant) -> (u32, u32) {
        if self.0.len() > MAX_ENTRIES {
            self.evict_idle(now);
        }
        if self.0.len() > MAX_ENTRIES {
            self.0.retain(|_, uses| uses.current > 0);
        }
        let (mut by_owners, mut of_accounts) = (0_u32, 0_u32);
        for usage_key in usage_keys {
            let uses = self.0.entry(*usage_key).or_default();
            let sum = match usage_key {
                UsageKey::Owner(_) => &mut by_owners,
                UsageKey::Account(_) => &mut of_accounts,
            };
            *sum = sum.saturating_add(uses.count(now));
            uses.current += 1;
        }
        (by_owners, of_accounts)
    }

    /// Ends a use.
    pub(super) fn remove(&mut self, usage_keys: &[UsageKey], has_failed: bool, now: Instant) {
        for usage_key in usage_keys {
            let Some(uses) = self.0.get_mut(usage_key) else { continue };
            uses.current = uses.current.saturating_sub(1);
            if has_failed {
                uses.failed = if uses.has_recent_failure(now) { uses.failed.saturating_add(1) } else { 1 };
                uses.last_failure = Some(now);
            }
            if uses.count(now) == 0 {
                self.0.remove(usage_key);
            }
        }
    }

    /// Drops keys without uses.
    pub(super) fn evict_idle(&mut self, now: Instant) {
        self.0.retain(|_, uses| uses.count(now) > 0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
