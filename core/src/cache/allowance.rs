//! Buckets that all tasks of a fleet take from.

use std::time::Duration;

use super::Cache;
use super::link::SCRIPTS;

/// What a bucket said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// One was taken.
    Granted {
        /// How many are left.
        remaining: u32,
    },
    /// There was none.
    Refused {
        /// How long until there is one.
        wait: Duration,
    },
}

impl Cache {
    /// Takes one from the bucket of that name, which holds `most` and gets one back `every` so often. Nothing is said while
    /// Redis is away: a bucket of the caller's own decides then.
    pub async fn take(&self, name: &str, every: Duration, most: u32) -> Option<Allowance> {
        let every = u64::try_from(every.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut call = SCRIPTS.take.call(&[&format!("rate:{name}")]);
        let (granted, remaining, wait) = self.ask::<(bool, u32, u64)>(call.arg(every).arg(most)).await?;
        Some(if granted {
            Allowance::Granted { remaining }
        } else {
            Allowance::Refused { wait: Duration::from_micros(wait) }
        })
    }
}
