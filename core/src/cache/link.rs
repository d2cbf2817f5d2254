//! The connection to Redis. It is there or it is not: the first call that fails takes it away for everybody, and only a
//! keeper in the background, which no request waits for, brings it back.
//!
//! That is the breaker: it opens with the first failure, and no request is ever sent to find out whether it may close. A
//! connection manager would have callers wait for its attempts, and a connection to a frozen server looks alive to it.

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

/// The longest that any call waits for an answer.
pub const ANSWER: Duration = Duration::from_millis(100);
/// Connecting may take so many answers; only the keeper waits for it.
const CONNECT: u32 = 2;
/// How often the keeper looks: a Redis that freezes while nobody asks is noticed after at most this and [`ANSWER`].
const BEAT: Duration = Duration::from_millis(250);

/// A connection that has lasted so long ends an outage, as far as the log goes.
const STEADY: Duration = Duration::from_secs(1);

/// What can be called by hash once a connection is there.
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

/// A script: Redis runs it as a whole or not at all, and nothing in between.
#[derive(Debug)]
pub(super) struct Lua {
    source: &'static str,
    hash: String,
}

impl Lua {
    fn new(source: &'static str) -> Self {
        Self { source, hash: Script::new(source).get_hash().to_owned() }
    }

    /// Its call, without what comes after the keys.
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        command
    }
}

/// Redis, whether it answers or not.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    /// The longest that any call waits.
    patience: Duration,
    live: RwLock<Option<Arc<Live>>>,
    lost: Notify,
    /// Whether its absence has been told.
    is_told: AtomicBool,
}

/// A link with its keeper, which ends with it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) link: Arc<Link>,
    _keeper: AbortOnDropHandle<()>,
}

/// A connection that has failed nobody yet.
#[derive(Debug)]
struct Live {
    connection: MultiplexedConnection,
    since: Instant,
    clock: RwLock<Clock>,
}

/// Redis's own time, in milliseconds since 1970, at an instant of ours.
#[derive(Debug, Clone, Copy)]
struct Clock {
    at: Instant,
    milliseconds: i64,
}

impl Link {
    pub(super) fn to(client: Client, patience: Duration) -> Self {
        let (live, lost, is_told) = (RwLock::default(), Notify::new(), AtomicBool::new(false));
        Self { client, patience, live, lost, is_told }
    }

    /// Connects if that can be had at once, and starts the keeper.
    pub(super) async fn run(self) -> Running {
        let link = Arc::new(self);
        link.look().await;
        let keeper = AbortOnDropHandle::new(tokio::spawn(link.clone().keep()));
        Running { link, _keeper: keeper }
    }

    pub(super) fn is_up(&self) -> bool {
        self.live().is_some()
    }

    /// Redis's own time at an instant of ours.
    pub(super) fn clock_at(&self, instant: Instant) -> Option<i64> {
        let live = self.live()?;
        let clock = *live.clock.read().unwrap_or_else(PoisonError::into_inner);
        Some(clock.at(instant))
    }

    /// The answer, if there is a connection and it answers in time.
    pub(super) async fn ask<T>(
        &self,
        question: impl AsyncFnOnce(MultiplexedConnection) -> RedisResult<T>,
    ) -> Option<T> {
        let live = self.live()?;
        match timeout(self.patience, question(live.connection.clone())).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => self.lose(&live, &error.to_string()),
            Err(_) => self.lose(&live, "it did not answer in time"),
        }
    }

    fn live(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the connection away from everybody, unless another one is there by now.
    fn lose<T>(&self, lost: &Arc<Live>, why: &str) -> Option<T> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, lost)) {
            *live = None;
            drop(live);
            self.tell(why);
            metrics::redis_went_away();
            self.lost.notify_one();
        }
        None
    }

    /// Keeps the connection alive, or comes by a new one, for as long as it is polled.
    async fn keep(self: Arc<Self>) {
        loop {
            let was_up = self.live();
            let _ = timeout(BEAT, self.lost.notified()).await;
            // A server that takes connections and then fails all calls is not asked without a pause.
            if let Some(live) = was_up
                && self.live().is_none()
            {
                sleep(BEAT.saturating_sub(live.since.elapsed())).await;
            }
            self.look().await;
        }
    }

    async fn look(&self) {
        let Some(live) = self.live() else {
            return match timeout(self.patience * (CONNECT + 1), self.connect()).await {
                Ok(Ok(live)) => self.take_up(live),
                Ok(Err(error)) => self.tell(&error.to_string()),
                Err(_) => self.tell("it takes too long to connect"),
            };
        };
        let time = redis::cmd("TIME");
        let answer: Option<(i64, i64)> =
            self.ask(async |mut connection| time.query_async(&mut connection).await).await;
        if let Some(time) = answer {
            *live.clock.write().unwrap_or_else(PoisonError::into_inner) = Clock::read(time);
            // One that takes connections and then fails all calls, as when it is full, has not come back.
            if live.since.elapsed() > STEADY && self.is_told.swap(false, Ordering::Relaxed) {
                info!("Redis answers again");
            }
        }
    }

    async fn connect(&self) -> RedisResult<Live> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience * CONNECT))
            .set_response_timeout(Some(self.patience));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let Scripts { take, keep_job, find_job, note_lock, claim_locks } = &*SCRIPTS;
        let mut first = redis::pipe();
        for script in [take, keep_job, find_job, note_lock, claim_locks] {
            first.cmd("SCRIPT").arg("LOAD").arg(script.source).ignore();
        }
        let (time,) = first.cmd("TIME").query_async::<((i64, i64),)>(&mut connection).await?;
        Ok(Live { connection, since: Instant::now(), clock: RwLock::new(Clock::read(time)) })
    }

    fn take_up(&self, live: Live) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(live));
    }

    /// Says once that Redis is away, not at every attempt.
    fn tell(&self, why: &str) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            warn!(why, "Redis is away; all goes on without it");
        }
    }
}

impl Clock {
    /// From the answer to TIME that has just come. It was true a moment ago, so this clock is a moment behind: nothing is
    /// believed for longer than it should.
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
