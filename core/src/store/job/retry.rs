//! Running again what is left of jobs that failed: one, or all of a business.

use serde::{Deserialize, Serialize};
use sqlx::{PgTransaction, query, query_as, query_scalar};
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
/// A job that is named may have failed as long ago as it likes.
const ANY_AGE_DAYS: i32 = 1_000_000;

/// What became of a business's failed jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// Those that run again, the oldest first.
    pub jobs: Vec<JobId>,
    /// How many there are besides.
    pub remaining: u64,
}

/// A run of a job that failed.
struct FailedRun {
    id: Uuid,
    attempts: i32,
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
            let run = failed_runs(&mut open.transaction, business, Some(id), ANY_AGE_DAYS).await?;
            let retried = self.retry_if_failed(&mut open.transaction, business, &run).await?;
            let job = get(&mut *open.transaction, business, id).await?;
            if retried.is_empty() {
                return Err(wrong_state(&job, "only one that failed can be retried"));
            }
            Ok(job)
        }
        .await;
        self.ring_after(open.settle(outcome).await)
    }

    /// Runs again what is left of a job if this run of it failed and was the last; says whether it did.
    pub(in crate::store) async fn retry_run_if_failed(
        &self,
        business: BusinessId,
        id: JobId,
        attempts: i32,
    ) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        let run = FailedRun { id: id.0, attempts };
        let retried = self.retry_if_failed(&mut transaction, business, &[run]).await?;
        transaction.commit().await?;
        self.ring();
        Ok(!retried.is_empty())
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
            let failed = failed_runs(&mut open.transaction, business, None, REDRIVEN_DAYS).await?;
            let (now, later) = failed.split_at(failed.len().min(MOST_REDRIVEN));
            let jobs = self.retry_if_failed(&mut open.transaction, business, now).await?;
            Ok(Redrive { jobs, remaining: later.len().try_into().unwrap_or(u64::MAX) })
        }
        .await;
        self.ring_after(open.settle(outcome).await)
    }

    /// Makes runnable what failed in these runs, chunks before their jobs; says which jobs run again. Between the two somebody
    /// else may retry a job, and it may fail again: the number of its run tells.
    async fn retry_if_failed(
        &self,
        transaction: &mut PgTransaction<'static>,
        business: BusinessId,
        runs: &[FailedRun],
    ) -> Result<Vec<JobId>> {
        let (ids, attempts): (Vec<Uuid>, Vec<i32>) = runs.iter().map(|run| (run.id, run.attempts)).unzip();
        query!(
            "update job_chunk c set status = 'READY', attempts = 0, crashes = 0, run_at = now(), error = null
             from job j join unnest($1::uuid[], $3::int[]) as run (id, attempts) using (id, attempts)
             where c.job_id = j.id and j.business_id = $2 and j.status = 'FAILED' and c.status = 'FAILED'",
            &ids,
            business.0,
            &attempts
        )
        .execute(&mut **transaction)
        .await?;
        let mut retried = query_scalar!(
            "update job j set status = 'QUEUED', chunks_failed = 0, error = null, finished_at = null
             from unnest($1::uuid[], $3::int[]) as run (id, attempts)
             where j.id = run.id and j.attempts = run.attempts and j.business_id = $2 and j.status = 'FAILED'
             returning j.id",
            &ids,
            business.0,
            &attempts
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

/// The runs that failed last, of one job or of all of a business; the oldest job first.
async fn failed_runs(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    job: Option<JobId>,
    days: i32,
) -> Result<Vec<FailedRun>> {
    let runs = query_as!(
        FailedRun,
        "select id, attempts from job
         where business_id = $1 and status = 'FAILED' and ($2::uuid is null or id = $2)
           and finished_at > now() - make_interval(days => $3)
         order by id",
        business.0,
        job.map(|job| job.0),
        days
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(runs)
}
