//! The loop of a worker: a place to work, a delivery, a claim, the work under a heartbeat, the settling.
//!
//! **Invariant.** Nothing a handler does counts before it settles, and settling needs the epoch of the claim. So a worker
//! may die, freeze or be overtaken anywhere; it may also finish work that is no longer its own, for nothing. And a delivery
//! is only a hint: it is given up once the database knows what became of the chunk, or when nothing was begun.

mod slot;

use std::time::{Duration, Instant};

use cuponera_domain::job::{JobError, MAX_ATTEMPTS, retry_delay};
use cuponera_platform::cache::{Cache, CacheState};
use cuponera_platform::config::Settings;
use cuponera_platform::files::Files;
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::metrics::ChunkEnd;
use cuponera_store::{Claim, ClaimState, Store};
use cuponera_store::{Error, Result};
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

use crate::sweep::{self, Sweep};
use slot::{DeliveryOutcome, Slot};

/// How long a claim holds without a heartbeat. A dead worker's chunk is taken over after at most this.
const LEASE: Duration = Duration::from_secs(15);
/// How long after an outage a chunk is tried again, before jitter.
const OUTAGE_DELAY: Duration = Duration::from_secs(1);
/// What the log says of a chunk that came to nothing here.
const FENCED: &str = "the chunk was fenced: another has it, or the job was stopped";
/// The log line of a job that a rule stops.
const STOPPED: &str = "a rule forbids the job to go on";
/// How long a shutdown waits for chunks at work: within the time that a supervisor gives before it kills.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);

/// What became of a chunk, if nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkOutcome {
    /// Its effect is committed and it is settled.
    Done,
    /// A rule forbids the job to go on: the job has failed, and the chunk is settled.
    Stopped,
    /// It is another's by now, or its job was stopped; nothing was changed.
    Lost,
}

/// What a worker needs.
#[derive(Debug, Clone)]
pub struct Worker {
    /// The database.
    pub store: Store,
    /// Uploads and errors files.
    pub files: Files,
    /// Where it hears of work.
    pub queue: Queue,
    /// Where it tells of progress, and hears of locks that have run out.
    pub cache: Cache,
    /// How many chunks it works at once.
    pub concurrency: usize,
    /// What it calls itself in the rows it claims.
    pub name: String,
    /// How long the chunks and files of a job are kept after its end.
    pub retention: Duration,
}

impl Worker {
    /// A worker with these settings. `home` tells apart those whose process numbers are the same.
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
        Self { store, files, queue, cache, concurrency, name, retention }
    }

    /// Works until told to stop; then finishes what is at work and returns.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        let (receivers, deleter) = self.queue.open(&self.store, LEASE, self.concurrency);
        for (slot, receiver) in receivers.into_iter().enumerate() {
            let worker = Self { name: format!("{}/{slot}", self.name), ..self.clone() };
            tasks.spawn(Slot { worker, receiver, stop: stop.clone() }.work_until_stopped());
        }
        if let Some(deleter) = deleter {
            tasks.spawn(deleter.run());
        }
        let Self { store, files, cache, name, retention, .. } = self;
        tasks.spawn(sweep::run(Sweep { store, files, cache, name, retention }, stop.clone()));
        tasks.close();
        stop.cancelled().await;
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, tasks.wait()).await.is_err() {
            warn!("a chunk is still at work; another worker takes it over when its lease ends");
        }
    }

    /// Tells those who poll how far the claim's job has come.
    async fn publish_progress(&self, claim: &Claim) {
        if self.cache.state() != CacheState::Connected {
            return;
        }
        let begun = Instant::now();
        match self.store.get_job(claim.business, claim.job).await {
            Ok(job) => self.cache.keep_jobs(&[job], begun).await,
            Err(failure) => debug!(error = failure.chain(), "the job's progress could not be read"),
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
                    "a statement of the chunk took too long"
                );
                let delay = retry_delay(claim.crashes + 1, &mut rand::rng());
                let reason = "a statement took longer than a worker allows";
                let released = self.store.release_late_chunk_if_held(claim, delay, reason).await;
                (ChunkEnd::Retried, self.note(released))
            }
            Err(failure) if failure.is_retryable() => {
                warn!(error = failure.chain(), "the chunk waits for what it needs");
                let delay = OUTAGE_DELAY.mul_f64(rand::rng().random_range(0.5..=1.5));
                let released = self.store.release_chunk_if_held(claim, delay).await;
                (ChunkEnd::Released, self.note(released))
            }
            Err(failure) if claim.attempts + 1 >= MAX_ATTEMPTS => {
                error!(error = failure.chain(), "the chunk failed for the last time");
                let detail =
                    format!("part {} failed {MAX_ATTEMPTS} times; the log has the reason", claim.number);
                (ChunkEnd::Failed, self.record_failure(claim, "internal_error", detail).await)
            }
            Err(failure) => {
                error!(
                    error = failure.chain(),
                    attempt = claim.attempts + 1,
                    "the chunk failed and is tried again"
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

    /// If even this could not be written the lease runs out, and the chunk is taken over.
    fn note(&self, written: Result<ClaimState>) -> DeliveryOutcome {
        match written {
            Ok(ClaimState::Held) => DeliveryOutcome::Finished,
            Ok(ClaimState::Lost) => {
                info!(worker = self.name, "{FENCED}");
                DeliveryOutcome::Finished
            }
            Err(failure) => {
                warn!(worker = self.name, error = failure.chain(), "the chunk could not be given back");
                DeliveryOutcome::Unfinished
            }
        }
    }
}
