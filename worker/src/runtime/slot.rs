//! One place to work: it holds one delivery and one chunk at a time, and asks for no more before it is free again.

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

/// Three beats a lease: two may be lost.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long a chunk may go on once the worker is told to stop; it takes well under a second. Then it is taken back and given
/// to others.
const FINISH_TIMEOUT: Duration = Duration::from_secs(8);

pub(super) struct Slot {
    pub(super) worker: Worker,
    pub(super) receiver: Receiver,
    pub(super) stop: CancellationToken,
}

/// What a delivery led to.
pub(super) enum DeliveryOutcome {
    /// A chunk, or a dead letter: what became of it is in the database.
    Finished,
    /// A chunk whose end could not be written: it is free when its lease runs out, and its message comes back then.
    Unfinished,
    /// Nothing to do.
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
                    warn!(error = failure.chain(), "no chunk could be claimed");
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

    /// Claims and works the chunk that Postgres finds fairest, whatever the message says.
    async fn follow(&self, delivery: &Delivery) -> Result<DeliveryOutcome> {
        let worker = &self.worker;
        if let Some(Message::Dead { job, attempt, .. }) = delivery.message() {
            // Somebody moved a dead letter back among the others: that is to retry its job.
            let redriven = worker.store.redrive_job_if_failed(*job, *attempt).await?;
            info!(%job, ?redriven, "a dead letter came back");
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
        // At the level of errors, so that it is there however little is logged.
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
                "part {} ended its worker, or took longer than a statement may, {} times and was set aside",
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
        // A task of its own, so that a panic is this chunk's and not the worker's.
        let mut work =
            tokio::spawn(async move { handlers::handle(&store, &files, &held).await }.in_current_span());
        let outcome = tokio::select! {
            done = &mut work => done.unwrap_or_else(|panic| Err(Error::internal(panic))),
            never = self.send_heartbeats(claim, delivery) => match never {},
            () = self.finish_deadline() => {
                work.abort();
                // What it had committed by then is settled, and giving the chunk back changes nothing.
                let _ = work.await;
                warn!("the chunk is given back unfinished");
                let released = worker.store.release_chunk_if_held(claim, Duration::ZERO).await;
                return (ChunkEnd::Released, worker.note(released));
            }
        };
        let ended = worker.conclude(claim, outcome).await;
        worker.publish_progress(claim).await;
        ended
    }

    /// Ends when a chunk has had its time after the worker was told to stop.
    async fn finish_deadline(&self) {
        self.stop.cancelled().await;
        tokio::time::sleep(FINISH_TIMEOUT).await;
    }

    /// Holds the lease, and the message, for as long as it is polled. What it learns changes nothing: settling decides.
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
                    info!("the chunk is no longer this worker's");
                    lost = true;
                }
                Err(failure) => warn!(error = failure.chain(), "the lease could not be renewed"),
            }
        }
    }
}
