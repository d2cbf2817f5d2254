//! Sends the outbox to the queue and announces lost work again. Each process may run a relay; leases divide
//! the rows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use futures::{StreamExt, stream};
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use cuponera_store::{Error, Result};
use cuponera_store::{Outgoing, OutgoingKind, RESCUE_AFTER, Store, WorkerAvailability};

use super::sqs::{BATCH, Sqs, Target};

/// Interval of checks without a notification, for rows of other processes and rows that become due by time.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of messages claimed at once.
const MAX_CLAIMED: i64 = 100;
/// Maximum number of concurrent calls to SQS.
const MAX_CONCURRENT_CALLS: usize = 4;
/// Longer than all calls of a round can take. If a process dies, its messages are delayed by up to this
/// time.
const LEASE: Duration = Duration::from_secs(15);
/// Maximum pause while the queue is unavailable, before jitter: waiting messages are sent soon after its
/// return.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// A message delayed this long may look lost to the rescue before a worker could receive it.
const LATE: Duration = Duration::from_secs(2);
/// Delay before a rejected message is sent again, before jitter.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Moves messages from the outbox to the queue.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    sqs: Arc<Sqs>,
    backoff: ExponentialBackoff,
    is_unavailable: bool,
    dead_letters_wait: bool,
    next_rescue: Instant,
}

/// The result of a round, for one of the queues.
#[derive(Debug, Default)]
struct Sent {
    /// Number of messages that were due.
    due: usize,
    /// Number of messages that the queue accepted.
    taken: usize,
    /// Whether one of these was delayed so long that its chunk looks lost.
    was_late: bool,
}

impl Sent {
    /// If the queue accepted none of many, retrying at once is useless.
    fn may_have_more(&self) -> bool {
        self.taken > 0 && i64::try_from(self.due).is_ok_and(|due| due == MAX_CLAIMED)
    }
}

impl Relay {
    /// A relay between this outbox and this queue.
    pub fn new(store: Store, sqs: Arc<Sqs>) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(MAX_PAUSE)
            .with_max_elapsed_time(None)
            .build();
        Self {
            store,
            sqs,
            backoff,
            is_unavailable: false,
            dead_letters_wait: false,
            next_rescue: Instant::now(),
        }
    }

    /// Sends until `stop` is cancelled, then sends what is left once.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let stopping = stop.is_cancelled();
            let round = self.send_due().await;
            if stopping {
                return;
            }
            match round {
                Ok(true) => {}
                Ok(false) => {
                    self.rescue().await;
                    self.wait(&stop).await;
                }
                Err(failure) => self.pause(&failure, &stop).await,
            }
        }
    }

    async fn wait(&self, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.sqs.notifier().notified() => {}
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
    }

    /// A notification does not end this pause, because the queue or the database is unavailable.
    async fn pause(&mut self, failure: &Error, stop: &CancellationToken) {
        if !std::mem::replace(&mut self.is_unavailable, true) {
            warn!(error = failure.chain(), "the outbox cannot be sent");
        }
        let pause = self.backoff.next_backoff().unwrap_or(MAX_PAUSE);
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }

    /// Updates the state from a round. A round that sent nothing proves nothing about the queue.
    fn note(&mut self, work: &Sent) {
        if work.taken > 0 {
            self.backoff.reset();
            if std::mem::take(&mut self.is_unavailable) {
                info!("the outbox can be sent again");
            }
        }
        if work.was_late {
            // It was just announced, and workers need time to receive it.
            self.next_rescue = Instant::now() + RESCUE_AFTER;
        }
    }

    /// Sends one round; returns whether there may be more. An error means that a whole call with work
    /// failed; its messages are sent again after a pause. Dead letters are sent separately, so that a
    /// failing dead-letter queue does not prevent announcements of work.
    async fn send_due(&mut self) -> Result<bool> {
        let (work, letters) = tokio::join!(self.send_to(Target::Work), self.send_to(Target::Dead));
        let letters = self.send_dead_letters(letters);
        let work = work?;
        self.note(&work);
        Ok(work.may_have_more() || letters.may_have_more())
    }

    async fn send_to(&self, target: Target) -> Result<Sent> {
        let kind = match target {
            Target::Work => OutgoingKind::WakeUp,
            Target::Dead => OutgoingKind::DeadLetter,
        };
        let due = self.store.claim_outgoing(kind, LEASE, MAX_CLAIMED).await?;
        let calls: Vec<_> = due.chunks(BATCH).map(|batch| self.send(target, batch.to_vec())).collect();
        let calls: Vec<_> = stream::iter(calls).buffer_unordered(MAX_CONCURRENT_CALLS).collect().await;
        let mut sent = Sent { due: due.len(), ..Sent::default() };
        for taken in calls {
            for outgoing in taken? {
                sent.taken += 1;
                sent.was_late |= outgoing.waited >= LATE;
            }
        }
        Ok(sent)
    }

    fn send_dead_letters(&mut self, letters: Result<Sent>) -> Sent {
        let failed = letters.as_ref().err().map(Error::chain);
        if let Some(error) = &failed
            && !self.dead_letters_wait
        {
            warn!(error, "dead letters cannot be sent");
        }
        self.dead_letters_wait = failed.is_some();
        letters.unwrap_or_default()
    }

    /// Sends a batch; returns the messages that the queue accepted. Their rows are deleted; the others are
    /// sent again later.
    async fn send(&self, target: Target, batch: Vec<Outgoing>) -> Result<Vec<Outgoing>> {
        let sent = self.sqs.send(target, &batch).await;
        let taken = sent.as_deref().unwrap_or_default();
        self.store.delete_sent(taken).await?;
        let (taken, unsent): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|outgoing| taken.contains(&outgoing.id));
        if !unsent.is_empty() {
            let unsent: Vec<_> = unsent.iter().map(|outgoing| outgoing.id).collect();
            self.store.postpone_outgoing(&unsent, jittered(REFUSED_PAUSE)).await?;
        }
        sent.map(|_| taken)
    }

    /// Postgres knows which chunks are runnable; only this process knows whether a slot polls without
    /// success.
    async fn rescue(&mut self) {
        if Instant::now() < self.next_rescue {
            return;
        }
        self.next_rescue = Instant::now() + POLL_INTERVAL;
        let is_idle = self.sqs.idle_for().is_some_and(|time| time >= RESCUE_AFTER);
        match self
            .store
            .rescue_chunks(if is_idle { WorkerAvailability::Idle } else { WorkerAvailability::Unknown })
            .await
        {
            Ok(0) => {}
            Ok(chunks) => warn!(chunks, "unclaimed chunks were announced again"),
            Err(failure) => warn!(error = failure.chain(), "the search for lost chunks failed"),
        }
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..=1.5))
}
