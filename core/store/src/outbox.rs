//! The outbox of a queue outside the database. A message is written in the commit that makes work runnable, sent by a
//! relay, and deleted when the queue has accepted it. Messages that the queue loses are written again.
//!
//! **Invariant.** No transaction is open while a message is sent: a relay holds rows by a lease. A message may
//! therefore be sent twice, but is never lost between commit and queue.

use std::time::Duration;

use sqlx::{PgTransaction, query, query_file};

use crate::error::Result;
use crate::work_channel::notify_workers;
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::job::Message;

use super::Store;
use super::notifier::Notifier;
use super::request_key::CallResult;

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

/// A kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutgoingKind {
    /// Work is available.
    WakeUp,
    /// A chunk has failed and will not be tried again.
    DeadLetter,
}

/// Announces the runnable chunks of a job when the transaction commits: by messages in the outbox, or by `NOTIFY`.
pub(super) async fn announce(
    transaction: &mut PgTransaction<'_>,
    job: JobId,
    notifier: Option<&Notifier>,
) -> Result<()> {
    if notifier.is_none() {
        return notify_workers(transaction).await;
    }
    query_file!("src/sql/announce_job.sql", job.0).execute(&mut **transaction).await?;
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
        let rows = query_file!("src/sql/claim_outgoing.sql", lease.as_secs_f64(), most, kind)
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

    /// Wakes the relay.
    pub(super) fn notify_relay(&self) {
        if let Some(notifier) = &self.notifier {
            notifier.notify_relay();
        }
    }

    /// Wakes the relay after the answer is committed.
    pub(super) fn notify_relay_after<T>(&self, answer: Result<CallResult<T>>) -> Result<CallResult<T>> {
        self.notify_relay();
        answer
    }
}
