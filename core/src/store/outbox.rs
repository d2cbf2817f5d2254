//! Wake-ups for a queue outside the database: written in the commit that gives cause for them, sent by a relay, deleted once
//! the queue has them. What the queue loses all the same is written again.
//!
//! **Invariant.** Nothing is open while a message is on the network: a relay holds rows by a lease. So a message may be sent
//! twice, and is never lost between commit and queue.

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

/// For so long a chunk may be runnable without anybody coming for it, while hands are free.
pub const RESCUE_AFTER: Duration = Duration::from_secs(5);
/// The same for a chunk whose lease ran out. Its message comes back about then; together with the lease this stays under 20 s.
const RESCUE_LAPSED_AFTER: Duration = Duration::from_secs(2);
/// So many chunks at most have been announced again and are still not claimed: a minute's work for a small fleet.
const MOST_RESCUED: i64 = 1_000;

/// Tells whoever sends what is in the outbox that there is more. Shared by all stores of a process.
#[derive(Debug, Clone, Default)]
pub struct Bell(Arc<Notify>);

impl Bell {
    /// Waits until it was rung, or was since the last time.
    pub async fn rung(&self) {
        self.0.notified().await;
    }
}

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its row.
    pub id: i64,
    /// Whose work it is about: messages of one business do not hold up another's.
    pub business: BusinessId,
    /// What to say.
    pub message: Message,
    /// For how long it has been due.
    pub waited: Duration,
}

/// The work that waits, as Postgres knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Chunks that could run now and are in nobody's hands.
    pub runnable: i64,
    /// How long the oldest of them has been runnable.
    pub oldest: Option<Duration>,
    /// Messages that the queue does not have yet.
    pub unsent: i64,
}

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingKind {
    /// That there is work.
    WakeUp,
    /// That work failed for the last time.
    DeadLetter,
}

/// How the run of a job stands that a dead letter tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LetteredRun {
    /// The job has failed, and was not retried since.
    Failed(BusinessId),
    /// Other chunks are still worked.
    Open,
    /// The job is gone, was retried since, or is not in a state to be retried.
    Past,
}

/// What became of a dead letter's job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// It runs again.
    Retried,
    /// The run that it tells of is not over: other chunks are still worked.
    TooEarly,
    /// It is gone, was retried since, or is not in a state to be retried.
    NotNeeded,
}

/// Whether hands are known to be free, when somebody asks for lost work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hands {
    /// A worker has had a free place and no message for [`RESCUE_AFTER`].
    Idle,
    /// Whoever asks cannot tell: an API, or a worker that is busy.
    Unknown,
}

/// Announces the chunks of a job that may run, to whoever hears of work: when the transaction commits.
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
    /// Takes messages that are due, for the time of the lease.
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

    /// Forgets messages that the queue has.
    pub async fn delete_sent(&self, ids: &[i64]) -> Result<()> {
        query!("delete from outbox where id = any($1)", ids).execute(&self.pool).await?;
        Ok(())
    }

    /// Gives back messages that could not be sent, to be taken again after a delay.
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

    /// Announces chunks again that nobody came for; says how many.
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

    /// What waits.
    pub async fn backlog(&self) -> Result<Backlog> {
        let mut look = self.reports.begin().await?;
        // Whoever asks has gone by then, and many looks that nobody waits for would take all connections.
        query!("set local statement_timeout = '2s'").execute(&mut *look).await?;
        let row = query_file!("src/store/sql/backlog.sql").fetch_one(&mut *look).await?;
        look.rollback().await?;
        let oldest = row.oldest_seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        Ok(Backlog { runnable: row.runnable, oldest, unsent: row.unsent })
    }

    /// How the run of a job stands that a dead letter tells of.
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

    /// Retries a job as its owner could, if the run that the dead letter tells of was its last.
    pub async fn redrive_job_if_failed(&self, job: JobId, attempt: i32) -> Result<Redriven> {
        let business = match self.find_run(job, attempt).await? {
            LetteredRun::Failed(business) => business,
            LetteredRun::Open => return Ok(Redriven::TooEarly),
            LetteredRun::Past => return Ok(Redriven::NotNeeded),
        };
        let is_retried = self.retry_run_if_failed(business, job, attempt).await?;
        Ok(if is_retried { Redriven::Retried } else { Redriven::NotNeeded })
    }

    /// Tells whoever sends that there may be more to send.
    pub(super) fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.0.notify_one();
        }
    }

    /// The same, once an answer is committed.
    pub(super) fn ring_after<T>(&self, answer: Result<Answer<T>>) -> Result<Answer<T>> {
        self.ring();
        answer
    }
}
