//! Lanes for hot writes: the requests that come in while a batch runs are the next batch. There is no timer, so an idle
//! lane adds no delay; under load the batches grow by themselves.
//!
//! A code always takes the same lane, so its calls follow each other instead of fighting for its row.

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use cuponera_core::error::{Error, Result};
use cuponera_core::store::{Answer, Call, Store, Transition};
use cuponera_core::telemetry::metrics::{Lane, Written};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lock_notes::LockNotes;

/// The most calls in one batch: past this a statement takes longer without doing more in a second.
const MAX_BATCH: usize = 64;
/// The most calls that wait in a lane; the next is told to come back. At 64 a batch, a second or so of work.
const MAX_WAITING: usize = 4_096;

struct Waiting<T: Transition> {
    call: Call<T>,
    answer: oneshot::Sender<Result<Answer<T::Outcome>>>,
}

/// The lanes of one kind of write.
pub(crate) struct Lanes<T: Transition> {
    senders: Vec<mpsc::Sender<Waiting<T>>>,
    counted: Lane,
    stop: CancellationToken,
}

impl<T: Transition> fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.senders.len()).finish_non_exhaustive()
    }
}

impl<T: Transition + 'static> Lanes<T> {
    /// Starts so many lanes, which are counted under this name.
    pub(crate) fn start(
        kind: &'static str,
        store: &Store,
        lanes: usize,
        notes: &LockNotes,
        tasks: &TaskTracker,
    ) -> Self {
        let (stop, lane) = (CancellationToken::new(), Lane::new(kind));
        let start_one = |_| {
            let (sender, receiver) = mpsc::channel(MAX_WAITING);
            tasks.spawn(run(store.clone(), receiver, notes.clone(), lane.clone(), stop.clone()));
            sender
        };
        Self {
            senders: (0..lanes.max(1)).map(start_one).collect(),
            counted: lane.clone(),
            stop: stop.clone(),
        }
    }

    /// Has the effect of a call, in whichever batch it comes to stand. `by` decides the lane: calls for the same row say
    /// the same. The effect does not depend on the caller's waiting for it.
    pub(crate) async fn settle(&self, by: &str, call: Call<T>) -> Result<Answer<T::Outcome>> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((call.business, by));
        let lane = &self.senders[usize::try_from(hash % self.senders.len() as u64).unwrap_or(0)];
        let (answer, wait) = oneshot::channel();
        lane.try_send(Waiting { call, answer })
            .map_err(|_| Error::unavailable("too many calls wait already"))?;
        wait.await.map_err(|_| Error::unavailable("the server is shutting down"))?
    }

    /// Says how many calls wait.
    pub(crate) fn show_waiting(&self) {
        let waiting = self.senders.iter().map(|lane| lane.max_capacity() - lane.capacity()).sum();
        self.counted.waiting(waiting);
    }

    /// Ends the lanes once what waits in them is done.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }
}

async fn run<T: Transition>(
    store: Store,
    mut receiver: mpsc::Receiver<Waiting<T>>,
    notes: LockNotes,
    lane: Lane,
    stop: CancellationToken,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            biased;
            _ = receiver.recv_many(&mut batch, MAX_BATCH) => {}
            () = stop.cancelled() => {}
        }
        if batch.is_empty() {
            return;
        }
        lane.batch(batch.len());
        let (calls, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.call, waiting.answer)).unzip();
        let outcomes = store.settle_each(&calls).await;
        notes.leave(
            calls
                .iter()
                .zip(&outcomes)
                .filter_map(|(call, outcome)| T::lock_note(call, outcome.as_ref().ok()?.effect()?)),
        );
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            lane.written(outcome_of(&outcome));
            // Whoever asked may be gone by now.
            let _ = answer.send(outcome);
        }
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
