//! Jobs as they stand: one, a list, those that are watched, and where their errors are.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgExecutor, query_file_as, query_scalar};
use uuid::Uuid;

use crate::error::{Error, Refusal, Result};
use crate::id::{BusinessId, JobId};
use crate::job::{Job, JobKind, JobStatus};
use crate::page::Page;
use crate::store::Store;

use super::discard::check_undiscarded;

/// Which jobs.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only in this state.
    pub status: Option<JobStatus>,
    /// Only of this kind.
    pub kind: Option<JobKind>,
    /// Older than this one.
    pub after: Option<JobId>,
}

impl Store {
    /// The job, if it is the business's.
    pub async fn get_job(&self, business: BusinessId, id: JobId) -> Result<Job> {
        get(&self.pool, business, id).await
    }

    /// A business's jobs, newest first.
    pub async fn list_jobs(&self, business: BusinessId, filter: &JobFilter, limit: u32) -> Result<Page<Job>> {
        let most = i64::from(limit) + 1;
        let jobs = select(&self.pool, business, None, filter, most).await?;
        Ok(Page::cut(jobs, limit, |job| job.id.to_string()))
    }

    /// Those of these jobs that there are, of whatever business: for whoever was allowed to see each of them before.
    pub async fn watched_jobs(&self, ids: &[JobId]) -> Result<Vec<Job>> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
        let rows =
            query_file_as!(JobRow, "src/store/sql/watched_jobs.sql", &ids).fetch_all(&self.pool).await?;
        rows.into_iter().map(Job::try_from).collect()
    }

    /// Where the errors of a job's settled chunks are, in the order of the chunks.
    pub async fn errors_files(&self, business: BusinessId, id: JobId) -> Result<Vec<String>> {
        get(&self.pool, business, id).await?;
        check_undiscarded(&self.pool, id).await?;
        let files = query_scalar!(
            r#"select errors_file as "file!" from job_chunk where job_id = $1 and errors_file is not null order by number"#,
            id.0
        )
        .fetch_all(&self.pool)
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
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self> {
        Ok(Self {
            id: JobId(row.id),
            business: BusinessId(row.business_id),
            kind: JobKind::parse(&row.kind).ok_or_else(|| Error::internal("an unknown kind of job"))?,
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

/// The job, wherever the executor looks.
pub(in crate::store) async fn get(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    id: JobId,
) -> Result<Job> {
    let job = select(executor, business, Some(id), &JobFilter::default(), 1).await?.pop();
    job.ok_or_else(|| Refusal::not_found("job").into())
}

async fn select(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    id: Option<JobId>,
    filter: &JobFilter,
    limit: i64,
) -> Result<Vec<Job>> {
    let rows = query_file_as!(
        JobRow,
        "src/store/sql/jobs.sql",
        business.0,
        id.map(|id| id.0),
        filter.status.map(JobStatus::as_str),
        filter.kind.map(JobKind::as_str),
        filter.after.map(|id| id.0),
        limit
    )
    .fetch_all(executor)
    .await?;
    rows.into_iter().map(Job::try_from).collect()
}
