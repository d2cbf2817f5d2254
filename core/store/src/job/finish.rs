//! The end of a chunk: finished in the transaction that has its effect, or failed. A stale epoch changes nothing.

use serde_json::Value;
use sqlx::{PgTransaction, query_file, query_file_scalar};

use crate::Store;
use crate::error::{Error, Result};
use crate::metrics;
use crate::work_channel::notify_workers;
use cuponera_domain::job::{ChunkWork, Job, JobError, JobKind, JobStatus};
use cuponera_domain::rejection::Rejection;

use super::claim::{Claim, ClaimState, begin};

/// The counts, result and further chunks that a chunk adds to its job.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Finished {
    /// Succeeded rows.
    pub succeeded: i64,
    /// Rejected rows.
    pub failed: i64,
    /// Its part of the result of the job: numbers are added, other values replaced.
    pub result: Value,
    /// Chunks to add to the job and to execute after this one.
    pub next: Vec<ChunkWork>,
    /// The number of rows of the job, if it has changed.
    pub total: Option<i64>,
}

impl Store {
    /// Finishes a chunk that only plans: its effect is to add chunks to the job.
    pub async fn finish_planned(&self, claim: &Claim, finished: &Finished) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let status = finish_if_held(&mut transaction, claim, finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// Fails a chunk that failed or crashed too often, and writes a dead letter for the operator. The job fails when all its
    /// chunks are finished or failed.
    pub async fn fail_chunk_if_held(&self, claim: &Claim, error: &JobError) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let failed = query_file_scalar!(
            "src/sql/fail_chunk.sql",
            claim.job.0,
            claim.number,
            claim.epoch,
            error.detail,
            serde_json::to_value(error).map_err(Error::internal)?,
            claim.has_outbox
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let failed = failed.map(|status| status_of(&status)).transpose()?;
        self.commit_if_held(transaction, claim, failed).await
    }

    /// Fails the job at once because a rule rejects it. Writes no dead letter, because only the owner can correct the cause.
    pub async fn stop_job_if_held(&self, claim: &Claim, rejection: &Rejection) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let stopped = stop_job_if_held(&mut transaction, claim, rejection).await?;
        self.commit_if_held(transaction, claim, stopped).await
    }

    /// Commits the transaction of a claim if there is a new status of the job. Otherwise the job no longer runs or another
    /// worker holds the chunk: rolls back.
    pub(crate) async fn commit_if_held(
        &self,
        transaction: PgTransaction<'_>,
        claim: &Claim,
        status: Option<JobStatus>,
    ) -> Result<ClaimState> {
        let Some(status) = status else {
            transaction.rollback().await?;
            return Ok(ClaimState::Lost);
        };
        transaction.commit().await?;
        self.notify_relay();
        metrics::job_ended(claim.task.kind(), status);
        Ok(ClaimState::Held)
    }
}

/// Finishes a chunk in the transaction that has its effect: adds its counts, and ends the job with the last chunk. `None` if
/// this worker no longer holds the chunk or the job was stopped: the caller must roll back.
pub(crate) async fn finish_if_held(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    finished: &Finished,
) -> Result<Option<JobStatus>> {
    if !finished.next.is_empty() || finished.total.is_some() {
        add_next(transaction, claim, finished).await?;
    }
    let status = query_file!(
        "src/sql/finish_chunk.sql",
        claim.job.0,
        claim.number,
        claim.epoch,
        finished.succeeded,
        finished.failed,
        finished.result,
        claim.has_outbox
    )
    .fetch_optional(&mut **transaction)
    .await?
    .map(|row| row.status);
    status.map(|status| status_of(&status)).transpose()
}

/// Adds the chunks that follow this one, which the same transaction finishes next. Adds nothing if this worker no longer holds
/// the chunk or the job no longer runs: finishing the chunk then fails too.
async fn add_next(transaction: &mut PgTransaction<'_>, claim: &Claim, finished: &Finished) -> Result<()> {
    let next = finished.next.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    query_file!(
        "src/sql/add_chunks.sql",
        claim.job.0,
        claim.number,
        claim.epoch,
        &next.map_err(Error::internal)?,
        finished.total,
        claim.has_outbox
    )
    .execute(&mut **transaction)
    .await?;
    if claim.has_outbox { Ok(()) } else { notify_workers(transaction).await }
}

/// Fails the job of a chunk because a rule rejects it; returns the status of the job. `None` if this worker no longer holds the
/// chunk or the job no longer runs: the caller must roll back.
pub(crate) async fn stop_job_if_held(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rejection: &Rejection,
) -> Result<Option<JobStatus>> {
    let error = JobError { code: rejection.code().to_owned(), detail: rejection.to_string() };
    let stopped = query_file_scalar!(
        "src/sql/stop_job.sql",
        claim.job.0,
        claim.number,
        claim.epoch,
        error.detail,
        serde_json::to_value(&error).map_err(Error::internal)?
    )
    .fetch_optional(&mut **transaction)
    .await?;
    stopped.map(|status| status_of(&status)).transpose()
}

fn status_of(name: &str) -> Result<JobStatus> {
    JobStatus::parse(name).ok_or_else(|| Error::internal("an unknown job status"))
}

/// Counts the end of a job in the metrics, if it has ended. Unknown kinds have no series.
pub(crate) fn count_end(job: &Job) {
    if let Some(kind) = JobKind::parse(&job.kind) {
        metrics::job_ended(kind, job.status);
    }
}
