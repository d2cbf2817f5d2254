//! The queue of passwords to be hashed: a few at a time, few waiting, and a fair order.
//!
//! **Invariant.** Who has used the queue least goes first: requests are ranked by how many of their address are in the queue, or
//! have left it in the last ten minutes without a right password; among equals by the same number of the account, and then the
//! newest is first. Where the queue is full, the last in this order is refused. So a flood from many addresses is behind each address that comes new, and a
//! password that is right costs its address nothing. Callers with credentials (who make accounts and change passwords) have a
//! queue beside the anonymous one; the two take turns.
//!
//! The account is the text that was sent, so that the order tells nothing of whether there is such an account.

mod usage;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_core::credential::{HASHES_AT_ONCE, Passwords};
use cuponera_core::error::{Error, Result};
use cuponera_core::telemetry::metrics::{Bound, Resource};
use secrecy::SecretString;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::shares::Claimant;
use usage::{Rival, Usage};

/// Hashes passwords in a fair order.
#[derive(Debug)]
pub(crate) struct Hashing {
    passwords: Arc<Passwords>,
    queue: Arc<Queue>,
    /// Accounts are kept as hashes that nobody else can make.
    accounts: RandomState,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Queue {
    room: usize,
    metrics: Resource,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    /// Callers with credentials, and requests without.
    waiting: [BTreeMap<Rank, oneshot::Sender<Turn>>; 2],
    /// Whose turn it is of the two.
    next_side: usize,
    arrivals: u64,
    usage: Usage,
}

/// The order: use by the address, use of the account, and how early it came: the newest is first, since of a flood from addresses
/// that all come new it is the one that still has somebody waiting.
type Rank = (u32, u32, Reverse<u64>);

/// The right to hash; dropping it gives it to the next in the queue.
#[derive(Debug)]
struct Turn(Option<Arc<Queue>>);

/// A request that is counted for its rivals until it is dropped, and longer unless it went well.
#[derive(Debug)]
struct Counted {
    queue: Arc<Queue>,
    rivals: Vec<Rival>,
    went_well: bool,
}

impl Hashing {
    /// A hasher with room for so many requests that wait; makes the hash that passwords of unknown accounts are compared with.
    pub(crate) fn new(room: usize, tasks: TaskTracker) -> Result<Self> {
        let queue = Queue { room, metrics: Resource::new("passwords"), state: Mutex::default() };
        Ok(Self {
            passwords: Arc::new(Passwords::new()?),
            queue: Arc::new(queue),
            accounts: RandomState::new(),
            tasks,
        })
    }

    /// The hash to keep. `Unavailable` if the queue refuses it.
    pub(crate) async fn hash(&self, by: &Claimant, password: SecretString) -> Result<String> {
        let (turn, mut counted) = self.queue.clone().wait(by, None).await?;
        let passwords = self.passwords.clone();
        self.work(async move {
            let hash = passwords.hash(password).await;
            counted.went_well = true;
            drop((turn, counted));
            hash
        })
        .await
    }

    /// Whether the password is the one of the hash. Without a hash the same work is done and the answer is no. `account` is
    /// what was sent to name it. `Unavailable` if the queue refuses it.
    pub(crate) async fn verify(
        &self,
        by: &Claimant,
        account: &str,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool> {
        let account = self.accounts.hash_one(account.to_lowercase());
        let (turn, mut counted) = self.queue.clone().wait(by, Some(account)).await?;
        let passwords = self.passwords.clone();
        self.work(async move {
            let matches = passwords.verify(password, hash).await;
            counted.went_well = matches.as_ref().is_ok_and(|matches| *matches);
            drop((turn, counted));
            matches
        })
        .await
    }

    /// Works to the end, also where the caller goes away meanwhile: it must neither make room for one hash too many, nor
    /// escape being counted.
    async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.tasks.spawn(work).await.map_err(Error::internal)?
    }

    /// Drops what was counted more than ten minutes ago.
    pub(crate) fn forget_quiet(&self) {
        self.queue.state().usage.forget_quiet(Instant::now());
    }

    /// Shows in the metrics how many wait.
    pub(crate) fn show(&self) {
        let waiting = self.queue.state().waiting.iter().map(BTreeMap::len).sum();
        self.queue.metrics.in_use(waiting);
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, which the order gives.
    async fn wait(self: Arc<Self>, by: &Claimant, account: Option<u64>) -> Result<(Turn, Counted)> {
        let side = usize::from(!matches!(by, Claimant::Known { .. }));
        let rivals: Vec<_> = by.rivals().map(Rival::Owner).chain(account.map(Rival::Account)).collect();
        let (counted, turn) = self.enter(side, rivals);
        let turn = turn.await.map_err(|_| Error::unavailable("too many passwords wait to be hashed"))?;
        Ok((turn, counted))
    }

    /// Takes a place in the queue. The one with the highest rank loses its place if there are too many.
    fn enter(self: &Arc<Self>, side: usize, rivals: Vec<Rival>) -> (Counted, oneshot::Receiver<Turn>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        let (by_address, of_account) = state.usage.add(&rivals, Instant::now());
        let rank = (by_address, of_account, Reverse(state.arrivals));
        state.arrivals += 1;
        let counted = Counted { queue: self.clone(), rivals, went_well: false };
        if state.running < HASHES_AT_ONCE {
            state.running += 1;
            // Sent to ourselves: the receiver is here.
            let _ = sender.send(Turn(Some(self.clone())));
            return (counted, receiver);
        }
        let waiting = &mut state.waiting[side];
        waiting.insert(rank, sender);
        if waiting.len() > self.room {
            // Those whose callers have gone away first.
            waiting.retain(|_, sender| !sender.is_closed());
        }
        if waiting.len() > self.room {
            waiting.pop_last();
            self.metrics.refused(Bound::Total);
        }
        (counted, receiver)
    }

    /// Gives a turn that is free to the next in the queue.
    fn pass_on(self: &Arc<Self>) {
        loop {
            let next = {
                let mut state = self.state();
                let next = state.next();
                if next.is_none() {
                    state.running -= 1;
                }
                next
            };
            let Some(next) = next else { return };
            match next.send(Turn(Some(self.clone()))) {
                Ok(()) => return,
                // The caller has gone away.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let first = self.next_side;
        self.next_side = 1 - first;
        [first, 1 - first]
            .into_iter()
            .find_map(|side| self.waiting[side].pop_first())
            .map(|(_, sender)| sender)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.pass_on();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.queue.state().usage.remove(&self.rivals, !self.went_well, Instant::now());
    }
}

#[cfg(test)]
mod tests;
