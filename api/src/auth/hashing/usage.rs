//! How much each address, caller and account uses the queue of passwords.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::shares::Owner;

/// How long a request counts that left the queue without a right password, after the last of them.
pub(super) const FAILURE_MEMORY: Duration = Duration::from_mins(10);
/// The most rivals that are remembered for such requests.
const MAX_REMEMBERED: usize = 100_000;

/// Whose uses are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rival {
    Owner(Owner),
    Account(u64),
}

#[derive(Debug, Default)]
pub(super) struct Usage(HashMap<Rival, Uses>);

#[derive(Debug, Default)]
struct Uses {
    /// In the queue or being hashed.
    current: u32,
    /// Those that did not go well, and when the last one left.
    failed: u32,
    last_failure: Option<Instant>,
}

impl Uses {
    fn count(&self, now: Instant) -> u32 {
        self.current.saturating_add(if self.is_remembered(now) { self.failed } else { 0 })
    }

    fn is_remembered(&self, now: Instant) -> bool {
        self.last_failure.is_some_and(|at| now.saturating_duration_since(at) < FAILURE_MEMORY)
    }
}

impl Usage {
    /// Counts one more use; how many there were by addresses and callers, and of accounts.
    pub(super) fn add(&mut self, rivals: &[Rival], now: Instant) -> (u32, u32) {
        if self.0.len() > MAX_REMEMBERED {
            self.forget_quiet(now);
        }
        if self.0.len() > MAX_REMEMBERED {
            self.0.retain(|_, uses| uses.current > 0);
        }
        let (mut by_owners, mut of_accounts) = (0_u32, 0_u32);
        for rival in rivals {
            let uses = self.0.entry(*rival).or_default();
            let sum = match rival {
                Rival::Owner(_) => &mut by_owners,
                Rival::Account(_) => &mut of_accounts,
            };
            *sum = sum.saturating_add(uses.count(now));
            uses.current += 1;
        }
        (by_owners, of_accounts)
    }

    /// Ends a use, which went well or not.
    pub(super) fn remove(&mut self, rivals: &[Rival], has_failed: bool, now: Instant) {
        for rival in rivals {
            let Some(uses) = self.0.get_mut(rival) else { continue };
            uses.current = uses.current.saturating_sub(1);
            if has_failed {
                uses.failed = if uses.is_remembered(now) { uses.failed.saturating_add(1) } else { 1 };
                uses.last_failure = Some(now);
            }
            if uses.count(now) == 0 {
                self.0.remove(rival);
            }
        }
    }

    /// Drops what counts for nothing.
    pub(super) fn forget_quiet(&mut self, now: Instant) {
        self.0.retain(|_, uses| uses.count(now) > 0);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
