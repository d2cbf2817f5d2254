//! Readings of jobs, from Redis if it has a valid one, otherwise from Postgres. Readings from Postgres are stored in
//! Redis.
//!
//! **Invariant.** After a reading of a job, this process never returns an earlier one from Redis.

use std::time::{Duration, Instant};

use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::{Job, Stage};
use cuponera_platform::cache::{Cache, READING_TTL};
use cuponera_store::Result;
use cuponera_store::Store;
use moka::sync::Cache as MemoryCache;

/// Returned stages are kept for longer than a reading in Redis is valid.
const STAGE_TTL: Duration = Duration::from_secs(10);
const _: () = assert!(STAGE_TTL.as_millis() > READING_TTL.as_millis());
const MAX_STAGES: u64 = 100_000;

/// The source of all readings of jobs in this process.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    store: Store,
    cache: Cache,
    last_stages: MemoryCache<JobId, Stage>,
}

impl Progress {
    pub(crate) fn new(store: Store, cache: Cache) -> Self {
        let last_stages = MemoryCache::builder().max_capacity(MAX_STAGES).time_to_live(STAGE_TTL).build();
        Self { store, cache, last_stages }
    }

    /// The job, if it belongs to the business.
    pub(crate) async fn get(&self, business: BusinessId, id: JobId) -> Result<Job> {
        let begun = Instant::now();
        if let Some(job) = self.cache.find_jobs(&[(business, id)]).await.pop().flatten()
            && self.is_current(&job)
        {
            return Ok(job);
        }
        let job = self.store.get_job(business, id).await?;
        self.keep(&job, begun).await;
        Ok(job)
    }

    /// The jobs with these ids that exist.
    pub(crate) async fn watched(&self, ids: &[(BusinessId, JobId)]) -> Result<Vec<Job>> {
        let begun = Instant::now();
        let kept = self.cache.find_jobs(ids).await;
        let mut jobs: Vec<Job> = kept.into_iter().flatten().filter(|job| self.is_current(job)).collect();
        let unknown = |id: &JobId| jobs.iter().all(|job| job.id != *id);
        let unknown: Vec<JobId> = ids.iter().map(|(_, id)| *id).filter(unknown).collect();
        if !unknown.is_empty() {
            let read = self.store.watched_jobs(&unknown).await?;
            for job in &read {
                self.record(job);
            }
            self.cache.keep_jobs(&read, begun).await;
            jobs.extend(read);
        }
        Ok(jobs)
    }

    /// Stores a reading in Redis. `begun` is the instant before the reading was taken.
    pub(crate) async fn keep(&self, job: &Job, begun: Instant) {
        self.record(job);
        self.cache.keep_jobs(std::slice::from_ref(job), begun).await;
    }

    /// Reads these jobs and stores the readings. If they cannot be read, stored readings expire shortly.
    pub(crate) async fn keep_anew(&self, ids: &[JobId], begun: Instant) {
        let Ok(jobs) = self.store.watched_jobs(ids).await else { return };
        for job in &jobs {
            self.record(job);
        }
        self.cache.keep_jobs(&jobs, begun).await;
    }

    /// Whether a reading from Redis is not earlier than the last returned one. If so, its stage is recorded.
    fn is_current(&self, job: &Job) -> bool {
        let is_current = self.last_stages.get(&job.id).is_none_or(|last| last <= job.stage());
        if is_current {
            self.record(job);
        }
        is_current
    }

    fn record(&self, job: &Job) {
        let stage = job.stage();
        self.last_stages
            .entry(job.id)
            .and_upsert_with(|last| last.map_or(stage, |last| last.into_value().max(stage)));
    }
}
