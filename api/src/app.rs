//! What all requests share.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cuponera_core::cache::Cache as Redis;
use cuponera_core::config::Origin;
use cuponera_core::credential::{Passwords, Tokens};
use cuponera_core::error::{Error, Result};
use cuponera_core::files::Files;
use cuponera_core::id::LoginId;
use cuponera_core::principal::Principal;
use cuponera_core::queue::Queue;
use cuponera_core::store::{AssignNamed, AssignRandom, KeyHolder, Lock, Redeem, Store, Unlock};
use cuponera_core::telemetry::{Exposition, metrics};
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;
use uuid::Uuid;

use crate::batching::Lanes;
use crate::headers::Cors;
use crate::letters::Letters;
use crate::limits::{Limiter, Limits};
use crate::lock_notes::LockNotes;
use crate::memory::Memory;
use crate::progress::Progress;
use crate::pulse::Pulse;
use crate::routes::MAX_CODES_KEPT;
use crate::slots::Slots;
use crate::watch::{Watches, Watching};

/// The most requests that run at once, and the most uploads among them: the next is told at once to come back.
const MAX_REQUESTS: usize = 2_048;
const MAX_UPLOADS: usize = 32;
const MAX_UPLOADS_OF_ONE: usize = 8;

/// How long an API key counts as good, whoever else at its address tries keys that are not.
const KEY_MEMORY: Duration = Duration::from_hours(1);
const KEYS_REMEMBERED: u64 = 10_000;

/// How often callers that have been quiet are forgotten.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// What an installation gives its API.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Uploads and errors files.
    pub files: Files,
    /// Where its jobs are announced.
    pub queue: Queue,
    /// What its tasks share to be fast.
    pub cache: Redis,
    /// Signs and checks access tokens.
    pub tokens: Tokens,
    /// How long a refresh token lives.
    pub refresh_ttl: Duration,
    /// The largest upload, in bytes.
    pub upload_limit: u64,
    /// How many lanes each hot write has.
    pub lanes: usize,
    /// How much each caller may ask for.
    pub limits: Limits,
    /// The web origins whose pages may call.
    pub cors_origins: Vec<Origin>,
    /// What is counted, and from where it may be read.
    pub metrics: Exposition,
}

/// The state behind the routes.
#[derive(Debug)]
pub struct App {
    pub(crate) store: Store,
    pub(crate) files: Files,
    pub(crate) queue: Queue,
    pub(crate) cache: Redis,
    pub(crate) progress: Progress,
    pub(crate) letters: Letters,
    pub(crate) tokens: Tokens,
    pub(crate) passwords: Passwords,
    pub(crate) refresh_ttl: Duration,
    pub(crate) upload_limit: u64,
    /// API keys that were looked up, by their hash.
    pub(crate) api_keys: Memory<Vec<u8>, KeyHolder>,
    /// Admins that were looked up, by the login of their token.
    pub(crate) admins: Memory<LoginId, Principal>,
    pub(crate) running_keys: Mutex<HashSet<Uuid>>,
    pub(crate) started: Instant,
    pub(crate) assign_random: Lanes<AssignRandom>,
    pub(crate) assign_named: Lanes<AssignNamed>,
    pub(crate) lock: Lanes<Lock>,
    pub(crate) unlock: Lanes<Unlock>,
    pub(crate) redeem: Lanes<Redeem>,
    pub(crate) watches: Watches,
    pub(crate) limiter: Limiter,
    pub(crate) cors: Cors,
    pub(crate) connections: Option<usize>,
    pub(crate) metrics: Exposition,
    /// Places for requests.
    pub(crate) requests: Semaphore,
    /// Slots for uploads, by caller.
    pub(crate) uploads: Slots<Uuid>,
    /// Room for the codes of uploads that are searched for repeated ones.
    pub(crate) room_for_codes: Arc<Semaphore>,
    /// Whether the database answers, as of a moment ago.
    pub(crate) pulse: Pulse,
    /// API keys that have been good lately.
    pub(crate) good_keys: Cache<Vec<u8>, ()>,
    /// Ends the sending of notes once nobody leaves any.
    stop_notes: CancellationToken,
    tasks: TaskTracker,
}

