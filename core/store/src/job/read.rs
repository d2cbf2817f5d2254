//! Reading jobs: one job, lists, watched jobs, and errors files of earlier versions.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, query_file, query_file_as, query_scalar};
use uuid::Uuid;

use crate::Store;
use crate::error::{Error, Result};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::{Job, JobKind, JobStatus};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;

use super::discard::check_undiscarded;

/// A filter of a list of jobs.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only jobs with this status.
    pub status: Option<JobStatus>,
    /// Only jobs of this kind.
    pub kind: Option<JobKind>,
    /// Only jobs older than this one.
    pub after: Option<JobId>,
}

/// Maximum number of jobs that a page examines. A row has about 500 bytes and half of each block is kept free, so a
/// page reads less than 2 MB.
pub const MAX_JOBS_EXAMINED: i64 = 1_000;

impl Store {
    /// The job, if it belongs to the business.
    pub async fn get_job(&self, business: BusinessId, id: JobId) -> Result<Job> {
        get(&self.reads, business, id).await
    }

    /// The book of a job, if it has one. It never changes.
    pub async fn get_book_of_job(&self, business: BusinessId, id: JobId) -> Result<Option<BookId>> {
        let book =
            query_scalar!("select book_id from job where business_id = $1 and id = $2", business.0, id.0);
        let book = book.fetch_optional(&self.reads).await?.ok_or_else(|| Rejection::not_found("job"))?;
        Ok(book.map(BookId))
    }

    /// A business's jobs, newest first. A page may be short.
    pub async fn list_jobs(&self, business: BusinessId, filter: &JobFilter, limit: u32) -> Result<Page<Job>> {
        if let Some(status @ (JobStatus::Queued | JobStatus::Running)) = filter.status
            && let Some(page) = self.open_jobs(business, status, filter, limit).await?
        {
            return Ok(page);
        }
        let rows = query_file_as!(
            JobRow,
            "src/sql/jobs.sql",
            business.0,
            filter.status.map(JobStatus::as_str),
            filter.kind.map(JobKind::as_str),
            filter.after.map(|id| id.0),
            MAX_JOBS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
            Job::try_from(row).map(examined)
        });
        Ok(Page::of_examined(rows.collect::<Result<_>>()?, limit, |job: &Job| job.id.to_string()))
    }

    /// A page of open jobs from the index of all open jobs; `None` if the page ends at the bound.
    async fn open_jobs(
        &self,
        business: BusinessId,
        status: JobStatus,
        filter: &JobFilter,
        limit: u32,
    ) -> Result<Option<Page<Job>>> {
        let found = query_file!(
            "src/sql/open_jobs.sql",
            business.0,
            status.as_str(),
            filter.kind.map(JobKind::as_str),
            filter.after.map(|id| id.0),
            MAX_JOBS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_one(&self.reads)
        .await?;
        if !found.is_whole {
            return Ok(None);
        }
        let ids = Page::cut(found.ids.into_iter().map(JobId).collect(), limit, JobId::to_string);
        let mut items = self.watched_jobs(&ids.items).await?;
        // The status of a job may have changed since the index was read.
        items.retain(|job| job.status == status);
        items.sort_unstable_by_key(|job| std::cmp::Reverse(job.id.0));
        Ok(Some(Page { items, next_cursor: ids.next_cursor, total: None }))
    }

    /// Those of these jobs that exist, of any business. The caller must already have checked access to each job.
    pub async fn watched_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows = query_file_as!(JobRow, "src/sql/watched_jobs.sql", &ids).fetch_all(&self.reads).await?;
        rows.into_iter().map(Job::try_from).collect()
    }

    /// The errors files of a job, in the order of the chunks. Earlier versions wrote them when they finished a chunk;
    /// this version writes [`RejectedRow`](crate::Rejection)s.
    pub async fn errors_files(&self, business: BusinessId, id: JobId) -> Result<Vec<String>> {
        get(&self.reads, business, id).await?;
        check_undiscarded(&self.reads, id).await?;
        let files = query_scalar!(
            r#"select errors_file as "file!" from job_chunk where job_id = $1 and errors_file is not null order by number"#,
            id.0
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(files)
    }
}

/// A row of `job` as it is read.
struct JobRow {
    id: Uuid,
    business_id: Uuid,
    kind: String,
    status: String,
    total: Option<i64>,
    succeeded: i64,
    failed: i64,
    result: Value,
    error: Option<Value>,
    warnings: Value,
    attempts: i32,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    heartbeat_at: Option<DateTime<Utc>>,
    read_at: DateTime<Utc>,
    /// Whether the job is in the list; if not, it is the last job examined.
    is_found: bool,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self> {
        Ok(Self {
            id: JobId(row.id),
            business: BusinessId(row.business_id),
            kind: row.kind,
            status: JobStatus::parse(&row.status).ok_or_else(|| Error::internal("an unknown job status"))?,
            total: row.total,
            succeeded: row.succeeded,
            failed: row.failed,
            result: row.result,
            error: row.error.map(serde_json::from_value).transpose().map_err(Error::internal)?,
            warnings: serde_json::from_value(row.warnings).map_err(Error::internal)?,
            attempts: row.attempts,
            created_at: row.created_at,
            started_at: row.started_at,
            finished_at: row.finished_at,
            heartbeat_at: row.heartbeat_at,
            read_at: row.read_at,
        })
    }
}

/// The job, read with the given connection or transaction.
pub(crate) async fn get(executor: impl PgExecutor<'_>, business: BusinessId, id: JobId) -> Result<Job> {
    let row = query_file_as!(JobRow, "src/sql/job.sql", business.0, id.0).fetch_optional(executor).await?;
    row.ok_or_else(|| Rejection::not_found("job"))?.try_into()
}
