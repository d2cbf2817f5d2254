//! Watches jobs: requests that wait for the end of a job, and event streams. One poller reads all watched jobs, so a watcher
//! holds no database connection.
//!
//! **Invariants.** A process has at most one poller, which runs only while there are watchers and reads all watched jobs in one
//! statement. An earlier reading never replaces a later one. A job that has ended is no longer polled. Dropping a watcher frees
//! its resources. No caller and no business can use all slots.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::Job;
use cuponera_platform::config::Shares as Settings;
use cuponera_store::Result;
use futures::{Stream, stream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::jobs::progress::Progress;
use crate::shares::{Claimant, Full, Permit, Shares};

/// The interval of readings: a watcher gets at most four updates a second.
const PERIOD: Duration = Duration::from_millis(250);

/// All watchers of this process.
#[derive(Debug)]
pub(crate) struct Watches {
    shared: Arc<Shared>,
    streams: Shares,
    waits: Shares,
}

/// State shared by watchers and the poller.
#[derive(Debug)]
struct Shared {
    progress: Progress,
    tasks: TaskTracker,
    stop: CancellationToken,
    watched: Mutex<WatchedJobs>,
}

/// The watched jobs, with their last readings.
#[derive(Debug, Default)]
struct WatchedJobs {
    jobs: HashMap<JobId, watch::Sender<Job>>,
    poller: Option<JoinHandle<()>>,
}

/// A watcher of a job.
#[derive(Debug)]
pub(crate) struct Watched {
    job: watch::Receiver<Job>,
    stop: CancellationToken,
    _slot: Permit,
}

/// The number of watchers in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watching {
    /// Open event streams.
    pub streams: usize,
    /// Requests that wait for the end of a job.
    pub waits: usize,
    /// Polled jobs.
    pub jobs: usize,
    /// Whether the poller runs.
    pub is_polling: bool,
}

impl Watches {
    pub(crate) fn new(progress: Progress, tasks: TaskTracker, settings: &Settings) -> Self {
        let shared = Shared { progress, tasks, stop: CancellationToken::new(), watched: Mutex::default() };
        Self {
            shared: Arc::new(shared),
            streams: Shares::new("streams", settings.max_streams as usize, settings),
            waits: Shares::new("waits", settings.max_waits as usize, settings),
        }
    }

    /// A permit for an event stream.
    pub(crate) fn stream_slot(&self, caller: &Claimant) -> std::result::Result<Permit, Full> {
        self.streams.take(caller)
    }

    /// A permit for a waiting request.
    pub(crate) fn wait_slot(&self, caller: &Claimant) -> std::result::Result<Permit, Full> {
        self.waits.take(caller)
    }

    /// Watches a job, if it belongs to the business.
    pub(crate) async fn watch(&self, slot: Permit, business: BusinessId, id: JobId) -> Result<Watched> {
        let job = self.shared.progress.get(business, id).await?;
        Ok(Watched { job: self.shared.join(job), stop: self.shared.stop.clone(), _slot: slot })
    }

    /// Ends all watchers, with their last readings.
    pub(crate) fn stop(&self) {
        self.shared.stop.cancel();
    }

    /// Updates the metrics of watchers.
    pub(crate) fn show(&self) {
        self.streams.show();
        self.waits.show();
    }

    pub(crate) fn watching(&self) -> Watching {
        let watched = self.shared.lock();
        Watching {
            streams: self.streams.in_use(),
            waits: self.waits.in_use(),
            jobs: watched.jobs.len(),
            is_polling: watched.is_polled(),
        }
    }
}

impl Watched {
    /// Waits for the end of the job, at most for `patience` or until the process stops. Returns the last reading.
    pub(crate) async fn end(mut self, patience: Duration) -> Job {
        tokio::select! {
            // An error means that the job was deleted: it will not change either.
            _ = self.job.wait_for(|job| job.status.is_over()) => {}
            () = self.stop.cancelled() => {}
            () = sleep(patience) => {}
        }
        self.job.borrow().clone()
    }

    /// The job immediately, then after each change; the last item is the ended job. Ends early if the process stops.
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

    /// Waits for the next change. False if there will be none.
    async fn changes(&mut self) -> bool {
        tokio::select! {
            changed = self.job.changed() => changed.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, WatchedJobs> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to a job, beginning with this reading, and starts the poller if necessary. An ended job is not polled.
    fn join(self: &Arc<Self>, job: Job) -> watch::Receiver<Job> {
        if job.status.is_over() {
            return watch::channel(job).1;
        }
        let mut watched = self.lock();
        let sender = watched.jobs.entry(job.id).or_insert_with(|| watch::Sender::new(job.clone()));
        publish_if_later(sender, job);
        let receiver = sender.subscribe();
        if !watched.is_polled() {
            watched.poller = Some(self.tasks.spawn(poll(self.clone())));
        }
        receiver
    }

    /// The jobs with watchers. If there are none, unregisters the poller under the same lock.
    fn jobs_to_poll(&self) -> Vec<(BusinessId, JobId)> {
        let mut watched = self.lock();
        watched.jobs.retain(|_, sender| sender.receiver_count() > 0);
        if watched.jobs.is_empty() {
            watched.poller = None;
        }
        watched.jobs.iter().map(|(id, sender)| (sender.borrow().business, *id)).collect()
    }

    /// Publishes readings to the watchers. Ended and deleted jobs are no longer polled.
    fn publish(&self, asked: &[(BusinessId, JobId)], read: Vec<Job>) {
        let mut read: HashMap<JobId, Job> = read.into_iter().map(|job| (job.id, job)).collect();
        let mut watched = self.lock();
        for (_, id) in asked {
            let Some(sender) = watched.jobs.get(id) else { continue };
            let is_done = match read.remove(id) {
                Some(job) => {
                    publish_if_later(sender, job);
                    sender.borrow().status.is_over()
                }
                None => true,
            };
            if is_done {
                watched.jobs.remove(id);
            }
        }
    }
}

impl WatchedJobs {
    fn is_polled(&self) -> bool {
        self.poller.as_ref().is_some_and(|poller| !poller.is_finished())
    }
}

/// Stores a reading unless a later one is stored. Notifies the watchers if more than its time differs. The stage is compared
/// before the time, because a reading from Redis keeps the time at which it was taken.
fn publish_if_later(sender: &watch::Sender<Job>, job: Job) {
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

/// Reads the watched jobs until there are no watchers or the process stops.
async fn poll(shared: Arc<Shared>) {
    let stop = shared.stop.clone();
    let polling = async {
        loop {
            sleep(PERIOD).await;
            let asked = shared.jobs_to_poll();
            if asked.is_empty() {
                return;
            }
            match shared.progress.watched(&asked).await {
                Ok(read) => shared.publish(&asked, read),
                Err(error) => warn!(error = error.chain(), "cannot read the watched jobs"),
            }
        }
    };
    stop.run_until_cancelled(polling).await;
}

#[cfg(test)]
mod tests;
