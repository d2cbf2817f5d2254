//! A slot of a worker. It holds one delivery and one chunk at a time, and receives the next delivery when it is free.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;
use cuponera_domain::job::{JobKind, MAX_CRASHES, Message, Task};
use cuponera_platform::queue::{Delivery, Receiver};
use cuponera_platform::telemetry::join_trace;
use cuponera_platform::telemetry::metrics::{self, ChunkEnd};
use cuponera_store::{Claim, ClaimState, Redriven};
use cuponera_store::{Error, Result};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span, field, info, warn};

use super::{LEASE, Worker};
use crate::handlers;

/// Interval of heartbeats, three in each lease: two may fail.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a chunk may run after the worker was stopped; it usually takes well under a second. Then it is aborted and
/// released.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) struct Slot {
    pub(super) worker: Worker,
    pub(super) receiver: Receiver,
    pub(super) stop: CancellationToken,
}

/// The result of a delivery.
pub(super) enum DeliveryOutcome {
    /// A chunk or a dead letter was processed, and its outcome is in the database.
    Finished,
    /// A chunk whose outcome could not be written. It is runnable when its lease expires, and its message is then
    /// delivered again.
    Unfinished,
    /// No chunk was runnable.
    Nothing,
}

impl Slot {
    pub(super) async fn work_until_stopped(mut self) {
        let mut patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(200))
            .with_max_interval(Duration::from_secs(5))
            .with_max_elapsed_time(None)
            .build();
        let stop = self.stop.clone();
        while let Some(delivery) = self.receiver.next(&stop).await {
            if stop.is_cancelled() {
                return self.receiver.give_back(delivery, Duration::ZERO).await;
            }
            match self.follow(&delivery).await {
                Ok(found) => {
                    patience.reset();
                    self.acknowledge(delivery, &found);
                }
                Err(failure) => {
                    warn!(error = failure.chain(), "cannot claim a chunk");
                    let pause = patience.next_backoff().unwrap_or(LEASE);
                    self.receiver.give_back(delivery, pause).await;
                    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
                }
            }
        }
    }

    fn acknowledge(&mut self, delivery: Delivery, found: &DeliveryOutcome) {
        match found {
            DeliveryOutcome::Finished => self.receiver.finished(delivery),
            DeliveryOutcome::Unfinished => {}
            DeliveryOutcome::Nothing => self.receiver.found_nothing(delivery),
        }
    }

    /// Claims and executes the chunk that Postgres selects, whatever the message says.
    async fn follow(&self, delivery: &Delivery) -> Result<DeliveryOutcome> {
        let worker = &self.worker;
        if let Some(Message::Dead { job, attempt, .. }) = delivery.message() {
            // An operator moved a dead letter back to the queue, to retry its job.
            let redriven = worker.store.redrive_job_if_failed(*job, *attempt).await?;
            info!(%job, ?redriven, "a dead letter was received; its job is retried if it failed");
            return Ok(if redriven == Redriven::TooEarly {
                DeliveryOutcome::Unfinished
            } else {
                DeliveryOutcome::Finished
            });
        }
        let Some(claim) = worker.store.claim_chunk(&worker.name, LEASE, &JobKind::ALL).await? else {
            return Ok(DeliveryOutcome::Nothing);
        };
        self.receiver.claimed();
        // An error span, so that it exists at every log level.
        let span = error_span!("chunk", job = %claim.job, number = claim.number, epoch = claim.epoch, trace = field::Empty);
        join_trace(&span, claim.trace);
        Ok(self.work(claim, delivery).instrument(span).await)
    }

    async fn work(&self, claim: Claim, delivery: &Delivery) -> DeliveryOutcome {
        let begun = Instant::now();
        let (end, found) = self.work_to_its_end(&claim, delivery).await;
        metrics::chunk_ended(claim.task.kind(), end, begun.elapsed());
        found
    }

    async fn work_to_its_end(&self, claim: &Claim, delivery: &Delivery) -> (ChunkEnd, DeliveryOutcome) {
        let worker = &self.worker;
        if claim.crashes >= MAX_CRASHES {
            let detail = format!(
                "part {} ended its worker, or exceeded the time limit of a statement, {} times, and was set aside",
                claim.number, claim.crashes
            );
            error!(crashes = claim.crashes, "the chunk is set aside");
            return (ChunkEnd::Failed, worker.record_failure(claim, "worker_lost", detail).await);
        }
        if let Task::Unreadable { reason, .. } = &claim.task {
            let detail = format!("part {} cannot be read by this version: {reason}", claim.number);
            error!(reason, "the chunk is set aside");
            return (ChunkEnd::Failed, worker.record_failure(claim, "unreadable_chunk", detail).await);
        }
        let (store, files, held) = (worker.store.clone(), worker.files.clone(), claim.clone());
        // A separate task, so that a panic ends only this chunk.
        let mut work =
            tokio::spawn(async move { handlers::handle(&store, &files, &held).await }.in_current_span());
        let outcome = tokio::select! {
            done = &mut work => done.unwrap_or_else(|panic| Err(Error::internal(panic))),
            never = self.send_heartbeats(claim, delivery) => match never {},
            () = self.finish_deadline() => {
                work.abort();
                // If the chunk was finished meanwhile, the release has no effect.
                let _ = work.await;
                warn!("the chunk is released unfinished");
                let released = worker.store.release_chunk_if_held(claim, Duration::ZERO).await;
                return (ChunkEnd::Released, worker.note(released));
            }
        };
        let ended = worker.conclude(claim, outcome).await;
        worker.publish_progress(claim).await;
        ended
    }

    /// Resolves when the time of running chunks after a stop is over.
    async fn finish_deadline(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(FINISH_TIMEOUT).await;
    }

    /// Renews the lease and the visibility of the message while it is polled. A lost lease changes nothing here:
    /// finishing checks it.
    async fn send_heartbeats(&self, claim: &Claim, delivery: &Delivery) -> Infallible {
        let mut lost = false;
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.worker.store.renew_lease_if_held(claim, LEASE).await {
                Ok(ClaimState::Held) => {
                    self.receiver.hold(delivery).await;
                    self.worker.publish_progress(claim).await;
                }
                Ok(ClaimState::Lost) if lost => {}
                Ok(ClaimState::Lost) => {
                    info!("the chunk is claimed by another worker, or its job was stopped");
                    lost = true;
                }
                Err(failure) => warn!(error = failure.chain(), "cannot renew the lease"),
            }
        }
    }
}
