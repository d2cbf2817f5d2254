//! Streams of events: one poller reads the event log for all streams of this process, so a stream holds no database connection.
//!
//! **Invariant I-61.** A follower gets each committed event of its filter after its first position once, in the order of the log. A batch
//! of the poller names the position that it follows. A follower whose own position is before it reads the events in between itself; one
//! whose position is behind it skips them. So a follower that is slow, or that resumes at an earlier position, misses nothing.
//!
//! The log keeps all events that are not archived, so a follower may resume at any position after those; before them it is rejected, and a
//! stream that still reads them ends. Followers that read the log take turns: each turn is one page, and
//! at most [`MAX_READERS`] followers of this process have a turn.

pub(crate) mod stream;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuponera_domain::id::BusinessId;
use cuponera_domain::rejection::Rejection;
use cuponera_platform::telemetry::metrics;
use cuponera_store::{EventCursor, EventFilter, LoggedEvent, Result, Store};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::warn;

use crate::shares::Permit;

/// The interval of readings of the log.
const PERIOD: Duration = Duration::from_millis(250);
/// Maximum number of events in a batch of the poller, and in a reading of a follower.
const MAX_BATCH: usize = 500;
/// Maximum number of batches that are kept for slow followers: 8,000 events, about 5 MB. Followers that are slower read the log.
const MAX_BATCHES: usize = 16;
/// Maximum number of followers that read the log at the same time.
const MAX_READERS: usize = 2;
/// The interval at which a stream without events sends its position, also while it waits for its turn to read the log.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// All followers of this process.
#[derive(Debug)]
pub(crate) struct Followers(Arc<Shared>);

/// State shared by the followers and the poller.
#[derive(Debug)]
struct Shared {
    store: Store,
    tasks: TaskTracker,
    stop: CancellationToken,
    readers: Semaphore,
    heartbeat: Duration,
    hub: Mutex<Hub>,
}

#[derive(Debug)]
struct Hub {
    /// All events up to this position were sent to the followers.
    position: EventCursor,
    batches: broadcast::Sender<Arc<Batch>>,
    poller: Option<JoinHandle<()>>,
}

/// The committed events after a position, up to another one.
#[derive(Debug)]
struct Batch {
    after: EventCursor,
    last: EventCursor,
    events: Vec<LoggedEvent>,
}

/// A subscription to the events of a business.
#[derive(Debug)]
pub(crate) struct Follower {
    shared: Arc<Shared>,
    business: BusinessId,
    filter: EventFilter,
    /// All events up to this position were returned or are in `pending`.
    position: EventCursor,
    /// The last event that was returned.
    last: EventCursor,
    /// The follower has to read the log up to this position itself.
    target: EventCursor,
    /// The running reading of the log. It is a task, because a stream whose client does not read is not polled: it would keep its turn.
    reading: Option<AbortOnDropHandle<Option<Vec<LoggedEvent>>>>,
    pending: VecDeque<LoggedEvent>,
    batches: broadcast::Receiver<Arc<Batch>>,
    heartbeats: Interval,
    is_new: bool,
    _slot: Permit,
}

/// What a follower sends to its client.
#[derive(Debug)]
pub(crate) enum Followed {
    /// An event.
    Event(Box<LoggedEvent>),
    /// All events of the filter up to this position were sent.
    Position(EventCursor),
}

impl Followers {
    pub(crate) fn new(store: Store, tasks: TaskTracker) -> Self {
        Self::with_heartbeat(store, tasks, HEARTBEAT)
    }

    fn with_heartbeat(store: Store, tasks: TaskTracker, heartbeat: Duration) -> Self {
        metrics::followers(0);
        for reader in ["poller", "follower"] {
            metrics::events_read(reader, 0);
        }
        let hub = Hub {
            position: EventCursor::default(),
            batches: broadcast::Sender::new(MAX_BATCHES),
            poller: None,
        };
        Self(Arc::new(Shared {
            store,
            tasks,
            stop: CancellationToken::new(),
            readers: Semaphore::new(MAX_READERS),
            heartbeat,
            hub: Mutex::new(hub),
        }))
    }

    /// Follows the events of a business after a position; without one, those that are committed from now on.
    pub(crate) async fn follow(
        &self,
        slot: Permit,
        business: BusinessId,
        filter: EventFilter,
        after: Option<EventCursor>,
    ) -> Result<Follower> {
        self.0.store.must_have_event_index().await?;
        let end = self.0.store.event_log_end().await?;
        if after.is_some_and(|after| after > end.last) {
            return Err(
                Rejection::invalid("Last-Event-ID", "must be the id of an event of this stream").into()
            );
        }
        if let Some(after) = after
            && let Some(month) = self.0.store.find_archive_after(after).await?
        {
            return Err(Rejection::EventsArchived { month: month.to_string() }.into());
        }
        let (batches, target) = self.0.join(end.committed);
        let mut heartbeats = interval(self.0.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeats.reset();
        Ok(Follower {
            shared: self.0.clone(),
            business,
            filter,
            position: after.unwrap_or(end.committed),
            last: after.unwrap_or(end.committed),
            target,
            reading: None,
            pending: VecDeque::new(),
            batches,
            heartbeats,
            is_new: true,
            _slot: slot,
        })
    }

    /// Ends all streams.
    pub(crate) fn stop(&self) {
        self.0.stop.cancel();
    }

    /// Updates the metrics of followers.
    pub(crate) fn show(&self) {
        metrics::followers(self.0.hub().batches.receiver_count());
    }

    /// Whether the poller runs.
    pub(crate) fn is_polling(&self) -> bool {
        self.0.hub().is_polled()
    }
}

impl Shared {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to the batches, and returns the position that they follow. Starts the poller at `end` if necessary.
    fn join(self: &Arc<Self>, end: EventCursor) -> (broadcast::Receiver<Arc<Batch>>, EventCursor) {
        let mut hub = self.hub();
        let batches = hub.batches.subscribe();
        if !hub.is_polled() {
            hub.position = end;
            hub.poller = Some(self.tasks.spawn(poll(self.clone())));
        }
        (batches, hub.position)
    }

