//! Running again what is left of jobs that failed: one, or all of a business.

use serde::{Deserialize, Serialize};
use sqlx::{PgTransaction, query, query_scalar};
use uuid::Uuid;

use crate::error::Result;
use crate::id::{BusinessId, JobId};
use crate::job::Job;
use crate::store::Store;
use crate::store::batch::{Answer, RequestKey};
use crate::store::outbox::announce;
use crate::store::request_key::Attempt;

use super::read::get;
use super::wrong_state;

/// So many jobs at most run again by one call.
const MOST_REDRIVEN: usize = 500;
/// What failed longer ago is history: as long as a queue keeps a dead letter.
const REDRIVEN_DAYS: i32 = 14;

/// What became of a business's failed jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// Those that run again, the oldest first.
    pub jobs: Vec<JobId>,
    /// How many there are besides.
    pub remaining: u64,
}

impl Store {
    /// Runs again what is left of a job that failed.
    pub async fn retry_job_if_failed(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
        id: JobId,
    ) -> Result<Answer<Job>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let retried = self.retry_if_failed(&mut open.transaction, business, &[id.0]).await?;
            let job = get(&mut *open.transaction, business, id).await?;
            if retried.is_empty() {
                return Err(wrong_state(&job, "only one that failed can be retried"));
            }
            Ok(job)
        }
        .await;
        self.ring_after(open.settle(outcome).await)
    }

    /// Runs again what is left of a business's jobs that failed in the last two weeks, 500 at most.
    pub async fn redrive_jobs(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
    ) -> Result<Answer<Redrive>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let failed = query_scalar!(
                "select id from job
                 where business_id = $1 and status = 'FAILED' and finished_at > now() - make_interval(days => $2)
                 order by id",
                business.0,
                REDRIVEN_DAYS
            )
            .fetch_all(&mut *open.transaction)
            .await?;
            let (now, later) = failed.split_at(failed.len().min(MOST_REDRIVEN));
            let jobs = self.retry_if_failed(&mut open.transaction, business, now).await?;
            Ok(Redrive { jobs, remaining: later.len().try_into().unwrap_or(u64::MAX) })
        }
        .await;
        self.ring_after(open.settle(outcome).await)
    }

    /// Makes runnable what failed in those of these jobs that failed, chunks before their jobs; says which.
    async fn retry_if_failed(
        &self,
        transaction: &mut PgTransaction<'static>,
        business: BusinessId,
        ids: &[Uuid],
    ) -> Result<Vec<JobId>> {
        query!(
            "update job_chunk c set status = 'READY', attempts = 0, crashes = 0, run_at = now(), error = null
             from job j
             where c.job_id = j.id and j.id = any($1) and j.business_id = $2 and j.status = 'FAILED' and c.status = 'FAILED'",
            ids,
            business.0
        )
        .execute(&mut **transaction)
        .await?;
        let mut retried = query_scalar!(
            "update job set status = 'QUEUED', chunks_failed = 0, error = null, finished_at = null
             where id = any($1) and business_id = $2 and status = 'FAILED'
             returning id",
            ids,
            business.0
        )
        .fetch_all(&mut **transaction)
        .await?;
        retried.sort_unstable();
        let retried: Vec<JobId> = retried.into_iter().map(JobId).collect();
        for id in &retried {
            announce(transaction, *id, self.bell.as_ref()).await?;
        }
        Ok(retried)
    }
}
