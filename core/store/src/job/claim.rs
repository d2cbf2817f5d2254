//! Claims of chunks: taken with a lease and an epoch, renewed, and given back without an effect.

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgTransaction, query, query_file, query_file_scalar, query_scalar};

use crate::audit;
use crate::error::{Error, Result};
use crate::metrics;
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::{JobKind, Task};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::trace::TraceParent;

use crate::Store;

/// A chunk that this worker holds for the time of its lease.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its job.
    pub job: JobId,
    /// The job's owner.
    pub business: BusinessId,
    /// The submitter of the job.
    pub created_by: String,
    /// Its number within the job.
    pub number: i32,
    /// The number of claims so far; identifies the latest claim.
    pub epoch: i32,
    /// The number of failed attempts.
    pub attempts: i32,
    /// The number of attempts in which its worker died or a statement exceeded its time limit.
    pub crashes: i32,
    /// Its work.
    pub task: Task,
    /// The span that submitted the job.
    pub trace: Option<TraceParent>,
    /// Whether runnable chunks are announced through the outbox.
    pub(crate) has_outbox: bool,
}

impl Claim {
    /// The book that the job works on.
    pub(crate) fn book(&self) -> Result<BookId> {
        self.task.book().ok_or_else(|| Error::internal("the job has no book"))
    }

    /// The name of its database session, within the limit of Postgres.
    pub(crate) fn session_name(&self) -> String {
        format!("chunk {} {} {}", self.job, self.number, self.epoch)
    }
}

/// The counter that the release of a chunk increases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReleaseReason {
    Nothing,
    KeyedChange,
    Crash,
}

/// The result of a heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimState {
    /// This worker still holds the chunk.
    Held,
    /// Another worker has claimed the chunk, or the job was stopped.
    Lost,
}

impl Store {
    /// Claims the runnable chunk that is next by the rules of fairness.
    pub async fn claim_chunk(
        &self,
        worker: &str,
        lease: Duration,
        kinds: &[JobKind],
    ) -> Result<Option<Claim>> {
        let row = query_file!("src/sql/claim_chunk.sql", worker, lease.as_secs_f64(), &names(kinds))
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
                has_outbox: self.notifier.is_some(),
            };
            if row.taken_over {
                metrics::lease_taken_over(claim.task.kind());
            }
            Ok(claim)
        });
        claim.transpose()
    }

    /// Records that the chunk is being executed, and renews its lease.
    pub async fn renew_lease_if_held(&self, claim: &Claim, lease: Duration) -> Result<ClaimState> {
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
        Ok(if job.is_some() { ClaimState::Held } else { ClaimState::Lost })
    }

    /// Ends idle sessions in the transaction of a chunk whose lease has expired; returns their number.
    pub async fn end_lapsed_sessions(&self) -> Result<i64> {
        Ok(query_file_scalar!("src/sql/end_lapsed_sessions.sql").fetch_one(&self.pool).await?)
    }

    /// Releases the chunk after a failure, runnable after `delay`. Counts an attempt.
    pub async fn retry_chunk_if_held(
        &self,
        claim: &Claim,
        delay: Duration,
        error: &str,
    ) -> Result<ClaimState> {
        self.free_chunk_if_held(claim, delay, ReleaseReason::KeyedChange, Some(error)).await
    }

    /// Releases the chunk at a shutdown or an outage, runnable after `delay`. Counts no attempt.
    pub async fn release_chunk_if_held(&self, claim: &Claim, delay: Duration) -> Result<ClaimState> {
        self.free_chunk_if_held(claim, delay, ReleaseReason::Nothing, None).await
    }

    /// Releases a chunk of which a statement exceeded its time limit. Counts a crash.
    pub async fn release_late_chunk_if_held(
        &self,
        claim: &Claim,
        delay: Duration,
        error: &str,
    ) -> Result<ClaimState> {
        self.free_chunk_if_held(claim, delay, ReleaseReason::Crash, Some(error)).await
    }

    async fn free_chunk_if_held(
        &self,
        claim: &Claim,
        delay: Duration,
        spent: ReleaseReason,
        error: Option<&str>,
    ) -> Result<ClaimState> {
        let held = query_file_scalar!(
            "src/sql/free_chunk.sql",
            claim.job.0,
            claim.number,
            claim.epoch,
            delay.as_secs_f64(),
            i32::from(spent == ReleaseReason::KeyedChange),
            error,
            claim.has_outbox,
            i32::from(spent == ReleaseReason::Crash)
        )
        .fetch_one(&self.pool)
        .await?;
        self.notify_relay();
        Ok(if held { ClaimState::Held } else { ClaimState::Lost })
    }

    /// Ends all leases, including that of housekeeping, so that the chunks of a dead process need not wait. Only for a program
    /// that knows that no other program uses this database. Returns the number of leased chunks.
    pub async fn end_all_leases(&self) -> Result<u64> {
        let ended = query!(
            "with house as (update housekeeping_lease set until = now() where until > now()),
                  delivery as (update webhook_delivery set lease_until = null where status = 'PENDING' and lease_until is not null)
             update job_chunk set lease_until = now()
             where status = 'RUNNING' and lease_until > now()
               and job_id in (select id from job where status in ('QUEUED', 'RUNNING'))"
        )
        .execute(&self.pool)
        .await?;
        Ok(ended.rows_affected())
    }

    /// The time until the delay or the lease of a chunk of these kinds ends. `None` if there is no such chunk.
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

/// Begins the transaction of a chunk, with its job as the actor, and names the session after the claim. If the process stops in the
/// transaction, [`Store::end_lapsed_sessions`] ends the session after the lease.
pub(crate) async fn begin<'c>(connection: &'c mut PgConnection, claim: &Claim) -> Result<PgTransaction<'c>> {
    let mut transaction = connection.begin().await?;
    query!(
        "select set_config('application_name', $1, true) as session, set_config('cuponera.audit', $2, true) as audit",
        claim.session_name(),
        audit::setting(&AuditContext::of_job(claim.job))?
    )
    .fetch_one(&mut *transaction)
    .await?;
    Ok(transaction)
}

fn names(kinds: &[JobKind]) -> Vec<String> {
    kinds.iter().map(|kind| kind.as_str().to_owned()).collect()
}
