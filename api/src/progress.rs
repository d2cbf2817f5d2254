//! How far jobs have come: from Redis where it knows, else from Postgres, and then Redis knows too.
//!
//! **Invariant.** What this process has told of a job is never followed by something earlier from Redis.

use std::time::{Duration, Instant};

use cuponera_core::cache::{BELIEVED, Cache};
use cuponera_core::error::Result;
use cuponera_core::id::{BusinessId, JobId};
use cuponera_core::job::{Job, Stage};
use cuponera_core::store::Store;
use moka::sync::Cache as Memory;

/// For longer than Redis is believed, what was told needs not be remembered.
const TOLD_MEMORY: Duration = Duration::from_secs(10);
const _: () = assert!(TOLD_MEMORY.as_millis() > BELIEVED.as_millis());
const TOLD_REMEMBERED: u64 = 100_000;

/// The readings of jobs that this process gives.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    store: Store,
    cache: Cache,
    told: Memory<JobId, Stage>,
}

impl Progress {
    pub(crate) fn new(store: Store, cache: Cache) -> Self {
        let told = Memory::builder().max_capacity(TOLD_REMEMBERED).time_to_live(TOLD_MEMORY).build();
        Self { store, cache, told }
    }

    /// The job, if it is the business's.
    pub(crate) async fn get(&self, business: BusinessId, id: JobId) -> Result<Job> {
        let begun = Instant::now();
        if let Some(job) = self.cache.find_jobs(&[(business, id)]).await.pop().flatten()
            && self.is_news(&job)
        {
            return Ok(job);
        }
        let job = self.store.get_job(business, id).await?;
        self.keep(&job, begun).await;
        Ok(job)
    }

    /// Those of these jobs that there are.
    pub(crate) async fn watched(&self, ids: &[(BusinessId, JobId)]) -> Result<Vec<Job>> {
        let begun = Instant::now();
        let kept = self.cache.find_jobs(ids).await;
        let mut jobs: Vec<Job> = kept.into_iter().flatten().filter(|job| self.is_news(job)).collect();
        let unknown = |id: &JobId| jobs.iter().all(|job| job.id != *id);
        let unknown: Vec<JobId> = ids.iter().map(|(_, id)| *id).filter(unknown).collect();
        if !unknown.is_empty() {
            let read = self.store.watched_jobs(&unknown).await?;
            for job in &read {
                self.tell(job);
            }
            self.cache.keep_jobs(&read, begun).await;
            jobs.extend(read);
        }
        Ok(jobs)
    }

    /// Keeps a reading that was begun at that instant.
    pub(crate) async fn keep(&self, job: &Job, begun: Instant) {
        self.tell(job);
        self.cache.keep_jobs(std::slice::from_ref(job), begun).await;
    }

    /// Keeps what has become of these jobs by now. If they cannot be read, the truth is told a little later.
    pub(crate) async fn keep_anew(&self, ids: &[JobId], begun: Instant) {
        let Ok(jobs) = self.store.watched_jobs(ids).await else { return };
        for job in &jobs {
            self.tell(job);
        }
        self.cache.keep_jobs(&jobs, begun).await;
    }

    /// Whether a reading from Redis is no earlier than what was told; if so it is told from now on.
    fn is_news(&self, job: &Job) -> bool {
        let is_news = self.told.get(&job.id).is_none_or(|told| told <= job.stage());
        if is_news {
            self.tell(job);
        }
        is_news
    }

    fn tell(&self, job: &Job) {
        let stage = job.stage();
        self.told
            .entry(job.id)
            .and_upsert_with(|told| told.map_or(stage, |told| told.into_value().max(stage)));
    }
}
