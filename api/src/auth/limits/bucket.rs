//! A token bucket per key, with the generic cell rate algorithm (GCRA), and its rate-limit headers.

use std::fmt::Display;
use std::hash::Hash;
use std::time::{Duration, Instant};

use cuponera_platform::cache::{Cache, RateLimitDecision};
use cuponera_platform::config::Rate;
use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use poem::http::{HeaderMap, HeaderValue};

/// Token buckets with one rate, by key.
#[derive(Debug)]
pub(crate) struct Bucket<K: Hash + Eq + Clone> {
    name: &'static str,
    rate: Rate,
    limiter: RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock, StateInformationMiddleware>,
}

/// The state of a bucket after a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RateLimitState {
    pub(super) name: &'static str,
    rate: Rate,
    remaining: u32,
    /// Seconds until the next token if none remains, otherwise until the bucket is full.
    pub(super) reset_seconds: u32,
}

impl<K: Hash + Eq + Clone> Bucket<K> {
    pub(crate) fn new(name: &'static str, rate: Rate) -> Self {
        let quota = Quota::with_period(one_every(rate))
            .expect("the window of a rate is not zero")
            .allow_burst(rate.count);
        Self { name, rate, limiter: RateLimiter::keyed(quota).with_middleware() }
    }

    /// Takes a token from the bucket of this process and then from the bucket that all processes share. Returns an
    /// error if either is empty. A rejection by this process needs no round trip. While Redis is unavailable only
    /// this process's bucket decides.
    pub(crate) async fn take(&self, cache: &Cache, key: &K) -> Result<RateLimitState, RateLimitState>
    where
        K: Display,
    {
        let here = self.take_here(key)?;
        let Rate { count, window } = self.rate;
        // Processes with other settings, as during a deployment, use other buckets.
        let name = format!("{}:{count}/{}ms:{key}", self.name, window.as_millis());
        match cache.take(&name, one_every(self.rate), count.get()).await {
            Some(RateLimitDecision::Granted { remaining }) if remaining < here.remaining => {
                Ok(self.left(remaining))
            }
            Some(RateLimitDecision::Granted { .. }) | None => Ok(here),
            Some(RateLimitDecision::Rejected { wait }) => Err(self.state(0, wait)),
        }
    }

    /// Takes a token from the bucket of this process.
    fn take_here(&self, key: &K) -> Result<RateLimitState, RateLimitState> {
        match self.limiter.check_key(key) {
            Ok(state) => Ok(self.left(state.remaining_burst_capacity())),
            Err(not_yet) => Err(self.state(0, not_yet.wait_time_from(self.limiter.clock().now()))),
        }
    }

    /// Drops the keys whose buckets are full; a new bucket is the same.
    pub(crate) fn evict_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }

    fn left(&self, remaining: u32) -> RateLimitState {
        let used = self.rate.count.get().saturating_sub(remaining);
        self.state(remaining, one_every(self.rate) * used)
    }

    fn state(&self, remaining: u32, wait: Duration) -> RateLimitState {
        let reset_seconds = u32::try_from(wait.as_millis().div_ceil(1_000)).unwrap_or(u32::MAX).max(1);
        RateLimitState { name: self.name, rate: self.rate, remaining, reset_seconds }
    }
}

/// The time after which one token is returned.
fn one_every(rate: Rate) -> Duration {
    (rate.window / rate.count.get()).max(Duration::from_nanos(1))
}

impl RateLimitState {
    /// When the bucket has a token again, if it is empty.
    pub(super) fn next_token(&self) -> Option<Instant> {
        let wait = one_every(self.rate).min(Duration::from_secs(self.reset_seconds.into()));
        (self.remaining == 0).then(|| Instant::now() + wait)
    }

    /// Adds the headers `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn write_headers(&self, headers: &mut HeaderMap) {
        let Self { name, rate, remaining, reset_seconds } = self;
        let limit = format!("\"{name}\";r={remaining};t={reset_seconds}");
        let policy = format!("\"{name}\";q={};w={}", rate.count, rate.window.as_secs());
        for (header, value) in [("ratelimit", limit), ("ratelimit-policy", policy)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(header, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn an_empty_bucket_returns_the_time_until_the_next_token() {
        let bucket = Bucket::new("user", Rate::per_minute(NonZeroU32::new(3).unwrap()));
        let left: Vec<u32> = (0..3).map(|_| bucket.take_here(&"a").unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let rejected = bucket.take_here(&"a").unwrap_err();
        assert!((1..=20).contains(&rejected.reset_seconds), "{rejected:?}");
        assert_eq!(bucket.take_here(&"b").unwrap().remaining, 2, "another key has a bucket of its own");
    }

    #[test]
    fn headers_have_the_format_of_the_draft() {
        let bucket = Bucket::new("user", Rate::per_minute(NonZeroU32::new(600).unwrap()));
        let mut headers = HeaderMap::new();
        bucket.take_here(&"a").unwrap().write_headers(&mut headers);
        assert_eq!(headers["ratelimit"], "\"user\";r=599;t=1");
        assert_eq!(headers["ratelimit-policy"], "\"user\";q=600;w=60");
    }
}
