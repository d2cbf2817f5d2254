//! The loop of a worker: a free slot, a delivery, a claim, the execution with heartbeats, and the end of the chunk.
//!
//! **Invariant.** A handler has no effect until it finishes its chunk, and finishing requires the epoch of the claim. A
//! worker may therefore crash, freeze or lose its claim at any point; the work of a lost claim is discarded. A delivery
//! is only a hint: it is acknowledged when the outcome of its chunk is in the database, or when nothing was started.

mod slot;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuponera_domain::audit::AuditKey;
use cuponera_domain::job::{JobError, MAX_ATTEMPTS, retry_delay};
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::{Cache, CacheState};
use cuponera_platform::config::Settings;
use cuponera_platform::files::Files;
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::metrics::ChunkEnd;
use cuponera_store::{Claim, ClaimState, Store};
use cuponera_store::{Error, Result};
use rand::RngExt;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::deliver::{Delivering, Sender};
use crate::sweep::{self, Sweep};
use slot::{DeliveryOutcome, Slot};

/// Duration of a claim without a heartbeat: the chunk of a crashed worker can be claimed again after this time.
const LEASE: Duration = Duration::from_secs(15);
/// Delay of a retry after an outage, before jitter.
const OUTAGE_DELAY: Duration = Duration::from_secs(1);
/// The log line of a lost chunk.
const FENCED: &str = "the chunk was fenced: another worker claimed it, or the job was stopped";
/// The log line of a job that a rule stops.
const STOPPED: &str = "a rule stopped the job";
/// How long a shutdown waits for running chunks and attempts: less than the time after which a supervisor kills the process.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);

/// The outcome of a chunk without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// Its effect is committed and it is finished.
    Done,
    /// A rule stopped the job: the job has failed, and the chunk is finished.
    Stopped,
    /// The claim was lost or the job was stopped. Nothing was changed.
    Lost,
}

/// The parts and settings of a worker.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The database.
    pub store: Store,
    /// Uploads and errors files.
    pub files: Files,
    /// The queue that announces chunks.
    pub queue: Queue,
    /// The cache, for the progress of jobs and for expired locks.
    pub cache: Cache,
    /// Number of chunks executed at once.
    pub concurrency: usize,
    /// Its name in the chunks that it claims.
    pub name: String,
    /// How long the chunks and files of a job are kept after its end.
    pub retention: Duration,
    /// Sends events to webhooks.
    pub sender: Sender,
    /// The key of the seals over the event logs. Without it nothing is sealed.
    pub audit_key: Option<AuditKey>,
}

impl Worker {
    /// A worker with these settings. `home` distinguishes workers with the same process id.
    pub fn new(
        settings: &Settings,
        home: &str,
        store: Store,
        files: Files,
        queue: Queue,
        cache: Cache,
    ) -> Self {
        let name = format!("{home}-{}", std::process::id());
        let (concurrency, retention) = (settings.concurrency(), settings.job_retention);
        let store = store.with_storage_quota(settings.storage_quota.as_u64());
        let sender = Sender::new(AllowedNetworks::new(settings.webhook_allow.clone()));
        // The settings were checked at the start.
        let audit_key = settings.audit_key().ok().flatten();
        Self { store, files, queue, cache, concurrency, name, retention, sender, audit_key }
    }

