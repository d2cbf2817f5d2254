//! The connection to Redis. It is up or down: the first failing call marks it as down for all callers, and
//! only a background task reconnects. No request waits for a connection attempt.
//!
//! This is a circuit breaker that opens at the first failure and never tests the connection with a request.
//! With a connection manager callers would wait for its attempts, and it would treat a connection to a
//! frozen server as alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, RedisResult, Script};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::telemetry::metrics;

/// Timeout of a call.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Timeout of connecting, in multiples of a call's timeout; only the background task waits for it.
const CONNECT_FACTOR: u32 = 2;
/// Interval of the background check: a Redis that freezes while idle is noticed after at most this and
/// [`CALL_TIMEOUT`].
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// A connection that has lasted this long ends an outage, for the log.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The scripts, which are loaded into Redis for each connection and called by hash.
pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    take: Lua::new(include_str!("lua/take.lua")),
    keep_job: Lua::new(include_str!("lua/keep_job.lua")),
    find_job: Lua::new(include_str!("lua/find_job.lua")),
    note_lock: Lua::new(include_str!("lua/note_lock.lua")),
    claim_locks: Lua::new(include_str!("lua/claim_locks.lua")),
});

/// All scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) take: Lua,
    pub(super) keep_job: Lua,
    pub(super) find_job: Lua,
    pub(super) note_lock: Lua,
    pub(super) claim_locks: Lua,
}

/// A script. Redis runs it atomically.
#[derive(Debug)]
pub(super) struct Lua {
    source: &'static str,
    hash: String,
}

impl Lua {
    fn new(source: &'static str) -> Self {
        Self { source, hash: Script::new(source).get_hash().to_owned() }
    }

    /// The command that calls it, without the arguments after the keys.
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

/// The Redis server and the state of the connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// Timeout of a call.
    timeout: Duration,
    live: RwLock<Option<Arc<LiveConnection>>>,
    lost: Notify,
    /// Whether the current outage was logged.
    is_outage_logged: AtomicBool,
}

/// A link with its background task, which ends with it.
#[derive(Debug)]
pub(super) struct BackgroundConnection {
    pub(super) link: Arc<Connection>,
    _keeper: AbortOnDropHandle<()>,
}

/// A working connection.
#[derive(Debug)]
struct LiveConnection {
    connection: MultiplexedConnection,
    since: Instant,
    clock: RwLock<Clock>,
}

/// A time of Redis, in milliseconds since 1970, and the local instant at which it was read.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: Instant,
    milliseconds: i64,
}

impl Connection {
    pub(super) fn to(client: Client, timeout: Duration) -> Self {
        let (live, lost, is_outage_logged) = (RwLock::default(), Notify::new(), AtomicBool::new(false));
        Self { client, timeout, live, lost, is_outage_logged }
    }

    /// Tries to connect once, and starts the background task.
    pub(super) async fn run(self) -> BackgroundConnection {
        let link = Arc::new(self);
        link.check().await;
        let keeper = AbortOnDropHandle::new(tokio::spawn(link.clone().keep()));
        BackgroundConnection { link, _keeper: keeper }
    }

    pub(super) fn is_up(&self) -> bool {
        self.live().is_some()
    }

    /// The time of Redis at a local instant.
    pub(super) fn clock_at(&self, instant: Instant) -> Option<i64> {
        let live = self.live()?;
        let clock = *live.clock.read().unwrap_or_else(PoisonError::into_inner);
        Some(clock.at(instant))
    }

    /// The answer, if the connection is up and Redis answers in time.
    pub(super) async fn query<T>(
        &self,
        question: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let live = self.live()?;
        match timeout(self.timeout, question(live.connection.clone())).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => self.mark_down(&live, &error.to_string()),
            Err(_) => self.mark_down(&live, "it did not answer in time"),
        }
    }

    fn live(&self) -> Option<Arc<LiveConnection>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Marks the connection as down for all callers, unless it was already replaced.
    fn mark_down<T>(&self, lost: &Arc<LiveConnection>, why: &str) -> Option<T> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            *live = None;
            drop(live);
            self.log_outage(why);
            metrics::redis_outage();
            self.lost.notify_one();
        }
        None
    }

    /// Checks or reestablishes the connection, until the task is aborted.
    async fn keep(self: Arc<Self>) {
        loop {
            let was_up = self.live();
            let _ = timeout(CHECK_INTERVAL, self.lost.notified()).await;
            // If a server accepts connections but fails all calls, pause before reconnecting.
            if let Some(live) = was_up
                && self.live().is_none()
            {
                sleep(CHECK_INTERVAL.saturating_sub(live.since.elapsed())).await;
            }
            self.check().await;
        }
    }

    async fn check(&self) {
        let Some(live) = self.live() else {
            return match timeout(self.timeout * (CONNECT_FACTOR + 1), self.connect()).await {
                Ok(Ok(live)) => self.set_live(live),
                Ok(Err(error)) => self.log_outage(&error.to_string()),
                Err(_) => self.log_outage("connecting timed out"),
            };
        };
        let time = redis::cmd("TIME");
        let answer: Option<(i64, i64)> =
            self.query(async |mut connection| time.query_async(&mut connection).await).await;
        if let Some(time) = answer {
            *live.clock.write().unwrap_or_else(PoisonError::into_inner) = Clock::read(time);
            // A Redis that accepts connections but fails commands, for example when it is full, still
            // counts as down.
            if live.since.elapsed() > STABLE_AFTER && self.is_outage_logged.swap(false, Ordering::Relaxed) {
                info!("Redis answers again");
            }
        }
    }

    async fn connect(&self) -> RedisResult<LiveConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout * CONNECT_FACTOR))
            .set_response_timeout(Some(self.timeout));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let Scripts { take, keep_job, find_job, note_lock, claim_locks } = &*SCRIPTS;
        let mut first = redis::pipe();
        for script in [take, keep_job, find_job, note_lock, claim_locks] {
            first.cmd("SCRIPT").arg("LOAD").arg(script.source).ignore();
        }
        let (time,) = first.cmd("TIME").query_async::<((i64, i64),)>(&mut connection).await?;
        Ok(LiveConnection { connection, since: Instant::now(), clock: RwLock::new(Clock::read(time)) })
    }

    fn set_live(&self, live: LiveConnection) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(live));
    }

    /// Logs an outage once, not at every attempt.
    fn log_outage(&self, why: &str) {
        if !self.is_outage_logged.swap(true, Ordering::Relaxed) {
            warn!(why, "Redis is unavailable; continuing without it");
        }
    }
}

impl Clock {
    /// Reads the answer to TIME that just arrived. This clock is slightly behind Redis, so nothing stays
    /// valid for too long.
    fn read((seconds, microseconds): (i64, i64)) -> Self {
        Self { at: Instant::now(), milliseconds: seconds * 1_000 + microseconds / 1_000 }
    }

    fn at(self, instant: Instant) -> i64 {
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let ahead = milliseconds(instant.saturating_duration_since(self.at));
        let behind = milliseconds(self.at.saturating_duration_since(instant));
        self.milliseconds + ahead - behind
    }
}
