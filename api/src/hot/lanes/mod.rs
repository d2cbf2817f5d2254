//! Lanes for hot writes: the requests that come in while a batch runs are the next batch. There is no timer, so an idle
//! lane adds no delay; under load the batches grow by themselves.
//!
//! A code always takes the same lane, so its calls follow each other instead of fighting for its row. A lane serves its
//! businesses in turn.
//!
//! **Invariant.** What one call waits for delays no call for another row by more than a quarter of a second: a batch waits for
//! no coupon and only briefly for other rows (`store::batch`), a lane waits for no batch longer than [`BATCH_PATIENCE`], and
//! a call that was busy leaves the lane ([`apart`]).

mod apart;
mod turns;

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuponera_core::config::Shares as Settings;
use cuponera_core::error::{Error, Result};
use cuponera_core::store::{Answer, Call, Store, Transition, Tried};
use cuponera_core::telemetry::metrics::{Lane as Metrics, Written};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hot::lock_notes::LockNotes;
use crate::shares::{Claimant, Held, Shares};

use apart::Apart;
use turns::Turns;

/// The most calls in one batch: past this a statement takes longer without doing more in a second.
const MAX_BATCH: usize = 64;
/// Maximum number of calls of a lane without an answer, of which each caller has a share; the next call gets 503. In batches of
/// 64 this is about one second of work.
const MAX_WAITING: usize = 4_096;
/// How long a lane waits for a batch before it begins the next beside it.
const BATCH_PATIENCE: Duration = Duration::from_millis(150);
/// How many batches of a lane may run at once, when they take longer than that.
const MAX_RUNNING: usize = 3;

/// A call, and who waits for its answer.
struct Waiting<T: Transition> {
    call: Call<T>,
    end: End<T>,
}

/// Where a call's answer goes, and what it holds until then.
struct End<T: Transition> {
    since: Instant,
    answer: oneshot::Sender<Result<Answer<T::Outcome>>>,
    _place: Held,
}

/// The lanes of one kind of write.
pub(crate) struct Lanes<T: Transition> {
    all: Vec<Arc<Lane<T>>>,
    apart: Arc<Apart<T>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl<T: Transition> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.all.len()).finish_non_exhaustive()
    }
}

impl<T: Transition + 'static> Lanes<T> {
    /// Starts so many lanes, which are counted under this name.
    pub(crate) fn start(
        kind: &'static str,
        store: &Store,
        lanes: usize,
        shares: &Settings,
        notes: &LockNotes,
        tasks: &TaskTracker,
    ) -> Self {
        let (stop, metrics) = (CancellationToken::new(), Metrics::new(kind));
        let outlet = Outlet { notes: notes.clone(), metrics: metrics.clone() };
        let apart = Apart::new(store.clone(), outlet.clone(), tasks.clone());
        let start_one = |_| {
            let lane = Arc::new(Lane {
                store: store.clone(),
                outlet: outlet.clone(),
                apart: Arc::clone(&apart),
                places: Shares::new("lanes", MAX_WAITING, shares),
                turns: Mutex::new(Some(Turns::new())),
                arrival: Notify::new(),
                running: Arc::new(Semaphore::new(MAX_RUNNING)),
                tasks: tasks.clone(),
            });
            tasks.spawn(Arc::clone(&lane).run(stop.clone()));
            lane
        };
        Self { all: (0..lanes.max(1)).map(start_one).collect(), apart, metrics, stop }
    }

    /// Has the effect of a call, in whichever batch it comes to stand. `by` decides the lane: calls for the same row say
    /// the same. The effect does not depend on the caller's waiting for it.
    pub(crate) async fn settle(
        &self,
        by: &str,
        claimant: &Claimant,
        call: Call<T>,
    ) -> Result<Answer<T::Outcome>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((call.business, by));
        let lane = &self.all[usize::try_from(hash % self.all.len() as u64).unwrap_or(0)];
        let (answer, wait) = oneshot::channel();
        let place = lane.places.take(claimant);
        let place = place.map_err(|_| Error::unavailable("too many calls wait already"))?;
        lane.push(Waiting { call, end: End { since: Instant::now(), answer, _place: place } })?;
        wait.await.map_err(|_| Error::unavailable("the server is shutting down"))?
    }

    /// Says how many calls wait.
    pub(crate) fn show_waiting(&self) {
        let in_lanes: usize = self.all.iter().map(|lane| lane.waiting()).sum();
        self.metrics.waiting(in_lanes + self.apart.len());
    }

    /// How many calls have no answer yet.
    pub(crate) fn places_in_use(&self) -> usize {
        self.all.iter().map(|lane| lane.places.in_use()).sum()
    }

    /// Ends the lanes once what waits in them is done.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// One lane.
