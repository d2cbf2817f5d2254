//! The state that all requests share.

mod builder;
pub(crate) mod database_health;
mod open_files;

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuponera_domain::id::LoginId;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::Cache as Redis;
use cuponera_platform::credential::Tokens;
use cuponera_platform::files::Files;
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::{Exposition, metrics};
use cuponera_store::{
    AssignNamed, AssignRandom, KeyHolder, Lock, LoginHolder, Redeem, Revoke, Rollback, Store, Unlock, Void,
};
use cuponera_store::{Error, Result};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::database_health::DatabaseHealth;
use crate::auth::credential_cache::CredentialCache;
use crate::auth::hashing::Hashing;
use crate::auth::limits::Limiter;
use crate::follow::Followers;
use crate::hot::lanes::Lanes;
use crate::hot::lock_notes::LockNotes;
use crate::http::headers::Cors;
use crate::jobs::dead_letters::DeadLetters;
use crate::jobs::progress::Progress;
use crate::jobs::watch::{Watches, Watching};
use crate::routes::MAX_CODES_KEPT;
use crate::shares::{BODY_UNIT_BYTES, Shares};

pub use builder::AppBuilder;

/// How long an API key counts as valid, whatever other keys are tried from its address.
const GOOD_KEY_TTL: Duration = Duration::from_hours(1);
const MAX_GOOD_KEYS: u64 = 10_000;
/// The number of lanes of each kind of undo: these calls are rare.
const UNDO_LANES: usize = 1;

/// The interval at which idle entries of the rate limits are dropped.
const EVICTION_PERIOD: Duration = Duration::from_mins(1);

/// The use of shared resources in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InUse {
    /// Memory for bodies, in units of 16 KiB.
    pub bodies: usize,
    /// Running requests.
    pub requests: usize,
    /// Uploads.
    pub uploads: usize,
}

