//! Retries of failed jobs: one job, or all of a business. Only the unfinished chunks run again; a take-back also divides
//! its codes again. A distribution is not retried while its codes are taken back.

use serde::{Deserialize, Serialize};
use sqlx::{PgTransaction, query, query_scalar};
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use crate::outbox::announce;
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use crate::revoke::{divide_again, find_open_take_backs};
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::{Job, JobStatus};

use super::cancel::wrong_state;
use super::discard::check_undiscarded;
use super::read::get;

/// Maximum number of jobs that one call retries.
const MAX_REDRIVEN: i64 = 500;
/// Jobs that failed longer ago are not redriven. A queue keeps dead letters this long.
const REDRIVEN_DAYS: i32 = 14;

/// The result of a redrive of a business's failed jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redrive {
    /// Jobs that run again, oldest first.
    pub jobs: Vec<JobId>,
    /// The number of other failed jobs.
    pub remaining: u64,
}

/// A selection of a business's failed jobs.
#[derive(Debug, Clone, Copy)]
enum JobSelection {
    /// This job.
    Job(JobId),
    /// This job, if this run of it failed.
    Run(JobId, i32),
    /// Jobs that failed in this number of days, oldest first, at most [`MAX_REDRIVEN`].
    InDays(i32),
}

impl Store {
    /// Retries the unfinished chunks of a failed job.
    pub async fn retry_job_if_failed(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: JobId,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let retried =
                self.retry_if_failed(&mut open.transaction, business, JobSelection::Job(id)).await?;
            let job = get(&mut *open.transaction, business, id).await?;
            if retried.is_empty() {
                check_undiscarded(&mut *open.transaction, id).await?;
                let hint = match job.status {
                    JobStatus::Failed => "its codes are taken back: it can be retried when that is over",
                    _ => "only a failed job can be retried",
                };
                return Err(wrong_state(&job, hint));
            }
            Ok(job)
        }
        .await;
        self.notify_relay_after(open.commit(outcome).await)
    }

    /// Retries the unfinished chunks of a job if this run of it failed and was the last; returns whether it did.
    pub(crate) async fn retry_run_if_failed(
        &self,
        business: BusinessId,
        id: JobId,
        attempts: i32,
    ) -> Result<bool> {
        let mut transaction = self.begin().await?;
        let retried =
            self.retry_if_failed(&mut transaction, business, JobSelection::Run(id, attempts)).await?;
        transaction.commit().await?;
        self.notify_relay();
        Ok(!retried.is_empty())
    }

    /// Retries the unfinished chunks of at most 500 of a business's jobs that failed in the last two weeks.
    pub async fn redrive_jobs(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
    ) -> Result<CallResult<Redrive>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let recent = JobSelection::InDays(REDRIVEN_DAYS);
            let jobs = self.retry_if_failed(&mut open.transaction, business, recent).await?;
            let remaining = query_scalar!(
                r#"select count(*) as "count!" from job
                   where business_id = $1 and status = 'FAILED' and discarding_at is null
                     and finished_at > now() - make_interval(days => $2)"#,
                business.0,
                REDRIVEN_DAYS
            )
            .fetch_one(&mut *open.transaction)
            .await?;
            Ok(Redrive { jobs, remaining: remaining.try_into().map_err(Error::internal)? })
        }
        .await;
        self.notify_relay_after(open.commit(outcome).await)
    }

    /// Makes the unfinished chunks of these jobs runnable; returns the jobs, oldest first.
    async fn retry_if_failed(
        &self,
        transaction: &mut PgTransaction<'static>,
        business: BusinessId,
        which: JobSelection,
    ) -> Result<Vec<JobId>> {
        let mut failed = hold_failed(transaction, business, which).await?;
        // Their submissions lock the same rows. Read after the rows are locked.
        let take_backs = find_open_take_backs(&mut **transaction, business, &failed).await?;
        failed.retain(|id| take_backs.iter().all(|open| open.distribution.0 != *id));
        query!(
            "update job_chunk set status = 'READY', attempts = 0, crashes = 0, run_at = now(), error = null
             where job_id = any($1) and status = 'FAILED'",
            &failed
        )
        .execute(&mut **transaction)
        .await?;
        free_running(transaction, &failed).await?;
        divide_again(transaction, &failed).await?;
        let retried = query!(
            "update job set status = 'QUEUED', chunks_failed = 0, error = null, finished_at = null
             where id = any($1) and status = 'FAILED'",
            &failed
        )
        .execute(&mut **transaction)
        .await?;
        if retried.rows_affected() != u64::try_from(failed.len()).map_err(Error::internal)? {
            return Err(Error::internal("the status of a locked job has changed"));
        }
        let retried: Vec<JobId> = failed.into_iter().map(JobId).collect();
        for id in &retried {
            announce(transaction, *id, self.notifier.as_ref()).await?;
        }
        Ok(retried)
    }
}

/// Locks failed jobs before their chunks are changed. A concurrent retry waits and then sees the new status. No worker
/// finishes a chunk of a failed job.
async fn hold_failed(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    which: JobSelection,
) -> Result<Vec<Uuid>> {
    let (job, run, days) = match which {
        JobSelection::Job(job) => (Some(job.0), None, None),
        JobSelection::Run(job, run) => (Some(job.0), Some(run), None),
        JobSelection::InDays(days) => (None, None, Some(days)),
    };
    let failed = query_scalar!(
        "select id from job
         where business_id = $1 and status = 'FAILED' and discarding_at is null and ($2::uuid is null or id = $2) and ($3::int is null or attempts = $3)
           and ($4::int is null or finished_at > now() - make_interval(days => $4))
         order by id limit $5 for no key update",
        business.0,
        job,
        run,
        days,
        MAX_REDRIVEN
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(failed)
}

/// Makes the chunks runnable that were running when a rule stopped the jobs. Otherwise they would wait for the end of
/// their leases, and count as crashes. A chunk whose row its worker holds is skipped and waits for the end of its
/// lease: the worker may be waiting for the job's row, which this transaction holds.
async fn free_running(transaction: &mut PgTransaction<'static>, jobs: &[Uuid]) -> Result<()> {
    query!(
        "update job_chunk set status = 'READY', lease_until = null, run_at = now()
         where (job_id, number) in (select job_id, number from job_chunk
                                    where job_id = any($1) and status = 'RUNNING' for update skip locked)",
        jobs
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
