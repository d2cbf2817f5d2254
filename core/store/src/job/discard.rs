//! Deletes the details of old jobs: chunks, rejected rows, dry runs and access to their files. The row of a job stays, as the
//! record of the codes that it created.
//!
//! **Invariant.** A job is marked before any of its details is deleted, and a marked job is not retried.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgExecutor, query, query_file_scalar, query_scalar};

use crate::Store;
use crate::error::Result;
use cuponera_domain::id::JobId;
use cuponera_domain::rejection::Rejection;

/// Maximum number of jobs that one statement marks.
const MARKED_AT_ONCE: i64 = 100;
/// Maximum number of rows that one statement deletes.
const ROWS_AT_ONCE: i64 = 5_000;

impl Store {
    /// The same connections, for a worker that deletes the details of jobs this long after their end.
    #[must_use]
    pub fn with_job_retention(mut self, retention: Duration) -> Self {
        self.job_retention = Some(retention);
        self
    }

    /// Marks some of the jobs that ended more than `retention` ago; their details may then be deleted. Also returns jobs that
    /// are marked already and still have details.
    pub async fn mark_jobs_to_discard(&self, retention: Duration) -> Result<Vec<JobId>> {
        let marked =
            query_file_scalar!("src/sql/mark_jobs_to_discard.sql", retention.as_secs_f64(), MARKED_AT_ONCE)
                .fetch_all(&self.pool)
                .await?;
        Ok(marked.into_iter().map(JobId).collect())
    }

    /// Marks a job that has ended, before its retention period ends. False if it has not ended.
    pub async fn mark_job_to_discard(&self, job: JobId) -> Result<bool> {
        let marked = query!(
            "update job set discarding_at = coalesce(discarding_at, now())
             where id = $1 and status in ('SUCCEEDED', 'FAILED', 'CANCELLED')",
            job.0
        );
        Ok(marked.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// Deletes the rejected rows and the chunks of a marked job, after its files are deleted. It is not returned again.
    pub async fn discard_job(&self, job: JobId) -> Result<()> {
        for (table, key) in [
            ("import_rejection", "chunk, line"),
            ("distribution_given", "ordinal, slice"),
            ("distribution_slice", "number"),
            ("distribution_member", "ordinal"),
            ("export_part", "number"),
            ("export_book", "ordinal"),
            ("export_file", "job_id"),
            ("job_chunk", "number"),
        ] {
            self.delete_in_slices(table, key, job).await?;
        }
        query!(
            "with freed as (delete from job_storage s using job j
                            where j.id = $1 and j.discarding_at is not null and s.job_id = j.id)
             update job set discarded_at = now() where id = $1 and discarding_at is not null and discarded_at is null",
            job.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes the rows of a marked job from one of its tables, in the order of their key.
    async fn delete_in_slices(&self, table: &'static str, key: &'static str, job: JobId) -> Result<()> {
        let slice = format!(
            "delete from {table} d using job j
             where j.id = $1 and j.discarding_at is not null and d.job_id = j.id
               and ({key}) in (select {key} from {table} where job_id = $1 order by {key} limit $2)"
        );
        loop {
            let deleted = query(AssertSqlSafe(slice.clone())).bind(job.0).bind(ROWS_AT_ONCE);
            if deleted.execute(&self.pool).await?.rows_affected() == 0 {
                return Ok(());
            }
        }
    }
}

/// Rejects a job whose details are deleted or being deleted.
pub(crate) async fn check_undiscarded(executor: impl PgExecutor<'_>, job: JobId) -> Result<()> {
    let is_discarded = query_scalar!(
        r#"select exists (select from job where id = $1 and discarding_at is not null) as "is_discarded!""#,
        job.0
    )
    .fetch_one(executor)
    .await?;
    if is_discarded { Err(Rejection::JobDiscarded.into()) } else { Ok(()) }
}
