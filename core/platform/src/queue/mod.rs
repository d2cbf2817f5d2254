//! Wakes workers when there is work. A wake-up only says *there is work*; Postgres selects the chunk,
//! fairly. Lost, duplicated, reordered or late wake-ups therefore change no result.
//!
//! Two implementations: the job tables on one machine, SQS for a fleet. Each worker slot has a
//! [`Receiver`]: it waits for a [`Delivery`], claims a chunk in the database, executes it and reports the
//! outcome.

mod postgres;
mod redrive;
mod relay;
mod sqs;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use cuponera_domain::job::Message;
use cuponera_store::Store;

pub use postgres::Wakeups;
pub use redrive::{RedriveReport, delete_unneeded_dead_letters, redrive};
pub use relay::Relay;
pub use sqs::{Deleter, Depth, QueueAddress, Sqs, SqsError};

/// The source of wake-ups.
#[derive(Debug, Clone)]
pub enum Queue {
    /// The job tables.
    Postgres(Arc<Wakeups>),
    /// An SQS queue.
    Sqs(Arc<Sqs>),
}

/// The receiver of one worker slot.
#[derive(Debug)]
pub struct Receiver(ReceiverKind);

#[derive(Debug)]
enum ReceiverKind {
    Postgres(postgres::Receiver),
    Sqs(sqs::Receiver),
}

/// A hint that there is work, owned by one slot until it reports the outcome. Without a message it only
/// means that the tables should be checked.
#[derive(Debug)]
pub struct Delivery(Option<sqs::Received>);

impl Queue {
    /// Returns a store that announces new work to this queue.
    #[must_use]
    pub fn attach(&self, store: Store) -> Store {
        match self {
            Self::Postgres(_) => store,
            Self::Sqs(sqs) => store.with_outbox(sqs.notifier()),
        }
    }

    /// A receiver for each slot, and the task that deletes their finished messages, if the queue has
    /// messages. A delivery that is not reported is delivered again soon after `lease`, when the claim in
    /// the database has ended.
    pub fn open(&self, store: &Store, lease: Duration, slots: usize) -> (Vec<Receiver>, Option<Deleter>) {
        match self {
            Self::Postgres(wakeups) => {
                let sleeper = || postgres::Receiver::new(wakeups.clone(), store.clone());
                ((0..slots).map(|_| Receiver(ReceiverKind::Postgres(sleeper()))).collect(), None)
            }
            Self::Sqs(sqs) => {
                let (receivers, deleter) = sqs::open(sqs, lease, slots);
                (
                    receivers.into_iter().map(|receiver| Receiver(ReceiverKind::Sqs(receiver))).collect(),
                    Some(deleter),
                )
            }
        }
    }
}

impl Receiver {
    /// Waits until there may be work. Returns `None` as soon as `stop` is cancelled.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Delivery> {
        match &mut self.0 {
            ReceiverKind::Postgres(sleeper) => sleeper.next(stop).await.then_some(Delivery(None)),
            ReceiverKind::Sqs(receiver) => receiver.next(stop).await.map(|received| Delivery(Some(received))),
        }
    }

    /// Reports that a chunk was claimed: there may be more.
    pub fn claimed(&self) {
        match &self.0 {
            ReceiverKind::Postgres(sleeper) => sleeper.claimed(),
            // Each other chunk has its own message.
            ReceiverKind::Sqs(_) => {}
        }
    }

    /// Reports that the chunk is still being executed: the delivery stays hidden from others.
    pub async fn hold(&self, delivery: &Delivery) {
        if let (ReceiverKind::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.hold(received).await;
        }
    }

    /// Reports that the chunk is finished in the database.
    pub fn finished(&mut self, delivery: Delivery) {
        if let (ReceiverKind::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.delete(received);
        }
    }

    /// Reports that there was nothing to claim.
    pub fn found_nothing(&mut self, delivery: Delivery) {
        match &mut self.0 {
            ReceiverKind::Postgres(sleeper) => sleeper.found_nothing(),
            ReceiverKind::Sqs(_) => self.finished(delivery),
        }
    }

    /// Returns a delivery whose work was not begun; it is delivered again after a delay.
    pub async fn give_back(&self, delivery: Delivery, delay: Duration) {
        if let (ReceiverKind::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.give_back(received, delay).await;
        }
    }
}

impl Delivery {
    /// The message, if there is one.
    pub fn message(&self) -> Option<&Message> {
        self.0.as_ref().map(sqs::Received::message)
    }
}