    /// The position to read on from. None if there are no followers; then the poller is unregistered under the same lock.
    fn position_to_poll(&self) -> Option<EventCursor> {
        let mut hub = self.hub();
        if hub.batches.receiver_count() == 0 {
            hub.poller = None;
            return None;
        }
        Some(hub.position)
    }

    /// Sends the events after a position to the followers.
    fn publish(&self, after: EventCursor, last: EventCursor, events: Vec<LoggedEvent>) {
        let mut hub = self.hub();
        hub.position = last;
        // It fails only if there are no receivers.
        let _ = hub.batches.send(Arc::new(Batch { after, last, events }));
    }
}

impl Hub {
    fn is_polled(&self) -> bool {
        self.poller.as_ref().is_some_and(|poller| !poller.is_finished())
    }
}

/// Reads the log until there are no followers or the process stops.
async fn poll(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let polling = async {
        while let Some(after) = shared.position_to_poll() {
            match shared.store.events_after(after, i64::try_from(MAX_BATCH).unwrap_or(i64::MAX)).await {
                Ok(events) => {
                    let is_whole = events.len() == MAX_BATCH;
                    metrics::events_read("poller", events.len());
                    if let Some(last) = events.last().map(|event| event.cursor) {
                        shared.publish(after, last, events);
                    }
                    if is_whole {
                        continue;
                    }
                }
                Err(error) => warn!(error = error.chain(), "cannot read the event log"),
            }
            sleep(PERIOD).await;
        }
    };
    stop.run_until_cancelled(polling).await;
}

impl Follower {
    /// What to send next. None if the process stops.
    pub(crate) async fn next(&mut self) -> Option<Followed> {
        if std::mem::take(&mut self.is_new) {
            return Some(self.heartbeat());
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                self.last = event.cursor;
                return Some(Followed::Event(Box::new(event)));
            }
            if self.shared.stop.is_cancelled() {
                return None;
            }
            if self.position < self.target {
                let begin = || {
                    AbortOnDropHandle::new(self.shared.tasks.spawn(read(self.shared.clone(), self.position)))
                };
                tokio::select! {
                    events = self.reading.get_or_insert_with(begin) => self.take_read(events.ok().flatten()?),
                    _ = self.heartbeats.tick() => {}
                }
                if self.pending.is_empty() {
                    return Some(self.heartbeat());
                }
                continue;
            }
            tokio::select! {
                batch = self.batches.recv() => match batch {
                    Ok(batch) => self.take(&batch),
                    // Batches were dropped: read the log up to the last batch.
                    Err(RecvError::Lagged(_)) => self.target = self.shared.hub().position,
                    Err(RecvError::Closed) => return None,
                },
                _ = self.heartbeats.tick() => return Some(self.heartbeat()),
                () = self.shared.stop.cancelled() => return None,
            }
        }
    }

    /// The position to resume at. It does not contain the id of an event of another business: it is the last event that was returned, or
    /// before the transaction of the position, of which none was returned.
    fn heartbeat(&self) -> Followed {
        Followed::Position(self.last.max(EventCursor::before(self.position.epoch, self.position.tx)))
    }

    /// Takes the events of a batch that are after the own position.
    fn take(&mut self, batch: &Batch) {
        if batch.after > self.position {
            self.target = self.target.max(batch.last);
            return;
        }
        let is_next = |event: &&LoggedEvent| event.cursor > self.position && self.is_followed(event);
        let events: Vec<_> = batch.events.iter().filter(is_next).cloned().collect();
        self.pending.extend(events);
        self.position = self.position.max(batch.last);
    }

    /// Takes the events that a reading after the own position has returned.
    fn take_read(&mut self, events: Vec<LoggedEvent>) {
        self.reading = None;
        metrics::events_read("follower", events.len());
        let last = events.last().map_or(self.target, |event| event.cursor);
        // A short page has all events that are committed, and those up to the target are.
        self.position = if events.len() < MAX_BATCH { last.max(self.target) } else { last };
        let events: Vec<_> = events.into_iter().filter(|event| self.is_followed(event)).collect();
        self.pending.extend(events);
    }

    fn is_followed(&self, event: &LoggedEvent) -> bool {
        event.business == self.business && self.filter.matches(event)
    }
}

/// The events of a page, if none after its position are archived. Asked after the page was read: a month may be archived at any moment.
async fn complete(
    store: &Store,
    after: EventCursor,
    page: Result<Vec<LoggedEvent>>,
) -> Result<Option<Vec<LoggedEvent>>> {
    let events = page?;
    Ok(store.find_archive_after(after).await?.is_none().then_some(events))
}

/// The next events after a position. None if the process stops, or if events after the position are archived: the client resumes, and is
/// rejected. The turn ends with each attempt, so during an outage other followers get
/// theirs.
async fn read(shared: Arc<Shared>, after: EventCursor) -> Option<Vec<LoggedEvent>> {
    let reading = async {
        loop {
            let turn = shared.readers.acquire().await.ok()?;
            let read = shared.store.events_after(after, i64::try_from(MAX_BATCH).unwrap_or(i64::MAX)).await;
            drop(turn);
            match complete(&shared.store, after, read).await {
                Ok(events) => return events,
                Err(error) => warn!(error = error.chain(), "cannot read the event log"),
            }
            sleep(PERIOD).await;
        }
    };
    shared.stop.run_until_cancelled(reading).await?
}
