//! Busy calls: another transaction holds their row. They leave their lane. The calls for one row wait in one queue, and one
//! task executes them in order.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_domain::id::BusinessId;
use cuponera_store::Error;
use cuponera_store::{Store, TIMEOUT, Transition};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{AnswerSink, MAX_BATCH, QueuedCall};

/// The row that calls compete for; see [`Transition::row`].
type Row = (BusinessId, String);

/// The queues of one kind of write.
pub(super) struct BusyCalls<T: Transition> {
    store: Store,
    sink: AnswerSink,
    tasks: TaskTracker,
    /// Each entry has a task.
    rows: Mutex<HashMap<Row, VecDeque<QueuedCall<T>>>>,
}

impl<T: Transition> fmt::Debug for BusyCalls<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusyCalls").field("rows", &self.rows().len()).finish_non_exhaustive()
    }
}

impl<T: Transition + 'static> BusyCalls<T> {
    pub(super) fn new(store: Store, sink: AnswerSink, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { store, sink, tasks, rows: Mutex::default() })
    }

    /// Removes the calls of rows that have a queue from a batch and appends them to these queues. So their order is kept, and the
    /// batch does not wait for these rows.
    pub(super) fn take_calls_of_busy_rows(&self, batch: Vec<QueuedCall<T>>) -> Vec<QueuedCall<T>> {
        let mut rows = self.rows();
        if rows.is_empty() {
            return batch;
        }
        let mut others = Vec::with_capacity(batch.len());
        for waiting in batch {
            match rows.get_mut(&row(&waiting)) {
                Some(queue) => queue.push_back(waiting),
                None => others.push(waiting),
            }
        }
        others
    }

    /// Adds a busy call.
    pub(super) fn take(self: &Arc<Self>, waiting: QueuedCall<T>) {
        let row = row(&waiting);
        let mut rows = self.rows();
        let is_new = !rows.contains_key(&row);
        rows.entry(row.clone()).or_default().push_back(waiting);
        drop(rows);
        if is_new {
            let busy = Arc::clone(self);
            self.tasks.spawn(async move { busy.run_row(row).await });
        }
    }

    /// Executes the calls of a row one after another until none is left. If one timed out, all calls whose time had also passed
    /// by then fail without another attempt.
    ///
    /// The calls for a SHARED code form batches here too. One by one, more calls would join the queue than are executed, and the code would
    /// never return to its lane.
    async fn run_row(&self, row: Row) {
        let mut given_up = None;
        while let Some(waiting) = self.next(&row) {
            if given_up.is_some_and(|at| waiting.end.since + TIMEOUT <= at) {
                self.sink.answer(waiting, Err(Error::Busy));
                continue;
            }
            let mut batch = vec![waiting];
            while batch.len() < MAX_BATCH
                && self.store.is_for_shared_code(&batch[0].call)
                && let Some(waiting) = self.next_of_batch(&row)
            {
                batch.push(waiting);
            }
            let deadlines: Vec<Instant> = batch.iter().map(|waiting| waiting.end.since + TIMEOUT).collect();
            let (calls, ends): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.call, waiting.end)).unzip();
            let results = self.store.run_together(&calls, &deadlines).await;
            for ((call, end), result) in calls.into_iter().zip(ends).zip(results) {
                if matches!(result, Err(Error::Busy)) {
                    given_up = Some(Instant::now());
                }
                self.sink.answer(QueuedCall { call, end }, result);
            }
        }
    }

    /// A further call of a row. Keeps the queue if it is empty.
    fn next_of_batch(&self, row: &Row) -> Option<QueuedCall<T>> {
        self.rows().get_mut(row)?.pop_front()
    }

    /// The next call of a row. Removes the queue if it is empty.
    fn next(&self, row: &Row) -> Option<QueuedCall<T>> {
        let mut rows = self.rows();
        let next = rows.get_mut(row)?.pop_front();
        if next.is_none() {
            rows.remove(row);
        }
        next
    }
}

impl<T: Transition> BusyCalls<T> {
    pub(super) fn len(&self) -> usize {
        self.rows().values().map(VecDeque::len).sum()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Row, VecDeque<QueuedCall<T>>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row<T: Transition>(waiting: &QueuedCall<T>) -> Row {
    (waiting.call.business, waiting.call.ask.row().to_owned())
}