    /// Executes chunks until `stop`, then finishes or releases the running ones.
    ///
    /// Boxed, so that programs and tests link to the handlers instead of compiling them again.
    pub fn run(self, stop: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.run_until_stopped(stop))
    }

    async fn run_until_stopped(mut self, stop: CancellationToken) {
        self.store = self.store.with_job_retention(self.retention);
        let tasks = TaskTracker::new();
        let (receivers, deleter) = self.queue.open(&self.store, LEASE, self.concurrency);
        for (slot, receiver) in receivers.into_iter().enumerate() {
            let worker = Self { name: format!("{}/{slot}", self.name), ..self.clone() };
            tasks.spawn(Slot { worker, receiver, stop: stop.clone() }.work_until_stopped());
        }
        if let Some(deleter) = deleter {
            tasks.spawn(deleter.run());
        }
        let Self { store, files, cache, name, retention, sender, audit_key, .. } = self;
        let wake = Arc::new(Notify::new());
        let delivering = Delivering { store: store.clone(), sender, wake: wake.clone() };
        tasks.spawn(delivering.run(stop.clone()));
        let sweep = Sweep { store, files, cache, name, retention, wake, audit_key };
        tasks.spawn(sweep::run(sweep, stop.clone()));
        tasks.close();
        stop.cancelled().await;
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, tasks.wait()).await.is_err() {
            warn!(
                "a chunk or an attempt of a webhook is still running; another worker claims it when its lease expires"
            );
        }
    }

    /// Publishes the progress of the claim's job in the cache.
    async fn publish_progress(&self, claim: &Claim) {
        if self.cache.state() != CacheState::Connected {
            return;
        }
        let begun = Instant::now();
        match self.store.get_job(claim.business, claim.job).await {
            Ok(job) => self.cache.keep_jobs(&[job], begun).await,
            Err(failure) => debug!(error = failure.chain(), "cannot read the job's progress"),
        }
    }

    async fn conclude(&self, claim: &Claim, outcome: Result<ChunkOutcome>) -> (ChunkEnd, DeliveryOutcome) {
        match outcome {
            Ok(ChunkOutcome::Done) => {
                debug!("the chunk is done");
                (ChunkEnd::Done, DeliveryOutcome::Finished)
            }
            Ok(ChunkOutcome::Stopped) => {
                info!("{STOPPED}");
                (ChunkEnd::Failed, DeliveryOutcome::Finished)
            }
            Ok(ChunkOutcome::Lost) => {
                info!("{FENCED}");
                (ChunkEnd::Lost, DeliveryOutcome::Finished)
            }
            Err(Error::Rejected(rejection)) => {
                info!(rule = rejection.code(), "{STOPPED}");
                (ChunkEnd::Failed, self.note(self.store.stop_job_if_held(claim, &rejection).await))
            }
            Err(failure) if failure.is_statement_timeout() => {
                warn!(
                    error = failure.chain(),
                    crashes = claim.crashes + 1,
                    "a statement of the chunk exceeded the time limit"
                );
                let delay = retry_delay(claim.crashes + 1, &mut rand::rng());
                let reason = "a statement exceeded the time limit of a worker";
                let released = self.store.release_late_chunk_if_held(claim, delay, reason).await;
                (ChunkEnd::Retried, self.note(released))
            }
            Err(failure) if failure.is_retryable() => {
                warn!(
                    error = failure.chain(),
                    "the chunk is released: a service that it needs is unavailable"
                );
                let delay = OUTAGE_DELAY.mul_f64(rand::rng().random_range(0.5..=1.5));
                let released = self.store.release_chunk_if_held(claim, delay).await;
                (ChunkEnd::Released, self.note(released))
            }
            Err(failure) if claim.attempts + 1 >= MAX_ATTEMPTS => {
                error!(error = failure.chain(), "the chunk failed permanently");
                let detail =
                    format!("part {} failed {MAX_ATTEMPTS} times; the log contains the cause", claim.number);
                (ChunkEnd::Failed, self.record_failure(claim, "internal_error", detail).await)
            }
            Err(failure) => {
                error!(
                    error = failure.chain(),
                    attempt = claim.attempts + 1,
                    "the chunk failed and is retried"
                );
                let delay = retry_delay(claim.attempts + 1, &mut rand::rng());
                let retried = self.store.retry_chunk_if_held(claim, delay, &failure.to_string()).await;
                (ChunkEnd::Retried, self.note(retried))
            }
        }
    }

    async fn record_failure(&self, claim: &Claim, code: &str, detail: String) -> DeliveryOutcome {
        let failure = JobError { code: code.to_owned(), detail };
        self.note(self.store.fail_chunk_if_held(claim, &failure).await)
    }

    /// If this write fails too, the lease expires and the chunk is claimed again.
    fn note(&self, written: Result<ClaimState>) -> DeliveryOutcome {
        match written {
            Ok(ClaimState::Held) => DeliveryOutcome::Finished,
            Ok(ClaimState::Lost) => {
                info!(worker = self.name, "{FENCED}");
                DeliveryOutcome::Finished
            }
            Err(failure) => {
                warn!(worker = self.name, error = failure.chain(), "cannot write the outcome of the chunk");
                DeliveryOutcome::Unfinished
            }
        }
    }
}
