//! Readings of jobs, for clients that poll.
//!
//! **Invariants.** A reading is valid for [`READING_TTL`], counted from before it was read in Postgres; a
//! reading of a job that cannot change any more is valid for an hour. A reading of an earlier stage never
//! replaces a later one.

use std::time::{Duration, Instant};

use redis::pipe;

use super::Cache;
use super::link::SCRIPTS;
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::Job;

/// How long a reading is valid. If an update is lost, clients see the current state after this time.
pub const READING_TTL: Duration = Duration::from_millis(900);
/// The same for a job that cannot change any more.
const FINAL_READING_TTL: Duration = Duration::from_hours(1);
/// Maximum number of jobs in a call, so that the call is answered within its timeout.
const MAX_JOBS_PER_CALL: usize = 200;
/// How long the stage of a job is remembered.
const RETENTION_MS: u64 = 2 * 60 * 60 * 1_000;

impl Cache {
    /// The stored readings of these jobs, in their order.
    pub async fn find_jobs(&self, ids: &[(BusinessId, JobId)]) -> Vec<Option<Job>> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(MAX_JOBS_PER_CALL) {
            found.extend(self.find_some(some).await);
        }
        found
    }

    async fn find_some(&self, ids: &[(BusinessId, JobId)]) -> Vec<Option<Job>> {
        let mut calls = pipe();
        for (business, id) in ids {
            calls.add_command(SCRIPTS.find_job.call(&[&key(*business, *id)]));
        }
        let found: Option<Vec<Option<String>>> = self.query_all(&calls).await;
        let Some(found) = found.filter(|found| found.len() == ids.len()) else {
            return vec![None; ids.len()];
        };
        // A reading that this version cannot parse counts as absent.
        found.into_iter().map(|text| serde_json::from_str(&text?).ok()).collect()
    }

    /// Stores readings that were started at this instant.
    pub async fn keep_jobs(&self, jobs: &[Job], begun: Instant) {
        let Some(begun) = self.clock_at(begun) else { return };
        for some in jobs.chunks(MAX_JOBS_PER_CALL) {
            self.keep_some(some, begun).await;
        }
    }

    async fn keep_some(&self, jobs: &[Job], begun: i64) {
        let mut calls = pipe();
        for job in jobs {
            let believed = if job.is_final() { FINAL_READING_TTL } else { READING_TTL };
            let until = begun.saturating_add(i64::try_from(believed.as_millis()).unwrap_or(i64::MAX));
            let Ok(text) = serde_json::to_string(job) else { continue };
            let mut call = SCRIPTS.keep_job.call(&[&key(job.business, job.id)]);
            call.arg(job.stage().to_string()).arg(until).arg(text).arg(RETENTION_MS);
            calls.add_command(call);
        }
        let _: Option<Vec<u8>> = self.query_all(&calls).await;
    }
}

fn key(business: BusinessId, id: JobId) -> String {
    format!("job:progress:{business}:{id}")
}
