//! Rescue: chunks whose messages the queue has probably lost are announced again. Also the size of the waiting work.

use std::time::Duration;

use sqlx::{query, query_file};

use crate::error::Result;

use super::Store;

/// A chunk that has been runnable this long while worker slots are free is announced again.
pub const RESCUE_AFTER: Duration = Duration::from_secs(5);
/// The same for a chunk whose lease has expired, counted from the expiry. The queue delivers its message again at about
/// that time; the lease plus this delay is less than 20 s.
const RESCUE_EXPIRED_AFTER: Duration = Duration::from_secs(2);
/// Maximum number of re-announced, still unclaimed chunks: about one minute of work for a small fleet.
const MAX_RESCUED: i64 = 1_000;

/// The waiting work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Chunks that are runnable and not claimed.
    pub runnable: i64,
    /// How long the oldest of them has been runnable.
    pub oldest: Option<Duration>,
    /// Messages that are not sent yet.
    pub unsent: i64,
    /// Pending deliveries of webhooks, at most 100,000.
    pub deliveries: i64,
}

/// Whether the caller of a rescue knows that a worker slot is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerAvailability {
    /// A worker slot has polled without a message for [`RESCUE_AFTER`].
    Idle,
    /// The caller is an API or a busy worker and does not know.
    Unknown,
}

impl Store {
    /// Announces chunks again whose messages are probably lost; returns the number of messages written.
    pub async fn rescue_chunks(&self, availability: WorkerAvailability) -> Result<u64> {
        let rescued = query_file!(
            "src/sql/rescue_chunks.sql",
            availability == WorkerAvailability::Idle,
            RESCUE_AFTER.as_secs_f64(),
            RESCUE_EXPIRED_AFTER.as_secs_f64(),
            MAX_RESCUED
        )
        .execute(&self.pool)
        .await?;
        self.notify_relay();
        Ok(rescued.rows_affected())
    }

    /// Measures the waiting work.
    pub async fn backlog(&self) -> Result<Backlog> {
        let mut look = self.reports.begin().await?;
        // The caller has given up after 2 s, and abandoned queries would use up the connections.
        query!("set local statement_timeout = '2s'").execute(&mut *look).await?;
        let row = query_file!("src/sql/backlog.sql").fetch_one(&mut *look).await?;
        look.rollback().await?;
        let oldest = row.oldest_seconds.map(|seconds| Duration::from_secs_f64(seconds.max(0.0)));
        Ok(Backlog { runnable: row.runnable, oldest, unsent: row.unsent, deliveries: row.deliveries })
    }
}