struct Lane<T: Transition> {
    store: Store,
    outlet: Outlet,
    apart: Arc<Apart<T>>,
    /// Places for calls without an answer.
    places: Shares,
    /// None once the lane has ended.
    turns: Mutex<Option<Turns<Waiting<T>>>>,
    arrival: Notify,
    /// Places for batches at work.
    running: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<T: Transition + 'static> Lane<T> {
    fn push(&self, waiting: Waiting<T>) -> Result<()> {
        let mut turns = self.turns();
        let turns = turns.as_mut().ok_or_else(|| Error::unavailable("the server is shutting down"))?;
        turns.push(waiting.call.business, waiting);
        self.arrival.notify_one();
        Ok(())
    }

    /// The next batch; the lane has ended if there is none and none is to come.
    fn next(&self, is_last: bool) -> Vec<Waiting<T>> {
        let mut turns = self.turns();
        let batch = turns.as_mut().map(|turns| turns.take(MAX_BATCH)).unwrap_or_default();
        if batch.is_empty() && is_last {
            *turns = None;
        }
        batch
    }

    async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&self.running).acquire_owned().await else { return };
            let is_last = stop.is_cancelled();
            let batch = self.next(is_last);
            if batch.is_empty() {
                if is_last {
                    return;
                }
                tokio::select! {
                    () = self.arrival.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            let lane = Arc::clone(&self);
            let batch = self.tasks.spawn(async move {
                lane.settle(batch).await;
                drop(place);
            });
            // It runs to its end all the same.
            let _ = timeout(BATCH_PATIENCE, batch).await;
        }
    }

    async fn settle(&self, batch: Vec<Waiting<T>>) {
        let batch = self.apart.take_known(batch);
        if batch.is_empty() {
            return;
        }
        self.outlet.metrics.batch(batch.len());
        let (calls, ends): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.end)).unzip();
        let tried = self.store.try_each(&calls).await;
        for ((call, end), tried) in calls.into_iter().zip(ends).zip(tried) {
            let waiting = Waiting { call, end };
            match tried {
                Tried::Answered(answer) => self.outlet.answer(waiting, Ok(answer)),
                Tried::Failed(fault) => self.outlet.answer(waiting, Err(fault)),
                Tried::Busy => self.apart.take(waiting),
            }
        }
    }
}

impl<T: Transition> Lane<T> {
    fn waiting(&self) -> usize {
        self.turns().as_ref().map_or(0, Turns::len)
    }

    fn turns(&self) -> MutexGuard<'_, Option<Turns<Waiting<T>>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where answers go.
#[derive(Debug, Clone)]
struct Outlet {
    notes: LockNotes,
    metrics: Metrics,
}

impl Outlet {
    /// Sends the answer of a call to its request, and notes the new state of a lock.
    fn answer<T: Transition>(&self, waiting: Waiting<T>, result: Result<Answer<T::Outcome>>) {
        let effect = result.as_ref().ok().and_then(Answer::effect);
        self.notes.leave(effect.and_then(|effect| T::lock_note(&waiting.call, effect)).into_iter());
        self.metrics.written(outcome_of(&result));
        // The request may have been dropped.
        let _ = waiting.end.answer.send(result);
    }
}

fn outcome_of<T>(outcome: &Result<Answer<T>>) -> Written {
    match outcome {
        Ok(Answer { replayed: true, .. }) => Written::Replayed,
        Ok(Answer { outcome: Ok(_), .. }) => Written::Done,
        Ok(Answer { outcome: Err(_), .. }) => Written::Refused,
        Err(_) => Written::Fault,
    }
}

#[cfg(test)]
mod tests;
