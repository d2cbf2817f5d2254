//! Lanes for hot writes: calls that arrive while a batch runs form the next batch. There is no timer, so an idle lane adds no
//! delay, and batches grow with the load.
//!
//! A code is always in the same lane, so its calls run one after another instead of competing for its row. A lane serves its
//! businesses in turn.
//!
//! **Invariant.** A call that waits delays calls for other rows by at most a quarter of a second: a batch waits for no coupon
//! and only briefly for other rows (`store::batch`), a lane waits at most [`MAX_BATCH_WAIT`] for a batch, and a busy call leaves
//! the lane ([`busy`]).

mod busy;
mod fair_queue;

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuponera_platform::config::Shares as Settings;
use cuponera_platform::telemetry::metrics::{Lane as Metrics, Written};
use cuponera_store::{AttemptResult, Call, CallResult, Store, Transition};
use cuponera_store::{Error, Result};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::hot::lock_notes::LockNotes;
use crate::shares::{Claimant, Permit, Shares};

use busy::BusyCalls;
use fair_queue::FairQueue;

/// Maximum number of calls in a batch. Larger batches take longer without more throughput.
const MAX_BATCH: usize = 64;
/// Maximum number of calls of a lane without an answer, of which each caller has a share; the next call gets 503. In batches of
/// 64 this is about one second of work.
const MAX_WAITING: usize = 4_096;
/// How long a lane waits for a batch before it starts the next one concurrently.
const MAX_BATCH_WAIT: Duration = Duration::from_millis(150);
/// Maximum number of concurrent batches of a lane.
const MAX_RUNNING: usize = 3;

/// A call in a queue.
struct QueuedCall<T: Transition> {
    call: Call<T>,
    end: Responder<T>,
}

/// The receiver of a call's answer, and the permit that the call holds until then.
struct Responder<T: Transition> {
    since: Instant,
    answer: oneshot::Sender<Result<CallResult<T::Outcome>>>,
    _slot: Permit,
}

/// The lanes of one kind of write.
pub(crate) struct Lanes<T: Transition> {
    all: Vec<Arc<Lane<T>>>,
    busy: Arc<BusyCalls<T>>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl<T: Transition> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.all.len()).finish_non_exhaustive()
    }
}

impl<T: Transition + 'static> Lanes<T> {
    /// Starts `lanes` lanes. `kind` is their name in the metrics.
    pub(crate) fn start(
        kind: &'static str,
        store: &Store,
        lanes: usize,
        shares: &Settings,
        notes: &LockNotes,
        tasks: &TaskTracker,
    ) -> Self {
        let (stop, metrics) = (CancellationToken::new(), Metrics::new(kind));
        let sink = AnswerSink { notes: notes.clone(), metrics: metrics.clone() };
        let busy = BusyCalls::new(store.clone(), sink.clone(), tasks.clone());
        let start_one = |_| {
            let lane = Arc::new(Lane {
                store: store.clone(),
                sink: sink.clone(),
                busy: Arc::clone(&busy),
                slots: Shares::new("lanes", MAX_WAITING, shares),
                queue: Mutex::new(Some(FairQueue::new())),
                arrival: Notify::new(),
                running: Arc::new(Semaphore::new(MAX_RUNNING)),
                tasks: tasks.clone(),
            });
            tasks.spawn(Arc::clone(&lane).run(stop.clone()));
            lane
        };
        Self { all: (0..lanes.max(1)).map(start_one).collect(), busy, metrics, stop }
    }

    /// Executes a call in a batch. `by` selects the lane; it is the same for all calls for a row. The call is executed even
    /// if the returned future is dropped.
    pub(crate) async fn execute(
        &self,
        by: &str,
        claimant: &Claimant,
        call: Call<T>,
    ) -> Result<CallResult<T::Outcome>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((call.business, by));
        let lane = &self.all[usize::try_from(hash % self.all.len() as u64).unwrap_or(0)];
        let (answer, wait) = oneshot::channel();
        let slot = lane.slots.take(claimant);
        let slot = slot.map_err(|_| Error::unavailable("too many calls wait already"))?;
        lane.push(QueuedCall { call, end: Responder { since: Instant::now(), answer, _slot: slot } })?;
        wait.await.map_err(|_| Error::unavailable("the server is shutting down"))?
    }

    /// Updates the metrics of waiting calls.
    pub(crate) fn show_waiting(&self) {
        let in_lanes: usize = self.all.iter().map(|lane| lane.waiting()).sum();
        self.metrics.waiting(in_lanes + self.busy.len());
    }

    /// The number of calls without an answer.
    pub(crate) fn open_calls(&self) -> usize {
        self.all.iter().map(|lane| lane.slots.in_use()).sum()
    }

    /// Stops the lanes after their waiting calls are executed.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

