//! The end of a chunk: finished in the transaction that has its effect, or failed. A stale epoch changes nothing.

use serde_json::Value;
use sqlx::{PgTransaction, query_file, query_file_scalar};

use crate::error::{Error, Refusal, Result};
use crate::job::{ChunkWork, Job, JobError, JobKind, JobStatus};
use crate::queue;
use crate::store::Store;
use crate::telemetry::metrics;

use super::claim::{Claim, Pulse};

/// What a chunk adds to its job's tally.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Finished {
    /// Rows done.
    pub succeeded: i64,
    /// Rows refused.
    pub failed: i64,
    /// Its part of the job's result: numbers are summed, the rest replaced.
    pub result: Value,
    /// Chunks that it adds to the job, to be worked after it.
    pub next: Vec<ChunkWork>,
    /// How many rows the job has to do, if that is known better by now.
    pub total: Option<i64>,
}

impl Store {
    /// Settles a chunk that only plans: its effect is what it adds to the job.
    pub async fn settle_planned(&self, claim: &Claim, finished: &Finished) -> Result<Pulse> {
        let mut transaction = self.pool.begin().await?;
        let status = finish_if_held(&mut transaction, claim, finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// Sets a chunk aside that failed too often or ended its workers, and writes a dead letter for the operator. The job fails
    /// once all its chunks are settled.
    pub async fn fail_chunk_if_held(&self, claim: &Claim, error: &JobError) -> Result<Pulse> {
        let mut transaction = self.pool.begin().await?;
        let failed = query_file_scalar!(
            "src/store/sql/fail_chunk.sql",
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

    /// Fails the job at once because a rule forbids it to go on. No dead letter is written: only the owner can mend the cause.
    pub async fn stop_job_if_held(&self, claim: &Claim, refusal: &Refusal) -> Result<Pulse> {
        let mut transaction = self.pool.begin().await?;
        let stopped = stop_job_if_held(&mut transaction, claim, refusal).await?;
        self.commit_if_held(transaction, claim, stopped).await
    }

    /// Commits the work of a claim if the job's new status came back. Otherwise the job no longer runs or another worker
    /// has the chunk, and nothing may change.
    pub(in crate::store) async fn commit_if_held(
        &self,
        transaction: PgTransaction<'_>,
        claim: &Claim,
        status: Option<JobStatus>,
    ) -> Result<Pulse> {
        let Some(status) = status else {
            transaction.rollback().await?;
            return Ok(Pulse::Lost);
        };
        transaction.commit().await?;
        self.ring();
        metrics::job_stands(claim.task.kind(), status);
        Ok(Pulse::Held)
    }
}

/// Settles a chunk in the transaction that holds its effect: its part of the tally, and the job's end with the last one.
/// `None` if the chunk is no longer this worker's or the job was stopped: the caller must roll back.
pub(in crate::store) async fn finish_if_held(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    finished: &Finished,
) -> Result<Option<JobStatus>> {
    if !finished.next.is_empty() || finished.total.is_some() {
        add_next(transaction, claim, finished).await?;
    }
    let status = query_file!(
        "src/store/sql/finish_chunk.sql",
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

/// Adds the chunks that come after one which is about to be settled in the same transaction. Adds nothing if the chunk is no longer
/// this worker's or the job no longer runs: settling will find the same.
async fn add_next(transaction: &mut PgTransaction<'_>, claim: &Claim, finished: &Finished) -> Result<()> {
    let next = finished.next.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    query_file!(
        "src/store/sql/add_chunks.sql",
        claim.job.0,
        claim.number,
        claim.epoch,
        &next.map_err(Error::internal)?,
        finished.total,
        claim.has_outbox
    )
    .execute(&mut **transaction)
    .await?;
    if claim.has_outbox { Ok(()) } else { queue::announce(transaction).await }
}

/// Fails the job of a chunk because a rule forbids it to go on; answers the job's status. `None` if the chunk is no longer this
/// worker's or the job no longer runs: the caller must roll back.
pub(in crate::store) async fn stop_job_if_held(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    refusal: &Refusal,
) -> Result<Option<JobStatus>> {
    let error = JobError { code: refusal.code().to_owned(), detail: refusal.to_string() };
    let stopped = query_file_scalar!(
        "src/store/sql/stop_job.sql",
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

/// Counts the end of a job, if it has ended. Metrics have no series for kinds that this program does not know.
pub(in crate::store) fn count_end(job: &Job) {
    if let Some(kind) = JobKind::parse(&job.kind) {
        metrics::job_stands(kind, job.status);
    }
}
