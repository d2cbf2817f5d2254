//! Hashes passwords, a few at a time, from a bounded queue with a fair order.
//!
//! **Invariant.** The request with the least use goes first. Use is the number of requests of the same address that are in the
//! queue, or left it during the last ten minutes without a correct password; then the same number for the account; then the
//! newest goes first. A full queue rejects the last request in this order. So a flood from many addresses is served after an
//! address that is new, and a correct password does not count. Callers with credentials (who create accounts and change
//! passwords) have a separate queue; the two alternate.
//!
//! The account is the text that was sent, so the order does not reveal whether the account exists.

mod usage;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_platform::credential::{Argon2Hasher, HASHES_AT_ONCE};
use cuponera_platform::telemetry::metrics::{Bound, Resource};
use cuponera_store::{Error, Result};
use secrecy::SecretString;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::shares::Claimant;
use usage::{Usage, UsageKey};

/// Hashes passwords in a fair order.
#[derive(Debug)]
pub(crate) struct Hashing {
    passwords: Arc<Argon2Hasher>,
    queue: Arc<Queue>,
    /// Hashes accounts with a secret key of this process.
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
    waiting: [BTreeMap<Rank, oneshot::Sender<HashPermit>>; 2],
    /// The queue that is served next.
    next_side: usize,
    arrivals: u64,
    usage: Usage,
}

/// The order: use by the address, use of the account, then the newest first, because in a flood from new addresses only the
/// newest still has a waiting client.
type Rank = (u32, u32, Reverse<u64>);

/// The right to hash; dropping it gives it to the next in the queue.
#[derive(Debug)]
struct HashPermit(Option<Arc<Queue>>);

/// The turn of a request that has waited in the queue: the right to hash one password.
#[derive(Debug)]
pub(crate) struct Turn {
    permit: HashPermit,
    usage_guard: UsageGuard,
}

/// Counts a request under its usage keys until it is dropped, and for ten minutes more if it did not succeed.
#[derive(Debug)]
struct UsageGuard {
    queue: Arc<Queue>,
    usage_keys: Vec<UsageKey>,
    has_succeeded: bool,
}

impl Hashing {
    /// A hasher whose two queues hold up to `room` requests each. Computes the hash that is compared for unknown accounts.
    pub(crate) fn new(room: usize, tasks: TaskTracker) -> Result<Self> {
        let queue = Queue { room, metrics: Resource::new("passwords"), state: Mutex::default() };
        Ok(Self {
            passwords: Arc::new(Argon2Hasher::new()?),
            queue: Arc::new(queue),
            accounts: RandomState::new(),
            tasks,
        })
    }

    /// Hashes a password. `Unavailable` if the queue rejects it.
    pub(crate) async fn hash(&self, by: &Claimant, password: SecretString) -> Result<String> {
        let Turn { permit, mut usage_guard } = self.queue.clone().wait(by, None).await?;
        let passwords = self.passwords.clone();
        self.work(async move {
            let hash = passwords.hash(password).await;
            usage_guard.has_succeeded = true;
            drop((permit, usage_guard));
            hash
        })
        .await
    }

    /// Waits until it is the turn of this request. `account` is the text that was sent. `Unavailable` if the queue rejects it.
    ///
    /// What a login needs from the database comes after this, so a flood of rejected logins takes nothing from it.
    pub(crate) async fn turn(&self, by: &Claimant, account: &str) -> Result<Turn> {
        let account = self.accounts.hash_one(account.to_lowercase());
        self.queue.clone().wait(by, Some(account)).await
    }

    /// Whether the password matches the hash. Without a hash it does the same work and returns false.
    pub(crate) async fn verify(
        &self,
        turn: Turn,
        password: SecretString,
        hash: Option<String>,
    ) -> Result<bool> {
        let Turn { permit, mut usage_guard } = turn;
        let passwords = self.passwords.clone();
        self.work(async move {
            let matches = passwords.verify(password, hash).await;
            usage_guard.has_succeeded = matches.as_ref().is_ok_and(|matches| *matches);
            drop((permit, usage_guard));
            matches
        })
        .await
    }

    /// Completes the work even if the caller is dropped: its permit stays taken while the hash runs, and the request is
    /// counted.
    async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.tasks.spawn(work).await.map_err(Error::internal)?
    }

    /// Drops counts that are older than ten minutes.
    pub(crate) fn evict_idle(&self) {
        self.queue.state().usage.evict_idle(Instant::now());
    }

    /// Updates the metrics of waiting requests.
    pub(crate) fn show(&self) {
        let waiting = self.queue.state().waiting.iter().map(BTreeMap::len).sum();
        self.queue.metrics.in_use(waiting);
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a permit.
    async fn wait(self: Arc<Self>, by: &Claimant, account: Option<u64>) -> Result<Turn> {
        let side = usize::from(!matches!(by, Claimant::Known { .. }));
        let usage_keys: Vec<_> =
            by.competitors().map(UsageKey::Owner).chain(account.map(UsageKey::Account)).collect();
        let (usage_guard, permit) = self.enter(side, usage_keys);
        let permit = permit.await.map_err(|_| Error::unavailable("too many passwords wait to be hashed"))?;
        Ok(Turn { permit, usage_guard })
    }

    /// Adds a request to the queue. If the queue is then too long, removes the request with the highest rank.
    fn enter(
        self: &Arc<Self>,
        side: usize,
        usage_keys: Vec<UsageKey>,
    ) -> (UsageGuard, oneshot::Receiver<HashPermit>) {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        let (by_address, of_account) = state.usage.add(&usage_keys, Instant::now());
        let rank = (by_address, of_account, Reverse(state.arrivals));
        state.arrivals += 1;
        let usage_guard = UsageGuard { queue: self.clone(), usage_keys, has_succeeded: false };
        if state.running < HASHES_AT_ONCE {
            state.running += 1;
            // The receiver exists: this function returns it.
            let _ = sender.send(HashPermit(Some(self.clone())));
            return (usage_guard, receiver);
        }
        let waiting = &mut state.waiting[side];
        waiting.insert(rank, sender);
        if waiting.len() > self.room {
            // First remove the requests whose callers were dropped.
            waiting.retain(|_, sender| !sender.is_closed());
        }
        if waiting.len() > self.room {
            waiting.pop_last();
            self.metrics.rejected(Bound::Total);
        }
        (usage_guard, receiver)
    }

    /// Passes a free permit to the next request in the queue.
    fn grant_next(self: &Arc<Self>) {
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
            match next.send(HashPermit(Some(self.clone()))) {
                Ok(()) => return,
                // The caller was dropped.
                Err(mut permit) => permit.0 = None,
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<HashPermit>> {
        let first = self.next_side;
        self.next_side = 1 - first;
        [first, 1 - first]
            .into_iter()
            .find_map(|side| self.waiting[side].pop_first())
            .map(|(_, sender)| sender)
    }
}

impl Drop for HashPermit {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.grant_next();
        }
    }
}

impl Drop for UsageGuard {
    fn drop(&mut self) {
        self.queue.state().usage.remove(&self.usage_keys, !self.has_succeeded, Instant::now());
    }
}

#[cfg(test)]
mod tests;