impl App {
    /// Starts the lanes; needs a tokio runtime.
    pub fn start(parts: Parts) -> Result<Arc<Self>> {
        let tasks = TaskTracker::new();
        let stop_notes = CancellationToken::new();
        let Parts {
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
            metrics,
        } = parts;
        metrics.watch("api", &store);
        let notes = LockNotes::start(cache.clone(), stop_notes.clone(), &tasks);
        let progress = Progress::new(store.clone(), cache.clone());
        let app = Arc::new(Self {
            passwords: Passwords::new()?,
            api_keys: Memory::new(),
            admins: Memory::new(),
            running_keys: Mutex::default(),
            started: Instant::now(),
            assign_random: Lanes::start("assign_random", &store, lanes, &notes, &tasks),
            assign_named: Lanes::start("assign_named", &store, lanes, &notes, &tasks),
            lock: Lanes::start("lock", &store, lanes, &notes, &tasks),
            unlock: Lanes::start("unlock", &store, lanes, &notes, &tasks),
            redeem: Lanes::start("redeem", &store, lanes, &notes, &tasks),
            watches: Watches::new(progress.clone(), tasks.clone()),
            store,
            files,
            queue,
            progress,
            letters: Letters::default(),
            stop_notes,
            tokens,
            refresh_ttl,
            upload_limit,
            connections: limits.connections,
            limiter: Limiter::new(limits, cache.clone()),
            cache,
            cors: Cors::new(cors_origins),
            metrics,
            requests: Semaphore::new(MAX_REQUESTS),
            uploads: Slots::new(MAX_UPLOADS, MAX_UPLOADS_OF_ONE),
            room_for_codes: Arc::new(Semaphore::new(MAX_CODES_KEPT)),
            pulse: Pulse::default(),
            good_keys: Cache::builder().max_capacity(KEYS_REMEMBERED).time_to_idle(KEY_MEMORY).build(),
            tasks,
        });
        let seen = Arc::downgrade(&app);
        app.metrics.on_scrape(move || {
            if let Some(app) = seen.upgrade() {
                app.show();
            }
        });
        Ok(app)
    }

    /// Shows what is not counted as it happens.
    fn show(&self) {
        metrics::requests_running(MAX_REQUESTS.saturating_sub(self.requests.available_permits()));
        self.assign_random.show_waiting();
        self.assign_named.show_waiting();
        self.lock.show_waiting();
        self.unlock.show_waiting();
        self.redeem.show_waiting();
    }

    /// Runs a change to its end even if the client that asked for it goes away.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.tasks.spawn(change.in_current_span()).await.unwrap_or_else(|panic| Err(Error::internal(panic)))
    }

    /// Runs something that nobody waits for.
    pub(crate) fn run_behind(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task.in_current_span());
    }

    /// Keeps the buckets of the limits few, for as long as it is polled.
    pub(crate) async fn forget_quiet_callers(&self) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            self.limiter.forget_quiet();
        }
    }

    /// Marks a key as running; `false` if it is.
    pub(crate) fn mark_running(&self, key: Uuid) -> bool {
        self.running_keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    pub(crate) fn unmark_running(&self, key: Uuid) {
        self.running_keys.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// How much watching of jobs goes on.
    pub fn watching(&self) -> Watching {
        self.watches.watching()
    }

    /// Answers those who wait for jobs at once, and ends the streams of events.
    pub(crate) fn end_watches(&self) {
        self.watches.stop();
    }

    /// Ends the lanes and waits for what still runs.
    pub(crate) async fn finish(&self, patience: Duration) {
        self.assign_random.stop();
        self.assign_named.stop();
        self.lock.stop();
        self.unlock.stop();
        self.redeem.stop();
        self.stop_notes.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(patience, self.tasks.wait()).await;
    }
}
