//! The loop of a worker: a place to work, a claim, the work under a heartbeat, the settling.
//!
//! **Invariant.** Nothing a handler does counts before it settles, and settling needs the epoch of the claim. So a worker
//! may die, freeze or be overtaken anywhere; it may also finish work that is no longer its own, for nothing.

use std::sync::Arc;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use cuponera_core::error::{Error, Result};
use cuponera_core::files::Files;
use cuponera_core::job::{JobError, JobKind, MAX_ATTEMPTS, MAX_CRASHES, retry_delay};
use cuponera_core::queue::Wakeups;
use cuponera_core::store::{Claim, Pulse, Store};
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info, info_span, warn};

use crate::{handlers, sweep};

/// How long a claim holds without a heartbeat. A dead worker's chunk is taken over after at most this.
const LEASE: Duration = Duration::from_secs(15);
/// Three beats a lease: two may be lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long after an outage a chunk is tried again, before jitter.
const OUTAGE_DELAY: Duration = Duration::from_secs(1);
/// How long a shutdown waits for chunks at work; they take well under a second.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(12);

/// What became of a chunk, if nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its effect is committed and it is settled.
    Done,
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
    /// Where it waits for work.
    pub wakeups: Arc<Wakeups>,
    /// How many chunks it works at once.
    pub concurrency: usize,
    /// What it calls itself in the rows it claims.
    pub name: String,
}

impl Worker {
    /// Works until told to stop; then finishes what is at work and returns.
    pub async fn run(self, stop: CancellationToken) {
        let tasks = TaskTracker::new();
        for place in 0..self.concurrency {
            let worker = Self { name: format!("{}/{place}", self.name), ..self.clone() };
            tasks.spawn(worker.work_until(stop.clone()));
        }
        tasks.spawn(sweep::run(self.store.clone(), self.files.clone(), stop.clone()));
        tasks.close();
        stop.cancelled().await;
        if tokio::time::timeout(SHUTDOWN_PATIENCE, tasks.wait()).await.is_err() {
            warn!("a chunk is still at work; another worker takes it over when its lease ends");
        }
    }

    async fn work_until(self, stop: CancellationToken) {
        let mut patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(200))
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(None)
            .build();
        while !stop.is_cancelled() {
            match self.work_one().await {
                Ok(Some(())) => patience.reset(),
                Ok(None) => {
                    patience.reset();
                    self.sleep(&stop).await;
                }
                Err(failure) => {
                    warn!(error = failure.chain(), "no chunk could be claimed");
                    let pause = patience.next_backoff().unwrap_or(LEASE);
                    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                }
            }
        }
    }

    /// Claims and works one chunk; none if there is none to claim.
    async fn work_one(&self) -> Result<Option<()>> {
        let Some(claim) = self.store.claim_chunk(&self.name, LEASE, &JobKind::ALL).await? else {
            return Ok(None);
        };
        // Where there was one there may be more: each claim wakes the next sleeper.
        self.wakeups.wake_one();
        let span = info_span!("chunk", job = %claim.job, number = claim.number, epoch = claim.epoch);
        self.work(claim).instrument(span).await;
        Ok(Some(()))
    }

    async fn work(&self, claim: Claim) {
        if claim.crashes >= MAX_CRASHES {
            let detail =
                format!("part {} ended its worker {} times and was set aside", claim.number, claim.crashes);
            error!(crashes = claim.crashes, "the chunk is set aside");
            self.settle_failure(&claim, "worker_lost", detail).await;
            return;
        }
        let (store, files, held) = (self.store.clone(), self.files.clone(), claim.clone());
        // A task of its own, so that a panic is this chunk's and not the worker's.
        let work =
            tokio::spawn(async move { handlers::handle(&store, &files, &held).await }.in_current_span());
        let outcome = tokio::select! {
            done = work => done.unwrap_or_else(|panic| Err(Error::internal(panic))),
            never = self.beat(&claim) => match never {},
        };
        self.conclude(&claim, outcome).await;
    }

    /// Holds the lease for as long as it is polled. What it learns changes nothing: settling decides.
    async fn beat(&self, claim: &Claim) -> std::convert::Infallible {
        let mut lost = false;
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.store.renew_lease_if_held(claim, LEASE).await {
                Ok(Pulse::Held) => {}
                Ok(Pulse::Lost) if lost => {}
                Ok(Pulse::Lost) => {
                    info!("the chunk is no longer this worker's");
                    lost = true;
                }
                Err(failure) => warn!(error = failure.chain(), "the lease could not be renewed"),
            }
        }
    }

    async fn conclude(&self, claim: &Claim, outcome: Result<Outcome>) {
        match outcome {
            Ok(Outcome::Done) => debug!("the chunk is done"),
            Ok(Outcome::Lost) => info!("the chunk was fenced: another has it, or the job was stopped"),
            Err(Error::Refused(refusal)) => {
                self.settle_failure(claim, refusal.code(), refusal.to_string()).await;
            }
            Err(failure) if failure.is_retryable() => {
                warn!(error = failure.chain(), "the chunk waits for what it needs");
                let delay = OUTAGE_DELAY.mul_f64(rand::rng().random_range(0.5..=1.5));
                self.note(self.store.release_chunk_if_held(claim, delay).await);
            }
            Err(failure) if claim.attempts + 1 >= MAX_ATTEMPTS => {
                error!(error = failure.chain(), "the chunk failed for the last time");
                let detail =
                    format!("part {} failed {MAX_ATTEMPTS} times; the log has the reason", claim.number);
                self.settle_failure(claim, "internal_error", detail).await;
            }
            Err(failure) => {
                error!(
                    error = failure.chain(),
                    attempt = claim.attempts + 1,
                    "the chunk failed and is tried again"
                );
                let delay = retry_delay(claim.attempts + 1, &mut rand::rng());
                self.note(self.store.retry_chunk_if_held(claim, delay, &failure.to_string()).await);
            }
        }
    }

    async fn settle_failure(&self, claim: &Claim, code: &str, detail: String) {
        let failure = JobError { code: code.to_owned(), detail };
        self.note(self.store.fail_chunk_if_held(claim, &failure).await);
    }

    /// If even this could not be written the lease runs out, and the chunk is taken over.
    fn note(&self, written: Result<()>) {
        if let Err(failure) = written {
            warn!(worker = self.name, error = failure.chain(), "the chunk could not be given back");
        }
    }

    async fn sleep(&self, stop: &CancellationToken) {
        let due = self.store.next_chunk_due().await.ok().flatten();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.wakeups.wait(due) => {}
        }
    }
}
