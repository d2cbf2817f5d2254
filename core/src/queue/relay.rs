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
/// When a message that the queue did not take is sent again, before jitter.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Carries messages from the outbox to the queue.
#[derive(Debug)]
pub struct Relay {
    store: Store,
    sqs: Arc<Sqs>,
    patience: ExponentialBackoff,
    away_since: Option<Instant>,
    letters_wait: bool,
    next_rescue: Instant,
}

/// What a round came to.
enum Round {
    /// There may be more to send.
    Full,
    /// All that was due is sent, but for what was refused.
    Done,
    /// Nothing was due, which says nothing of the queue.
    Empty,
}

impl Relay {
    /// Between this outbox and this queue.
    pub fn new(store: Store, sqs: Arc<Sqs>) -> Self {
        let patience = ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(100))
            .with_max_interval(LONGEST_PAUSE)
            .with_max_elapsed_time(None)
            .build();
        Self { store, sqs, patience, away_since: None, letters_wait: false, next_rescue: Instant::now() }
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
                Ok(Round::Full) => {}
                Ok(Round::Empty) if self.is_still_away().await => self.pause(&stop).await,
                Ok(Round::Done | Round::Empty) => {
                    self.is_reached();
                    self.rescue().await;
                    self.wait(&stop).await;
                }
                Err(failure) => {
                    self.is_not_reached(&failure);
                    self.pause(&stop).await;
                }
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
    async fn pause(&mut self, stop: &CancellationToken) {
        let pause = self.patience.next_backoff().unwrap_or(LONGEST_PAUSE);
        let _ = tokio::time::timeout(pause, stop.cancelled()).await;
    }

    fn is_not_reached(&mut self, failure: &Error) {
        if self.away_since.is_none() {
            self.away_since = Some(Instant::now());
            warn!(error = failure.chain(), "messages wait in the outbox");
        }
    }

    /// Asks the queue itself where nothing was sent to tell by.
    async fn is_still_away(&self) -> bool {
        self.away_since.is_some() && !self.sqs.answers().await
    }

    fn is_reached(&mut self) {
        self.patience.reset();
        let Some(since) = self.away_since.take() else { return };
        info!("the outbox is sent again");
        if since.elapsed() >= RESCUE_AFTER {
            // What waited here looks lost by its age, and has been announced this moment.
            self.next_rescue = Instant::now() + RESCUE_AFTER;
        }
    }

    /// Sends one round. An error means that a whole call with work failed; what it did not send comes up again after a pause.
    /// Letters go apart: a dead-letter queue that takes none keeps no work from being announced.
    async fn send_due(&mut self) -> Result<Round> {
        let (work, letters) = tokio::join!(self.send_to(Target::Work), self.send_to(Target::Dead));
        let letters = self.letters_go(letters);
        Ok(match work? {
            Round::Done | Round::Empty if matches!(letters, Round::Full) => Round::Full,
            round => round,
        })
    }

    async fn send_to(&self, target: Target) -> Result<Round> {
        let kind = match target {
            Target::Work => OutgoingKind::WakeUp,
            Target::Dead => OutgoingKind::DeadLetter,
        };
        let due = self.store.claim_outgoing(kind, LEASE, HELD).await?;
        let calls: Vec<_> = due.chunks(BATCH).map(|batch| self.send(target, batch.to_vec())).collect();
        let results: Vec<_> = stream::iter(calls).buffer_unordered(CALLS).collect().await;
        results.into_iter().collect::<Result<()>>()?;
        Ok(match i64::try_from(due.len()) {
            Ok(0) => Round::Empty,
            Ok(HELD) => Round::Full,
            _ => Round::Done,
        })
    }

    fn letters_go(&mut self, letters: Result<Round>) -> Round {
        let failed = letters.as_ref().err().map(Error::chain);
        if let Some(error) = &failed
            && !self.letters_wait
        {
            warn!(error, "dead letters wait in the outbox");
        }
        self.letters_wait = failed.is_some();
        letters.unwrap_or(Round::Done)
    }

    /// Sends a batch. Rows whose messages are on the queue go; the others come up again.
    async fn send(&self, target: Target, batch: Vec<Outgoing>) -> Result<()> {
        let sent = self.sqs.send(target, &batch).await;
        let taken = sent.as_deref().unwrap_or_default();
        let unsent: Vec<i64> =
            batch.iter().map(|outgoing| outgoing.id).filter(|id| !taken.contains(id)).collect();
        self.store.delete_sent(taken).await?;
        if !unsent.is_empty() {
            self.store.postpone_outgoing(&unsent, jittered(REFUSED_PAUSE)).await?;
        }
        sent.map(drop)
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
