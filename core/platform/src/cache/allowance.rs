//! Rate-limit buckets shared by all processes of a fleet.

use std::time::Duration;

use super::Cache;
use super::link::SCRIPTS;

/// The answer of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimitDecision {
    /// A token was taken.
    Granted {
        /// Number of remaining tokens.
        remaining: u32,
    },
    /// The bucket was empty.
    Rejected {
        /// Time until the next token.
        wait: Duration,
    },
}

impl Cache {
    /// Takes a token from the bucket `name`, which holds `most` tokens and gets one back after each
    /// `every`. Returns `None` while Redis is unavailable; the caller's own bucket then decides.
    pub async fn take(&self, name: &str, every: Duration, most: u32) -> Option<RateLimitDecision> {
        let every = u64::try_from(every.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut call = SCRIPTS.take.call(&[&format!("rate:{name}")]);
        let (granted, remaining, wait) = self.query::<(bool, u32, u64)>(call.arg(every).arg(most)).await?;
        Some(if granted {
            RateLimitDecision::Granted { remaining }
        } else {
            RateLimitDecision::Rejected { wait: Duration::from_micros(wait) }
        })
    }
}