/// The state that all routes share.
#[derive(Debug)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) files: Files,
    pub(crate) queue: Queue,
    pub(crate) cache: Redis,
    pub(crate) progress: Progress,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Hashing,
    pub(crate) refresh_ttl: Duration,
    pub(crate) upload_limit: u64,
    /// API keys by their hash.
    pub(crate) api_keys: CredentialCache<Vec<u8>, KeyHolder>,
    /// Logins of access tokens.
    pub(crate) logins: CredentialCache<LoginId, LoginHolder>,
    pub(crate) running_keys: Mutex<HashSet<Uuid>>,
    pub(crate) started: Instant,
    pub(crate) assign_random: Lanes<AssignRandom>,
    pub(crate) assign_named: Lanes<AssignNamed>,
    pub(crate) lock: Lanes<Lock>,
    pub(crate) unlock: Lanes<Unlock>,
    pub(crate) redeem: Lanes<Redeem>,
    pub(crate) revoke: Lanes<Revoke>,
    pub(crate) rollback: Lanes<Rollback>,
    pub(crate) void: Lanes<Void>,
    pub(crate) watches: Watches,
    pub(crate) followers: Followers,
    pub(crate) limiter: Limiter,
    pub(crate) cors: Cors,
    /// The private networks to which webhooks may be sent.
    pub(crate) webhook_networks: AllowedNetworks,
    pub(crate) metrics: Exposition,
    pub(crate) connections: Shares,
    /// Memory for JSON bodies, in units of [`BODY_UNIT_BYTES`].
    pub(crate) bodies: Shares,
    /// Running requests.
    pub(crate) requests: Shares,
    pub(crate) uploads: Shares,
    /// Permits for the codes of uploads that are searched for repeated codes.
    pub(crate) room_for_codes: Arc<Semaphore>,
    pub(crate) database_health: DatabaseHealth,
    /// API keys that were valid recently.
    pub(crate) good_keys: Cache<Vec<u8>, ()>,
    /// Stops the task that sends lock notes. Cancelled after the lanes have stopped.
    stop_notes: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Starts the lanes. Requires a tokio runtime.
    pub fn start(builder: AppBuilder) -> Result<Arc<Self>> {
        let tasks = TaskTracker::new();
        let stop_notes = CancellationToken::new();
        let AppBuilder {
            store,
            files,
            queue,
            cache,
            tokens,
            refresh_ttl,
            upload_limit,
            lanes,
            limits,
            cors_origins,
            webhook_networks,
            metrics,
        } = builder;
        metrics.watch("api", &store);
        let notes = LockNotes::start(cache.clone(), stop_notes.clone(), &tasks);
        let progress = Progress::new(store.clone(), cache.clone());
        let shares = limits.shares.clone();
        let (requests, uploads) = (shares.max_requests as usize, shares.max_uploads as usize);
        let bodies = usize::try_from(shares.max_body_memory.as_u64()).unwrap_or(usize::MAX) / BODY_UNIT_BYTES;
        let app = Arc::new(Self {
            passwords: Hashing::new(shares.max_passwords as usize, tasks.clone())?,
            api_keys: CredentialCache::new(),
            logins: CredentialCache::new(),
            running_keys: Mutex::default(),
            started: Instant::now(),
            assign_random: Lanes::start("assign_random", &store, lanes, &shares, &notes, &tasks),
            assign_named: Lanes::start("assign_named", &store, lanes, &shares, &notes, &tasks),
            lock: Lanes::start("lock", &store, lanes, &shares, &notes, &tasks),
            unlock: Lanes::start("unlock", &store, lanes, &shares, &notes, &tasks),
            redeem: Lanes::start("redeem", &store, lanes, &shares, &notes, &tasks),
            revoke: Lanes::start("revoke", &store, UNDO_LANES, &shares, &notes, &tasks),
            rollback: Lanes::start("rollback", &store, UNDO_LANES, &shares, &notes, &tasks),
            void: Lanes::start("void", &store, UNDO_LANES, &shares, &notes, &tasks),
            watches: Watches::new(progress.clone(), tasks.clone(), &shares),
            followers: Followers::new(store.clone(), tasks.clone()),
            store,
            files,
            queue,
            progress,
            dead_letters: DeadLetters::default(),
            stop_notes,
            tokens,
            refresh_ttl,
            upload_limit,
            connections: Shares::of_connections(
                limits.connections.unwrap_or_else(open_files::max_connections),
                &shares,
            ),
            limiter: Limiter::new(limits, cache.clone()),
            cache,
            cors: Cors::new(cors_origins),
            webhook_networks,
            metrics,
            bodies: Shares::new("bodies", bodies, &shares),
            requests: Shares::new("requests", requests, &shares),
            uploads: Shares::new("uploads", uploads, &shares),
            room_for_codes: Arc::new(Semaphore::new(MAX_CODES_KEPT)),
            database_health: DatabaseHealth::default(),
            good_keys: Cache::builder().max_capacity(MAX_GOOD_KEYS).time_to_idle(GOOD_KEY_TTL).build(),
            tasks,
        });
        app.show_when_scraped();
        Ok(app)
    }

    fn show_when_scraped(self: &Arc<Self>) {
        let app = Arc::downgrade(self);
        self.metrics.on_scrape(move || {
            if let Some(app) = app.upgrade() {
                app.show();
            }
        });
    }

    /// Updates the metrics that are only measured when they are read.
    fn show(&self) {
        metrics::requests_running(self.requests.in_use());
        for shares in [&self.connections, &self.bodies, &self.requests, &self.uploads] {
            shares.show();
        }
        self.watches.show();
        self.followers.show();
        self.passwords.show();
        self.assign_random.show_waiting();
        self.assign_named.show_waiting();
        self.lock.show_waiting();
        self.unlock.show_waiting();
        self.redeem.show_waiting();
        self.revoke.show_waiting();
        self.rollback.show_waiting();
        self.void.show_waiting();
        let in_lanes = [
            self.assign_random.open_calls(),
            self.assign_named.open_calls(),
            self.lock.open_calls(),
            self.unlock.open_calls(),
            self.redeem.open_calls(),
            self.revoke.open_calls(),
            self.rollback.open_calls(),
            self.void.open_calls(),
        ];
        metrics::Resource::new("lanes").in_use(in_lanes.iter().sum());
    }

    /// Runs a change to completion even if its client disconnects.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.tasks.spawn(change.in_current_span()).await.unwrap_or_else(|panic| Err(Error::internal(panic)))
    }

    /// Runs a task in the background.
    pub(crate) fn run_in_background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task.in_current_span());
    }

    /// Drops idle entries of the rate limits at intervals. Never completes.
    pub(crate) async fn evict_idle_callers(&self) {
        loop {
            tokio::time::sleep(EVICTION_PERIOD).await;
            self.limiter.evict_idle();
            self.passwords.evict_idle();
        }
    }

    /// Marks a key as running. Returns false if it already is.
    pub(crate) fn mark_running(&self, key: Uuid) -> bool {
        self.running_keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    pub(crate) fn unmark_running(&self, key: Uuid) {
        self.running_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// The use of shared resources.
    pub fn in_use(&self) -> InUse {
        InUse {
            bodies: self.bodies.in_use(),
            requests: self.requests.in_use(),
            uploads: self.uploads.in_use(),
        }
    }

    /// Whether the poller of the event log runs.
    pub fn is_following_events(&self) -> bool {
        self.followers.is_polling()
    }

    /// The number of watchers of jobs.
    pub fn watching(&self) -> Watching {
        self.watches.watching()
    }

    /// Answers waiting requests immediately and ends event streams.
    pub(crate) fn end_watches(&self) {
        self.watches.stop();
        self.followers.stop();
    }

    /// Stops the lanes and waits for running tasks, at most for `patience`.
    pub(crate) async fn finish(&self, patience: Duration) {
        self.assign_random.stop();
        self.assign_named.stop();
        self.lock.stop();
        self.unlock.stop();
        self.redeem.stop();
        self.revoke.stop();
        self.rollback.stop();
        self.void.stop();
        self.stop_notes.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}