/// One lane.
struct Lane<T: Transition> {
    store: Store,
    sink: AnswerSink,
    busy: Arc<BusyCalls<T>>,
    /// Permits of calls without an answer.
    slots: Shares,
    /// None after the lane has ended.
    queue: Mutex<Option<FairQueue<QueuedCall<T>>>>,
    arrival: Notify,
    /// Permits of running batches.
    running: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl<T: Transition + 'static> Lane<T> {
    fn push(&self, waiting: QueuedCall<T>) -> Result<()> {
        let mut queue = self.queue();
        let queue = queue.as_mut().ok_or_else(|| Error::unavailable("the server is shutting down"))?;
        queue.push(waiting.call.business, waiting);
        self.arrival.notify_one();
        Ok(())
    }

    /// The next batch. If it is empty and `is_last` is set, the lane ends.
    fn next(&self, is_last: bool) -> Vec<QueuedCall<T>> {
        let mut queue = self.queue();
        let batch = queue.as_mut().map(|queue| queue.take(MAX_BATCH)).unwrap_or_default();
        if batch.is_empty() && is_last {
            *queue = None;
        }
        batch
    }

    async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            // The semaphore is never closed.
            let Ok(slot) = Arc::clone(&self.running).acquire_owned().await else { return };
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
                lane.run_batch(batch).await;
                drop(slot);
            });
            // After the time-out the batch continues to run.
            let _ = timeout(MAX_BATCH_WAIT, batch).await;
        }
    }

    async fn run_batch(&self, batch: Vec<QueuedCall<T>>) {
        let batch = self.busy.take_calls_of_busy_rows(batch);
        if batch.is_empty() {
            return;
        }
        self.sink.metrics.batch(batch.len());
        let (calls, ends): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.end)).unzip();
        let tried = self.store.try_each(&calls).await;
        for ((call, end), tried) in calls.into_iter().zip(ends).zip(tried) {
            let waiting = QueuedCall { call, end };
            match tried {
                AttemptResult::Answered(answer) => self.sink.answer(waiting, Ok(answer)),
                AttemptResult::Failed(fault) => self.sink.answer(waiting, Err(fault)),
                AttemptResult::Busy => self.busy.take(waiting),
            }
        }
    }
}

impl<T: Transition> Lane<T> {
    fn waiting(&self) -> usize {
        self.queue().as_ref().map_or(0, FairQueue::len)
    }

    fn queue(&self) -> MutexGuard<'_, Option<FairQueue<QueuedCall<T>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Delivers answers.
#[derive(Debug, Clone)]
struct AnswerSink {
    notes: LockNotes,
    metrics: Metrics,
}

impl AnswerSink {
    /// Sends the answer of a call to its request, and queues a note about its lock.
    fn answer<T: Transition>(&self, waiting: QueuedCall<T>, result: Result<CallResult<T::Outcome>>) {
        let effect = result.as_ref().ok().and_then(CallResult::effect);
        self.notes.leave(effect.and_then(|effect| T::lock_note(&waiting.call, effect)).into_iter());
        self.metrics.written(outcome_of(&result));
        // The request may have been dropped.
        let _ = waiting.end.answer.send(result);
    }
}

fn outcome_of<T>(outcome: &Result<CallResult<T>>) -> Written {
    match outcome {
        Ok(CallResult { replayed: true, .. }) => Written::Replayed,
        Ok(CallResult { outcome: Ok(_), .. }) => Written::Done,
        Ok(CallResult { outcome: Err(_), .. }) => Written::Rejected,
        Err(_) => Written::Fault,
    }
}

#[cfg(test)]
mod tests;
