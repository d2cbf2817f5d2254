//! Redis: a cache that speeds up a fleet and decides nothing.
//!
//! **Invariants.** No caller waits longer than [`CALL_TIMEOUT`] for Redis, or at all while it is unavailable:
//! calls then return nothing, as if nothing had been stored. A stored value may be lost, late or outdated
//! at any time. A value that is read is checked against Postgres before it counts, or carries the time
//! until which it is valid. Keys contain the business, so data of businesses is separate.

mod allowance;
mod link;
mod locks;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Pipeline};
use secrecy::{ExposeSecret, SecretString};

pub use allowance::RateLimitDecision;
pub use link::CALL_TIMEOUT;
pub use locks::DueLocks;
pub use progress::READING_TTL;

use link::{BackgroundConnection, Connection};

/// A Redis that may be unavailable or not configured. Clones share the connection, which is closed with the
/// last clone.
#[derive(Debug, Clone, Default)]
pub struct Cache(Option<Arc<BackgroundConnection>>);

/// The state of an installation's Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheState {
    /// Not configured.
    Disabled,
    /// Redis answers.
    Connected,
    /// It does not answer; reconnecting continues in the background.
    Disconnected,
}

impl Cache {
    /// An installation without Redis.
    pub fn none() -> Self {
        Self::default()
    }

    /// Tries to connect, and continues in the background; needs a tokio runtime. Only an invalid address is
    /// an error; an unavailable Redis is not.
    pub async fn open(url: &SecretString) -> Result<Self, String> {
        Self::open_with(url, CALL_TIMEOUT).await
    }

    /// The same with another timeout of calls.
    pub async fn open_with(url: &SecretString, timeout: Duration) -> Result<Self, String> {
        let link = Connection::to(check_url(url)?, timeout);
        Ok(Self(Some(Arc::new(link.run().await))))
    }

    /// The current state.
    pub fn state(&self) -> CacheState {
        match &self.0 {
            None => CacheState::Disabled,
            Some(running) if running.link.is_up() => CacheState::Connected,
            Some(_) => CacheState::Disconnected,
        }
    }

    fn link(&self) -> Option<&Connection> {
        self.0.as_ref().map(|running| running.link.as_ref())
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        self.link()?.query(async |mut connection| command.query_async(&mut connection).await).await
    }

    async fn query_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Option<T> {
        self.link()?.query(async |mut connection| commands.query_async(&mut connection).await).await
    }

    /// The time of Redis at a local instant, in milliseconds since 1970.
    fn clock_at(&self, instant: Instant) -> Option<i64> {
        self.link()?.clock_at(instant)
    }
}

/// Checks an address of Redis. The error does not contain the address, which may have a password.
pub fn check_url(url: &SecretString) -> Result<redis::Client, String> {
    let fault = || "must be redis:// or rediss:// and a host, as in redis://localhost:6379".to_owned();
    let text = url.expose_secret();
    if !["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(fault());
    }
    redis::Client::open(text).map_err(|_| fault())
}
