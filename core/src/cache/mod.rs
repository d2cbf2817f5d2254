//! Redis: what makes a fleet fast, and decides nothing.
//!
//! **Invariants.** Nothing waits longer than [`ANSWER`] for Redis, and nothing at all while it is away: whoever asks is told
//! nothing, as if nothing had ever been kept. Whatever is kept here may be lost, late or old at any moment: what is read is
//! either checked against Postgres before it counts, or carries the time until which it may be believed. Keys name their
//! business, so nothing crosses.

mod allowance;
mod link;
mod locks;
mod progress;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, FromRedisValue, Pipeline};
use secrecy::{ExposeSecret, SecretString};

pub use allowance::Allowance;
pub use link::ANSWER;
pub use locks::{DueLocks, Hold, LockNote};
pub use progress::BELIEVED;

use link::{Link, Running};

/// A Redis that may be away, or none at all. Clones share the connection; it is kept for as long as one of them lives.
#[derive(Debug, Clone, Default)]
pub struct Cache(Option<Arc<Running>>);

/// How the Redis of an installation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheState {
    /// There is none.
    Disabled,
    /// It answers.
    Connected,
    /// It does not answer; it is asked again all the time.
    Disconnected,
}

impl Cache {
    /// An installation without Redis.
    pub fn none() -> Self {
        Self::default()
    }

    /// Tries to connect, and goes on trying in the background; needs a tokio runtime. Only an address that is none is an
    /// error: a Redis that is away is no reason not to start.
    pub async fn open(url: &SecretString) -> Result<Self, String> {
        Self::open_with(url, ANSWER).await
    }

    /// The same, but that calls wait for as long as the caller says.
    pub async fn open_with(url: &SecretString, patience: Duration) -> Result<Self, String> {
        let link = Link::to(check_url(url)?, patience);
        Ok(Self(Some(Arc::new(link.run().await))))
    }

    /// How it is at this moment.
    pub fn state(&self) -> CacheState {
        match &self.0 {
            None => CacheState::Disabled,
            Some(running) if running.link.is_up() => CacheState::Connected,
            Some(_) => CacheState::Disconnected,
        }
    }

    fn link(&self) -> Option<&Link> {
        self.0.as_ref().map(|running| running.link.as_ref())
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Option<T> {
        self.link()?.ask(async |mut connection| command.query_async(&mut connection).await).await
    }

    async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Option<T> {
        self.link()?.ask(async |mut connection| commands.query_async(&mut connection).await).await
    }

    /// Redis's own clock at an instant of ours, in milliseconds since 1970.
    fn clock_at(&self, instant: Instant) -> Option<i64> {
        self.link()?.clock_at(instant)
    }
}

/// What is wrong with an address of Redis, if anything is. It is not repeated: it may have a password.
pub fn check_url(url: &SecretString) -> Result<redis::Client, String> {
    let fault = || "must be redis:// or rediss:// and a host, as in redis://localhost:6379".to_owned();
    let text = url.expose_secret();
    if !["redis://", "rediss://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err(fault());
    }
    redis::Client::open(text).map_err(|_| fault())
}
