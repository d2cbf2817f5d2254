//! The outbox of a queue outside the database. A message is written in the commit that makes work runnable, sent by a
//! relay, and deleted when the queue has accepted it. Messages that the queue loses are written again.
//!
//! **Invariant.** No transaction is open while a message is sent: a relay holds rows by a lease. A message may
//! therefore be sent twice, but is never lost between commit and queue.

use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgTransaction, query, query_file};
use tokio::sync::Notify;

use crate::error::Result;
use crate::id::{BusinessId, JobId};
use crate::job::Message;
use crate::queue;

use super::Store;
use super::batch::Answer;

/// A chunk that has been runnable this long while worker slots are free is announced again.
pub const RESCUE_AFTER: Duration = Duration::from_secs(5);
/// The same for a chunk whose lease has expired, counted from the expiry. The queue delivers its message again at about
/// that time; the lease plus this delay is less than 20 s.
const RESCUE_LAPSED_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of re-announced, still unclaimed chunks: about one minute of work for a small fleet.
const MOST_RESCUED: i64 = 1_000;

/// Wakes the relay when rows are added to the outbox. Shared by all stores of a process.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Waits for a notification; returns at once if one came since the last call.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The id of its row.
    pub id: i64,
    /// The owner of the job; messages of one business do not delay those of another.
    pub business: BusinessId,
    /// The message.
    pub message: Message,
    /// How long it has been due.
    pub waited: Duration,
}

/// The waiting work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Chunks that are runnable and not claimed.
    pub runnable: i64,
    /// How long the oldest of them has been runnable.
    pub oldest: Option<Duration>,
    /// Messages that are not sent yet.
    pub unsent: i64,
}

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingKind {
    /// Work is available.
    WakeUp,
    /// A chunk has failed and will not be tried again.
    DeadLetter,
}

/// The state of the run (`job.attempts`) that a dead letter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetteredRun {
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

/// Whether the caller of a rescue knows that a worker slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hands {
    /// A worker slot has polled without a message for [`RESCUE_AFTER`].
    Idle,
    /// The caller is an API or a busy worker and does not know.
    Unknown,
}

/// Announces the runnable chunks of a job when the transaction commits: by messages in the outbox, or by `NOTIFY`.
pub(super) async fn announce(
    transaction: &mut PgTransaction<'_>,
    job: JobId,
    bell: Option<&Bell>,
) -> Result<()> {
    if bell.is_none() {
        return queue::announce(transaction).await;
    }
    query_file!("src/store/sql/announce_job.sql", job.0).execute(&mut **transaction).await?;
    Ok(())
}

impl Store {
    /// Claims due messages for the time of the lease.
    pub async fn claim_outgoing(
        &self,
        kind: OutgoingKind,
        lease: Duration,
        most: i64,
    ) -> Result<Vec<Outgoing>> {
        let kind = match kind {
            OutgoingKind::WakeUp => "CHUNK",
            OutgoingKind::DeadLetter => "DEAD",
        };
        let rows = query_file!("src/store/sql/claim_outgoing.sql", lease.as_secs_f64(), most, kind)
            .fetch_all(&self.pool)
            .await?;
        let outgoing = rows.into_iter().map(|row| {
            let job = JobId(row.job_id);
            let message = if row.kind == "DEAD" {
                Message::Dead { job, number: row.number, attempt: row.attempt }
            } else {
                Message::Chunk { job, work: row.work }
            };
            let waited = Duration::from_secs_f64(row.waited_seconds.max(0.0));
            Outgoing { id: row.id, business: BusinessId(row.business_id), message, waited }
        });
        Ok(outgoing.collect())
    }

    /// Deletes messages that the queue has accepted.
    pub async fn delete_sent(&self, ids: &[i64]) -> Result<()> {
        query!("delete from outbox where id = any($1)", ids).execute(&self.pool).await?;
        Ok(())
    }

    /// Releases messages that could not be sent; they can be claimed again after the delay.
    pub async fn postpone_outgoing(&self, ids: &[i64], delay: Duration) -> Result<()> {
        query!(
            "update outbox set claimed_until = now() + make_interval(secs => $2) where id = any($1)",
            ids,
            delay.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Announces chunks again whose messages are probably lost; returns the number of messages written.
    pub async fn rescue_chunks(&self, hands: Hands) -> Result<u64> {
        let rescued = query_file!(
            "src/store/sql/rescue_chunks.sql",
            hands == Hands::Idle,
            RESCUE_AFTER.as_secs_f64(),
            RESCUE_LAPSED_AFTER.as_secs_f64(),
            MOST_RESCUED
        )
        .execute(&self.pool)
        .await?;
        self.ring();
        Ok(rescued.rows_affected())
    }

    /// Measures the waiting work.
    pub async fn backlog(&self) -> Result<Backlog> {
        let mut look = self.reports.begin().await?;
        // The caller has given up after 2 s, and abandoned queries would use up the connections.
        query!("set local statement_timeout = '2s'").execute(&mut *look).await?;
        let row = query_file!("src/store/sql/backlog.sql").fetch_one(&mut *look).await?;
        look.rollback().await?;
        let oldest = row.oldest_seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        Ok(Backlog { runnable: row.runnable, oldest, unsent: row.unsent })
    }

    /// The state of a run of a job.
    pub async fn find_run(&self, job: JobId, attempt: i32) -> Result<LetteredRun> {
        let row =
            query!("select business_id, status from job where id = $1 and attempts = $2", job.0, attempt)
                .fetch_optional(&self.pool)
                .await?;
        Ok(match row {
            Some(row) if row.status == "FAILED" => LetteredRun::Failed(BusinessId(row.business_id)),
            Some(row) if row.status == "RUNNING" => LetteredRun::Open,
            Some(_) | None => LetteredRun::Past,
        })
    }

    /// Retries a job, as its owner could, if the run of the dead letter was its last.
    pub async fn redrive_job_if_failed(&self, job: JobId, attempt: i32) -> Result<Redriven> {
        let business = match self.find_run(job, attempt).await? {
            LetteredRun::Failed(business) => business,
            LetteredRun::Open => return Ok(Redriven::TooEarly),
            LetteredRun::Past => return Ok(Redriven::NotNeeded),
        };
        let is_retried = self.retry_run_if_failed(business, job, attempt).await?;
        Ok(if is_retried { Redriven::Retried } else { Redriven::NotNeeded })
    }

    /// Wakes the relay.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.0.notify_one();
        }
    }

    /// Wakes the relay after the answer is committed.
    pub(super) fn ring_after<T>(&self, answer: Result<Answer<T>>) -> Result<Answer<T>> {
        self.ring();
        answer
    }
}
