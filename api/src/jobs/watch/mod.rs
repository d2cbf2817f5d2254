//! Watching jobs: whoever waits for the end of a job or follows its progress is told by one poller, and holds no connection
//! to the database meanwhile.
//!
//! **Invariants.** A process has one poller, and only while somebody watches: it reads all watched jobs in one statement. An
//! earlier reading never replaces a later one. A job that is over is polled no more. What a watcher holds goes with it. No
//! caller and no business has all slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuponera_core::config::Shares as Settings;
use cuponera_core::error::Result;
use cuponera_core::id::{BusinessId, JobId};
use cuponera_core::job::Job;
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::jobs::progress::Progress;
use crate::shares::{Claimant, Full, Held, Shares};

/// How long after a reading the next one comes: a watcher hears of a job at most four times a second.
const PERIOD: Duration = Duration::from_millis(250);
/// All watching in this process.
#[derive(Debug)]
pub(crate) struct Watches {
    desk: Arc<Desk>,
    streams: Shares,
    waits: Shares,
}

/// What watchers and the poller share.
#[derive(Debug)]
struct Desk {
    progress: Progress,
    tasks: TaskTracker,
    stop: CancellationToken,
    board: Mutex<Board>,
}

/// The jobs that are watched, as they were last read.
#[derive(Debug, Default)]
struct Board {
    jobs: HashMap<JobId, watch::Sender<Job>>,
    poller: Option<JoinHandle<()>>,
}

/// A job under somebody's eyes.
#[derive(Debug)]
pub(crate) struct Watched {
    job: watch::Receiver<Job>,
    stop: CancellationToken,
    _slot: Held,
}

/// How much watching goes on in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// Streams of events that are open.
    pub streams: usize,
    /// Requests that wait for the end of a job.
    pub waits: usize,
    /// Jobs that are polled.
    pub jobs: usize,
    /// Whether there is a poller.
    pub is_polling: bool,
}

impl Watches {
    pub(crate) fn new(progress: Progress, tasks: TaskTracker, settings: &Settings) -> Self {
        let desk = Desk { progress, tasks, stop: CancellationToken::new(), board: Mutex::default() };
        Self {
            desk: Arc::new(desk),
            streams: Shares::new("streams", settings.max_streams as usize, settings),
            waits: Shares::new("waits", settings.max_waits as usize, settings),
        }
    }

    /// A slot for a stream of events.
    pub(crate) fn slot_to_follow(&self, caller: &Claimant) -> std::result::Result<Held, Full> {
        self.streams.take(caller)
    }

    /// A slot for a request that waits.
    pub(crate) fn slot_to_wait(&self, caller: &Claimant) -> std::result::Result<Held, Full> {
        self.waits.take(caller)
    }

    /// Keeps an eye on a job, if it is the business's.
    pub(crate) async fn watch(&self, slot: Held, business: BusinessId, id: JobId) -> Result<Watched> {
        let job = self.desk.progress.get(business, id).await?;
        Ok(Watched { job: self.desk.join(job), stop: self.desk.stop.clone(), _slot: slot })
    }

    /// Sends all watchers away, with what they know by now.
    pub(crate) fn stop(&self) {
        self.desk.stop.cancel();
    }

    /// Shows in the metrics how many watch.
    pub(crate) fn show(&self) {
        self.streams.show();
        self.waits.show();
    }

    pub(crate) fn watching(&self) -> Watching {
        let board = self.desk.board();
        Watching {
            streams: self.streams.in_use(),
            waits: self.waits.in_use(),
            jobs: board.jobs.len(),
            is_polling: board.is_polled(),
        }
    }
}

impl Watched {
    /// The job once it is over; as it stands if that takes longer than `patience`, or the process ends.
    pub(crate) async fn end(mut self, patience: Duration) -> Job {
        tokio::select! {
            // An error says that the job is gone: it will not change any more either.
            _ = self.job.wait_for(|job| job.status.is_over()) => {}
            () = self.stop.cancelled() => {}
            () = sleep(patience) => {}
        }
        self.job.borrow().clone()
    }

    /// The job at once, then whenever it has changed, and last when it is over; it ends early if the process does.
    pub(crate) fn events(self) -> impl Stream<Item = Job> + Send + 'static {
        stream::unfold((self, None::<Job>), |(mut watched, before)| async move {
            if let Some(before) = before
                && (before.status.is_over() || !watched.changes().await)
            {
                return None;
            }
            let job = watched.job.borrow_and_update().clone();
            Some((job.clone(), (watched, Some(job))))
        })
    }

    /// Waits for the next change; `false` if there will be none.
    async fn changes(&mut self) -> bool {
        tokio::select! {
            changed = self.job.changed() => changed.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

impl Desk {
    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a job from this reading on, and sees to it that there is a poller. One that is over needs none.
    fn join(self: &Arc<Self>, job: Job) -> watch::Receiver<Job> {
        if job.status.is_over() {
            return watch::channel(job).1;
        }
        let mut board = self.board();
        let sender = board.jobs.entry(job.id).or_insert_with(|| watch::Sender::new(job.clone()));
        offer(sender, job);
        let receiver = sender.subscribe();
        if !board.is_polled() {
            board.poller = Some(self.tasks.spawn(poll(self.clone())));
        }
        receiver
    }

    /// The jobs that somebody watches. If there are none the poller is dismissed in the same moment.
    fn watched(&self) -> Vec<(BusinessId, JobId)> {
        let mut board = self.board();
        board.jobs.retain(|_, sender| sender.receiver_count() > 0);
        if board.jobs.is_empty() {
            board.poller = None;
        }
        board.jobs.iter().map(|(id, sender)| (sender.borrow().business, *id)).collect()
    }

    /// Tells the watchers of the jobs that were asked for. One that is over, or gone, is not asked for again.
    fn publish(&self, asked: &[(BusinessId, JobId)], read: Vec<Job>) {
        let mut read: HashMap<JobId, Job> = read.into_iter().map(|job| (job.id, job)).collect();
        let mut board = self.board();
        for (_, id) in asked {
            let Some(sender) = board.jobs.get(id) else { continue };
            let is_done = match read.remove(id) {
                Some(job) => {
                    offer(sender, job);
                    sender.borrow().status.is_over()
                }
                None => true,
            };
            if is_done {
                board.jobs.remove(id);
            }
        }
    }
}

impl Board {
    fn is_polled(&self) -> bool {
        self.poller.as_ref().is_some_and(|poller| !poller.is_finished())
    }
}

/// Takes a reading over unless a later one is there; wakes the watchers if it differs in more than its time. Which is later
/// is told by the stage first: a reading from Redis keeps the time at which it was made.
fn offer(sender: &watch::Sender<Job>, job: Job) {
    sender.send_if_modified(|known| {
        if (job.stage(), job.read_at) <= (known.stage(), known.read_at) {
            return false;
        }
        known.read_at = job.read_at;
        let differs = *known != job;
        *known = job;
        differs
    });
}

/// Reads what is watched until nobody watches any more, or the process ends.
async fn poll(desk: Arc<Desk>) {
    let stop = desk.stop.clone();
    let polling = async {
        loop {
            sleep(PERIOD).await;
            let asked = desk.watched();
            if asked.is_empty() {
                return;
            }
            match desk.progress.watched(&asked).await {
                Ok(read) => desk.publish(&asked, read),
                Err(error) => warn!(error = error.chain(), "the jobs that are watched could not be read"),
            }
        }
    };
    stop.run_until_cancelled(polling).await;
}

#[cfg(test)]
mod tests;
