//! Deleting the details of old jobs: chunks, rejected rows, dry runs, and with them the right to their files. The row of a job stays, as the
//! record of the codes that it made.
//!
//! **Invariant.** A job is marked before any of its details is deleted, and a marked job is not retried.

use std::time::Duration;

use sqlx::{PgExecutor, query, query_file_scalar, query_scalar};

use crate::error::{Refusal, Result};
use crate::id::JobId;
use crate::store::Store;

/// Jobs that one statement marks.
const MARKED_AT_ONCE: i64 = 100;
/// Chunks, or rejected rows, that one statement deletes.
const ROWS_AT_ONCE: i64 = 5_000;

impl Store {
    /// Marks some of the jobs that ended before `retention` ago, whose details may be deleted from now on. Those that were
    /// marked before and whose details are still there come again.
    pub async fn mark_jobs_to_discard(&self, retention: Duration) -> Result<Vec<JobId>> {
        let marked = query_file_scalar!(
            "src/store/sql/mark_jobs_to_discard.sql",
            retention.as_secs_f64(),
            MARKED_AT_ONCE
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(marked.into_iter().map(JobId).collect())
    }

    /// Deletes the rejected rows and the chunks of a marked job. Its files are deleted by now, and it does not come again.
    pub async fn discard_job(&self, job: JobId) -> Result<()> {
        loop {
            let slice = query!(
                "delete from import_rejection r using job j
                 where j.id = $1 and j.discarding_at is not null and r.job_id = j.id
                   and (r.chunk, r.line) in (select chunk, line from import_rejection where job_id = $1
                                             order by chunk, line limit $2)",
                job.0,
                ROWS_AT_ONCE
            )
            .execute(&self.pool)
            .await?;
            if slice.rows_affected() == 0 {
                break;
            }
        }
        loop {
            let slice = query!(
                "delete from job_chunk c using job j
                 where j.id = $1 and j.discarding_at is not null and c.job_id = j.id
                   and c.number in (select number from job_chunk where job_id = $1 order by number limit $2)",
                job.0,
                ROWS_AT_ONCE
            )
            .execute(&self.pool)
            .await?;
            if slice.rows_affected() == 0 {
                break;
            }
        }
        query!(
            "update job set discarded_at = now() where id = $1 and discarding_at is not null and discarded_at is null",
            job.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Refuses a job whose details are deleted, or are being deleted.
pub(super) async fn check_undiscarded(executor: impl PgExecutor<'_>, job: JobId) -> Result<()> {
    let is_discarded = query_scalar!(
        r#"select exists (select from job where id = $1 and discarding_at is not null) as "is_discarded!""#,
        job.0
    )
    .fetch_one(executor)
    .await?;
    if is_discarded { Err(Refusal::JobDiscarded.into()) } else { Ok(()) }
}
