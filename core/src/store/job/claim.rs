//! Chunks: claimed with a lease and an epoch, worked, settled. Settling with a stale epoch changes nothing.

use std::time::Duration;

use serde_json::Value;
use sqlx::{PgTransaction, query, query_file, query_file_scalar, query_scalar};

use crate::error::{Error, Refusal, Result};
use crate::id::{BookId, BusinessId, JobId};
use crate::job::{ChunkWork, JobError, JobKind, JobStatus, Task};
use crate::queue;
use crate::telemetry::{TraceParent, metrics};

use crate::store::Store;

/// A chunk that this worker holds for the time of its lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its job.
    pub job: JobId,
    /// The job's owner.
    pub business: BusinessId,
    /// Who submitted the job.
    pub created_by: String,
    /// Its number within the job.
    pub number: i32,
    /// How often it was claimed; the proof of being the latest.
    pub epoch: i32,
    /// How often it failed.
    pub attempts: i32,
    /// How often its worker died over it, or a statement of it took longer than it may.
    pub crashes: i32,
    /// What it does.
    pub task: Task,
    /// The span that submitted the job.
    pub trace: Option<TraceParent>,
    /// Whether what it makes runnable is written into the outbox.
    pub(in crate::store) has_outbox: bool,
}

impl Claim {
    /// The book that the job works on.
    pub(in crate::store) fn book(&self) -> Result<BookId> {
        self.task.book().ok_or_else(|| Error::internal("the job has no book"))
    }

    /// What the session of its transaction is called: short enough for Postgres.
    pub(in crate::store) fn session_name(&self) -> String {
        format!("chunk {} {} {}", self.job, self.number, self.epoch)
    }
}

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

/// What giving up a chunk counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spent {
    Nothing,
    Attempt,
    Crash,
}

/// What a heartbeat learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// The chunk is still this worker's.
    Held,
    /// It was taken over, or the job was stopped: give up.
    Lost,
}

impl Store {
    /// Claims the fairest runnable chunk, if there is any.
    pub async fn claim_chunk(
        &self,
        worker: &str,
        lease: Duration,
        kinds: &[JobKind],
    ) -> Result<Option<Claim>> {
        let row = query_file!("src/store/sql/claim_chunk.sql", worker, lease.as_secs_f64(), &names(kinds))
            .fetch_optional(&self.pool)
            .await?;
        let claim = row.map(|row| {
            let kind = JobKind::parse(&row.kind)
                .ok_or_else(|| Error::internal("a chunk of a kind that was not asked for"))?;
            let claim = Claim {
                job: JobId(row.id),
                business: BusinessId(row.business_id),
                created_by: row.created_by,
                number: row.number,
                epoch: row.epoch,
                attempts: row.attempts,
                crashes: row.crashes,
                task: Task::read(kind, row.job_work, row.chunk_work),
                trace: row.trace_parent.and_then(|trace| trace.parse().ok()),
                has_outbox: self.bell.is_some(),
            };
            if row.taken_over {
                metrics::lease_taken_over(claim.task.kind());
            }
            Ok(claim)
        });
        claim.transpose()
    }

    /// Says that the chunk is being worked, and holds it for another lease.
    pub async fn renew_lease_if_held(&self, claim: &Claim, lease: Duration) -> Result<Pulse> {
        let job = query_scalar!(
            "with chunk as (
               update job_chunk set lease_until = now() + make_interval(secs => $4)
               where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'
               returning job_id)
             update job j set heartbeat_at = now() from chunk where j.id = chunk.job_id and j.status = 'RUNNING'
             returning j.id",
            claim.job.0,
            claim.number,
            claim.epoch,
            lease.as_secs_f64()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(if job.is_some() { Pulse::Held } else { Pulse::Lost })
    }

    /// Settles a chunk that only plans: its effect is what it adds to the job.
    pub async fn settle_planned(&self, claim: &Claim, finished: &Finished) -> Result<Pulse> {
        let mut transaction = self.pool.begin().await?;
        let status = finish_if_held(&mut transaction, claim, finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// Ends sessions of processes that stand still in the transaction of a chunk whose lease is over; says how many.
    pub async fn end_lapsed_sessions(&self) -> Result<i64> {
        Ok(query_file_scalar!("src/store/sql/end_lapsed_sessions.sql").fetch_one(&self.pool).await?)
    }

    /// Gives the chunk up after a failure that spends an attempt, to be tried again after `delay`.
    pub async fn retry_chunk_if_held(&self, claim: &Claim, delay: Duration, error: &str) -> Result<Pulse> {
        self.free_chunk_if_held(claim, delay, Spent::Attempt, Some(error)).await
    }

    /// Gives the chunk back as it was taken, runnable after `delay`: a shutdown or an outage spends no attempt.
    pub async fn release_chunk_if_held(&self, claim: &Claim, delay: Duration) -> Result<Pulse> {
        self.free_chunk_if_held(claim, delay, Spent::Nothing, None).await
    }

    /// Gives up a chunk of which a statement took longer than it may. That counts like a crash.
    pub async fn release_late_chunk_if_held(
        &self,
        claim: &Claim,
        delay: Duration,
        error: &str,
    ) -> Result<Pulse> {
        self.free_chunk_if_held(claim, delay, Spent::Crash, Some(error)).await
    }

    async fn free_chunk_if_held(
        &self,
        claim: &Claim,
        delay: Duration,
        spent: Spent,
        error: Option<&str>,
    ) -> Result<Pulse> {
        let held = query_file_scalar!(
            "src/store/sql/free_chunk.sql",
            claim.job.0,
            claim.number,
            claim.epoch,
            delay.as_secs_f64(),
            i32::from(spent == Spent::Attempt),
            error,
            claim.has_outbox,
            i32::from(spent == Spent::Crash)
        )
        .fetch_one(&self.pool)
        .await?;
        self.ring();
        Ok(if held { Pulse::Held } else { Pulse::Lost })
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

    /// Ends all leases at once, that of housekeeping too, for a program that knows that no other works on this database: the
    /// chunks of a process that died need not wait. Returns how many chunks were leased.
    pub async fn end_all_leases(&self) -> Result<u64> {
        let ended = query!(
            "with house as (update housekeeping_lease set until = now() where until > now())
             update job_chunk set lease_until = now()
             where status = 'RUNNING' and lease_until > now()
               and job_id in (select id from job where status in ('QUEUED', 'RUNNING'))"
        )
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected())
    }

    /// How long until a chunk of these kinds becomes runnable by itself: its delay or a lease runs out. None if none will.
    pub async fn next_chunk_due(&self, kinds: &[JobKind]) -> Result<Option<Duration>> {
        let seconds = query_scalar!(
            r#"select extract(epoch from min(case when c.status = 'READY' then c.run_at else c.lease_until end) - now())::float8
               from job j join job_chunk c on c.job_id = j.id
               where j.status in ('QUEUED', 'RUNNING') and j.kind = any ($1) and c.status in ('READY', 'RUNNING')
                 and (not j.ordered or c.number = (select min(o.number) from job_chunk o
                                                   where o.job_id = j.id and o.status in ('READY', 'RUNNING')))"#,
            &names(kinds)
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0))))
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

fn names(kinds: &[JobKind]) -> Vec<String> {
    kinds.iter().map(|kind| kind.as_str().to_owned()).collect()
}

fn status_of(name: &str) -> Result<JobStatus> {
    JobStatus::parse(name).ok_or_else(|| Error::internal("an unknown job status"))
}
