//! Calls that met a row that another transaction holds. They leave their lane and wait by themselves: calls for the same row
//! in one queue, which one task attempts in order.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cuponera_core::error::Error;
use cuponera_core::id::BusinessId;
use cuponera_core::store::{PATIENCE, Store, Transition};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Outlet, Waiting};

/// What calls that may hold each other up have in common; see [`Transition::row`].
type Row = (BusinessId, String);

/// The queues of one kind of write.
pub(super) struct Apart<T: Transition> {
    store: Store,
    outlet: Outlet,
    tasks: TaskTracker,
    /// One that is here has a task.
    rows: Mutex<HashMap<Row, VecDeque<Waiting<T>>>>,
}

impl<T: Transition> fmt::Debug for Apart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apart").field("rows", &self.rows().len()).finish_non_exhaustive()
    }
}

impl<T: Transition + 'static> Apart<T> {
    pub(super) fn new(store: Store, outlet: Outlet, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self { store, outlet, tasks, rows: Mutex::default() })
    }

    /// Takes those calls of a batch whose row has a queue already: their order stays, and the batch does not meet the row again.
    pub(super) fn take_known(&self, batch: Vec<Waiting<T>>) -> Vec<Waiting<T>> {
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

    /// Takes a call that was busy.
    pub(super) fn take(self: &Arc<Self>, waiting: Waiting<T>) {
        let row = row(&waiting);
        let mut rows = self.rows();
        let is_new = !rows.contains_key(&row);
        rows.entry(row.clone()).or_default().push_back(waiting);
        drop(rows);
        if is_new {
            let apart = Arc::clone(self);
            self.tasks.spawn(async move { apart.work_off(row).await });
        }
    }

    /// Attempts the calls of a row one after the other until there are none. If one waited in vain, so did those that came
    /// before its time was over.
    async fn work_off(&self, row: Row) {
        let mut given_up = None;
        while let Some(waiting) = self.next(&row) {
            let result = if given_up.is_some_and(|at| waiting.end.since + PATIENCE <= at) {
                Err(Error::Busy)
            } else {
                self.store.settle_alone(&waiting.call, waiting.end.since + PATIENCE).await
            };
            if matches!(result, Err(Error::Busy)) {
                given_up = Some(Instant::now());
            }
            self.outlet.answer(waiting, result);
        }
    }

    /// The next call of a row; its queue goes with the last.
    fn next(&self, row: &Row) -> Option<Waiting<T>> {
        let mut rows = self.rows();
        let next = rows.get_mut(row)?.pop_front();
        if next.is_none() {
            rows.remove(row);
        }
        next
    }
}

impl<T: Transition> Apart<T> {
    pub(super) fn len(&self) -> usize {
        self.rows().values().map(VecDeque::len).sum()
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Row, VecDeque<Waiting<T>>>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn row<T: Transition>(waiting: &Waiting<T>) -> Row {
    (waiting.call.business, waiting.call.ask.row().to_owned())
}
