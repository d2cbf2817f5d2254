//! Readings of jobs, for those who poll.
//!
//! **Invariants.** A reading is believed for [`BELIEVED`] from before it was read in Postgres, however long it was on its
//! way; one of a job that can never change again, for an hour. A reading of an earlier stage never replaces a later one.

use std::time::{Duration, Instant};

use redis::pipe;

use super::Cache;
use super::link::SCRIPTS;
use crate::id::{BusinessId, JobId};
use crate::job::Job;

/// How long a reading may be believed: whatever is lost, the truth is told after this.
pub const BELIEVED: Duration = Duration::from_millis(900);
/// The same for a job that cannot change any more.
const BELIEVED_FINAL: Duration = Duration::from_hours(1);
/// How many jobs go into one call: all of it must be answered in the time of one.
const AT_ONCE: usize = 200;
/// How long the stage of a job is remembered.
const REMEMBERED_MS: u64 = 2 * 60 * 60 * 1_000;

impl Cache {
    /// Of these jobs, those that a reading is kept of; in their order.
    pub async fn find_jobs(&self, ids: &[(BusinessId, JobId)]) -> Vec<Option<Job>> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            found.extend(self.find_some(some).await);
        }
        found
    }

    async fn find_some(&self, ids: &[(BusinessId, JobId)]) -> Vec<Option<Job>> {
        let mut calls = pipe();
        for (business, id) in ids {
            calls.add_command(SCRIPTS.find_job.call(&[&key(*business, *id)]));
        }
        let found: Option<Vec<Option<String>>> = self.ask_all(&calls).await;
        let Some(found) = found.filter(|found| found.len() == ids.len()) else {
            return vec![None; ids.len()];
        };
        // One that this version cannot read is as good as none.
        found.into_iter().map(|text| serde_json::from_str(&text?).ok()).collect()
    }

    /// Keeps readings that were begun at that instant.
    pub async fn keep_jobs(&self, jobs: &[Job], begun: Instant) {
        let Some(begun) = self.clock_at(begun) else { return };
        for some in jobs.chunks(AT_ONCE) {
            self.keep_some(some, begun).await;
        }
    }

    async fn keep_some(&self, jobs: &[Job], begun: i64) {
        let mut calls = pipe();
        for job in jobs {
            let believed = if job.is_final() { BELIEVED_FINAL } else { BELIEVED };
            let until = begun.saturating_add(i64::try_from(believed.as_millis()).unwrap_or(i64::MAX));
            let Ok(text) = serde_json::to_string(job) else { continue };
            let mut call = SCRIPTS.keep_job.call(&[&key(job.business, job.id)]);
            call.arg(job.stage().to_string()).arg(until).arg(text).arg(REMEMBERED_MS);
            calls.add_command(call);
        }
        let _: Option<Vec<u8>> = self.ask_all(&calls).await;
    }
}

fn key(business: BusinessId, id: JobId) -> String {
    format!("job:progress:{business}:{id}")
}
