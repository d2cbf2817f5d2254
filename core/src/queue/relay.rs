//! Sends what is in the outbox, and has lost work announced again. Every process may run one: they share by leases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use futures::{StreamExt, stream};
use rand::RngExt;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::{Error, Result};
use crate::store::{Hands, Outgoing, OutgoingKind, RESCUE_AFTER, Store};

use super::sqs::{BATCH, Sqs, Target};

/// How often there is a look without a bell: what another process wrote, or what is due by the clock.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many messages are held at once.
const HELD: i64 = 100;
/// How many calls are on the network at once.
const CALLS: usize = 4;
/// Longer than all calls of a round can take. Who dies holds messages up for so long.
const LEASE: Duration = Duration::from_secs(15);
/// The longest pause while the queue is away, before jitter: what waits is sent soon after its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Who has waited here for so long may be taken for lost before anybody can have come.
const LATE: Duration = Duration::from_secs(2);
/// When a message that the queue did not take is sent again, before jitter.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Carries messages from the outbox to the queue.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    sqs: Arc<Sqs>,
    patience: ExponentialBackoff,
    is_away: bool,
    letters_wait: bool,
    next_rescue: Instant,
}

/// What a round came to, for one of the queues.
#[derive(Debug, Default)]
struct Sent {
    /// How many messages were due.
    due: usize,
    /// How many of them the queue took.
    taken: usize,
    /// Whether one of these had waited for so long that its chunk looks lost.
    was_late: bool,
}

impl Sent {
    /// Nothing taken of many says that asking again at once is no use.
    fn may_have_more(&self) -> bool {
        self.taken > 0 && i64::try_from(self.due).is_ok_and(|due| due == HELD)
    }
}

impl Relay {
    /// Between this outbox and this queue.
    pub fn new(store: Store, sqs: Arc<Sqs>) -> Self {
        let patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(LONGEST_PAUSE)
            .with_max_elapsed_time(None)
            .build();
        Self { store, sqs, patience, is_away: false, letters_wait: false, next_rescue: Instant::now() }
    }

    /// Sends until told to stop, and then what is there.
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
            () = self.sqs.bell().rung() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }

    /// No bell ends this: the queue is away, or the database is.
    async fn pause(&mut self, failure: &Error, stop: &CancellationToken) {
        if !std::mem::replace(&mut self.is_away, true) {
            warn!(error = failure.chain(), "what is in the outbox waits");
        }
        let pause = self.patience.next_backoff().unwrap_or(LONGEST_PAUSE);
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }

    /// Learns from what was sent. A round that sent nothing says nothing of the queue.
    fn note(&mut self, work: &Sent) {
        if work.taken > 0 {
            self.patience.reset();
            if std::mem::take(&mut self.is_away) {
                info!("the outbox is sent again");
            }
        }
        if work.was_late {
            // Announced this moment: it must be given the time to be taken.
            self.next_rescue = Instant::now() + RESCUE_AFTER;
        }
    }

    /// Sends one round, and says whether there may be more. An error means that a whole call with work failed; what it did
    /// not send comes up again after a pause. Letters go apart: a dead-letter queue that takes none keeps no work from being
    /// announced.
    async fn send_due(&mut self) -> Result<bool> {
        let (work, letters) = tokio::join!(self.send_to(Target::Work), self.send_to(Target::Dead));
        let letters = self.letters_go(letters);
        let work = work?;
        self.note(&work);
        Ok(work.may_have_more() || letters.may_have_more())
    }

    async fn send_to(&self, target: Target) -> Result<Sent> {
        let kind = match target {
            Target::Work => OutgoingKind::WakeUp,
            Target::Dead => OutgoingKind::DeadLetter,
        };
        let due = self.store.claim_outgoing(kind, LEASE, HELD).await?;
        let calls: Vec<_> = due.chunks(BATCH).map(|batch| self.send(target, batch.to_vec())).collect();
        let calls: Vec<_> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
        let mut sent = Sent { due: due.len(), ..Sent::default() };
        for taken in calls {
            for outgoing in taken? {
                sent.taken += 1;
                sent.was_late |= outgoing.waited >= LATE;
            }
        }
        Ok(sent)
    }

    fn letters_go(&mut self, letters: Result<Sent>) -> Sent {
        let failed = letters.as_ref().err().map(Error::chain);
        if let Some(error) = &failed
            && !self.letters_wait
        {
            warn!(error, "dead letters wait in the outbox");
        }
        self.letters_wait = failed.is_some();
        letters.unwrap_or_default()
    }

    /// Sends a batch, and says what of it the queue took. Rows whose messages are on the queue go; the others come up again.
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

    /// Postgres knows of work; whether somebody waits in vain is known here.
    async fn rescue(&mut self) {
        if Instant::now() < self.next_rescue {
            return;
        }
        self.next_rescue = Instant::now() + LOOK_EVERY;
        let is_idle = self.sqs.idle_for().is_some_and(|time| time >= RESCUE_AFTER);
        match self.store.rescue_chunks(if is_idle { Hands::Idle } else { Hands::Unknown }).await {
            Ok(0) => {}
            Ok(chunks) => warn!(chunks, "nobody came for these chunks; they are announced again"),
            Err(failure) => warn!(error = failure.chain(), "lost work could not be looked for"),
        }
    }
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::rng().random_range(0.5..=1.5))
}
