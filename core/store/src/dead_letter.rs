//! Redrives of dead letters: the run of the job that a dead letter belongs to, and its retry.

use sqlx::query;

use crate::error::Result;
use cuponera_domain::id::{BusinessId, JobId};

use super::Store;

/// The state of the run (`job.attempts`) that a dead letter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterRun {
    /// The job has failed and was not retried since.
    Failed(BusinessId),
    /// Other chunks are still running.
    Open,
    /// The job does not exist, was retried since, or cannot be retried in its state.
    Past,
}

/// What a redrive of a dead letter did with its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// The job runs again.
    Retried,
    /// The run has not ended: other chunks are still running.
    TooEarly,
    /// The job does not exist, was retried since, or cannot be retried in its state.
    NotNeeded,
}

impl Store {
    /// The state of a run of a job.
    pub async fn find_run(&self, job: JobId, attempt: i32) -> Result<DeadLetterRun> {
        let row =
            query!("select business_id, status from job where id = $1 and attempts = $2", job.0, attempt)
                .fetch_optional(&self.pool)
                .await?;
        Ok(match row {
            Some(row) if row.status == "FAILED" => DeadLetterRun::Failed(BusinessId(row.business_id)),
            Some(row) if row.status == "RUNNING" => DeadLetterRun::Open,
            Some(_) | None => DeadLetterRun::Past,
        })
    }

    /// Retries a job, as its owner could, if the run of the dead letter was its last.
    pub async fn redrive_job_if_failed(&self, job: JobId, attempt: i32) -> Result<Redriven> {
        let business = match self.find_run(job, attempt).await? {
            DeadLetterRun::Failed(business) => business,
            DeadLetterRun::Open => return Ok(Redriven::TooEarly),
            DeadLetterRun::Past => return Ok(Redriven::NotNeeded),
        };
        let is_retried = self.retry_run_if_failed(business, job, attempt).await?;
        Ok(if is_retried { Redriven::Retried } else { Redriven::NotNeeded })
    }
}
