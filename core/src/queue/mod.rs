//! How workers learn that there is work. A wake-up says only *there is work*; which chunk is Postgres's fair choice, so a
//! lost, doubled, reordered or late one changes nothing.
//!
//! Two implementations: on one machine the job tables themselves, for a fleet SQS. Each place to work has a [`Receiver`]: it
//! waits for a [`Delivery`], claims in the database, works, and says what became of it.

mod postgres;
mod redrive;
mod relay;
mod sqs;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::job::Message;
use crate::store::Store;

pub use postgres::{Wakeups, announce};
pub use redrive::{RedriveReport, forget_needless_letters, redrive};
pub use relay::Relay;
pub use sqs::{Deleter, Depth, QueueAddress, Sqs, SqsFault};

/// Where wake-ups come from.
#[derive(Debug, Clone)]
pub enum Queue {
    /// The job tables themselves.
    Postgres(Arc<Wakeups>),
    /// An SQS queue.
    Sqs(Arc<Sqs>),
}

/// One place's ear on the queue.
#[derive(Debug)]
pub struct Receiver(Ear);

#[derive(Debug)]
enum Ear {
    Postgres(postgres::Sleeper),
    Sqs(sqs::Receiver),
}

/// A hint that there is work, in the hands of one place until it says what became of it. Without a message it says that the
/// tables are worth a look.
#[derive(Debug)]
pub struct Delivery(Option<sqs::Received>);

impl Queue {
    /// A store whose new work is announced where this queue's receivers hear of it.
    #[must_use]
    pub fn attach(&self, store: Store) -> Store {
        match self {
            Self::Postgres(_) => store,
            Self::Sqs(sqs) => store.with_outbox(sqs.bell()),
        }
    }

    /// An ear for each place; and who deletes what they are through with, if messages are to be deleted. A delivery nobody
    /// speaks for comes back soon after `lease`, for a claim in the database is over then.
    pub fn open(&self, store: &Store, lease: Duration, places: usize) -> (Vec<Receiver>, Option<Deleter>) {
        match self {
            Self::Postgres(wakeups) => {
                let sleeper = || postgres::Sleeper::new(wakeups.clone(), store.clone());
                ((0..places).map(|_| Receiver(Ear::Postgres(sleeper()))).collect(), None)
            }
            Self::Sqs(sqs) => {
                let (receivers, deleter) = sqs::open(sqs, lease, places);
                (receivers.into_iter().map(|receiver| Receiver(Ear::Sqs(receiver))).collect(), Some(deleter))
            }
        }
    }
}

impl Receiver {
    /// Waits until there may be work; `None` once it is told to stop, which ends the waiting at once.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<Delivery> {
        match &mut self.0 {
            Ear::Postgres(sleeper) => sleeper.next(stop).await.then_some(Delivery(None)),
            Ear::Sqs(receiver) => receiver.next(stop).await.map(|received| Delivery(Some(received))),
        }
    }

    /// A chunk was claimed: where there was one there may be more.
    pub fn claimed(&self) {
        match &self.0 {
            Ear::Postgres(sleeper) => sleeper.claimed(),
            // Every other chunk has a message of its own.
            Ear::Sqs(_) => {}
        }
    }

    /// What was claimed is still at work: the delivery is not for others yet.
    pub async fn hold(&self, delivery: &Delivery) {
        if let (Ear::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.hold(received).await;
        }
    }

    /// What the delivery gave cause for is settled in the database.
    pub fn settled(&mut self, delivery: Delivery) {
        if let (Ear::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.delete(received);
        }
    }

    /// There was nothing to do.
    pub fn found_nothing(&mut self, delivery: Delivery) {
        match &mut self.0 {
            Ear::Postgres(sleeper) => sleeper.found_nothing(),
            Ear::Sqs(_) => self.settled(delivery),
        }
    }

    /// Nothing was begun: somebody else may have it, after a delay.
    pub async fn give_back(&self, delivery: Delivery, delay: Duration) {
        if let (Ear::Sqs(receiver), Delivery(Some(received))) = (&self.0, delivery) {
            receiver.give_back(received, delay).await;
        }
    }
}

impl Delivery {
    /// What it says, if it says more than *there is work*.
    pub fn message(&self) -> Option<&Message> {
        self.0.as_ref().map(sqs::Received::message)
    }
}
