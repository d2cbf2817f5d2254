//! Running again what is left of jobs that failed: one, or all of a business.

use serde::{Deserialize, Serialize};
use sqlx::{PgTransaction, query, query_scalar};

use crate::error::{Error, Result};
use crate::id::{BusinessId, JobId};
use crate::job::Job;
use crate::store::Store;
use crate::store::batch::{Answer, RequestKey};
use crate::store::outbox::announce;
use crate::store::request_key::Attempt;

use super::read::get;
use super::wrong_state;

/// So many jobs at most run again by one call.
const MOST_REDRIVEN: i64 = 500;
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

/// Which of a business's jobs that failed.
#[derive(Debug, Default)]
struct Which {
    job: Option<JobId>,
    /// Only if it was this run of the job that failed.
    run: Option<i32>,
    /// Only those that failed in so many days.
    days: Option<i32>,
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
            let which = Which { job: Some(id), ..Which::default() };
            let retried = self.retry_if_failed(&mut open.transaction, business, which).await?;
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
        let which = Which { job: Some(id), run: Some(attempts), days: None };
        let retried = self.retry_if_failed(&mut transaction, business, which).await?;
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
            let which = Which { days: Some(REDRIVEN_DAYS), ..Which::default() };
            let jobs = self.retry_if_failed(&mut open.transaction, business, which).await?;
            let remaining = query_scalar!(
                r#"select count(*) as "count!" from job
                   where business_id = $1 and status = 'FAILED' and finished_at > now() - make_interval(days => $2)"#,
                business.0,
                REDRIVEN_DAYS
            )
            .fetch_one(&mut *open.transaction)
            .await?;
            Ok(Redrive { jobs, remaining: remaining.try_into().map_err(Error::internal)? })
        }
        .await;
        self.ring_after(open.settle(outcome).await)
    }

    /// Makes runnable what failed in these jobs, [`MOST_REDRIVEN`] at most; says which run again, the oldest first.
    ///
    /// The jobs are held before their chunks are touched: whoever else retries one waits, and then finds it retried. No
    /// worker holds a chunk of a job that has failed.
    async fn retry_if_failed(
        &self,
        transaction: &mut PgTransaction<'static>,
        business: BusinessId,
        Which { job, run, days }: Which,
    ) -> Result<Vec<JobId>> {
        let failed = query_scalar!(
            "select id from job
             where business_id = $1 and status = 'FAILED' and ($2::uuid is null or id = $2)
               and ($3::int is null or attempts = $3)
               and ($4::int is null or finished_at > now() - make_interval(days => $4))
             order by id limit $5 for no key update",
            business.0,
            job.map(|job| job.0),
            run,
            days,
            MOST_REDRIVEN
        )
        .fetch_all(&mut **transaction)
        .await?;
        query!(
            "update job_chunk set status = 'READY', attempts = 0, crashes = 0, run_at = now(), error = null
             where job_id = any($1) and status = 'FAILED'",
            &failed
        )
        .execute(&mut **transaction)
        .await?;
        query!(
            "update job set status = 'QUEUED', chunks_failed = 0, error = null, finished_at = null where id = any($1)",
            &failed
        )
        .execute(&mut **transaction)
        .await?;
        let retried: Vec<JobId> = failed.into_iter().map(JobId).collect();
        for id in &retried {
            announce(transaction, *id, self.bell.as_ref()).await?;
        }
        Ok(retried)
    }
}
