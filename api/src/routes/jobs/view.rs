//! Jobs in responses.

use cuponera_domain::job::{Job, JobWarning};
use cuponera_store::Redrive;
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

/// A job.
#[derive(Debug, Object)]
#[oai(rename = "Job", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct JobView {
    pub(crate) id: Uuid,
    /// `GENERATE_CODES`, `IMPORT_CODES`, `DELETE_BOOK`, `VOID_CODES`, `IMPORT_MEMBERS`, `DISTRIBUTE`,
    /// `TAKE_BACK`, `ASSIGN_CODES` or `EXPORT`.
    kind: String,
    /// `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`.
    status: String,
    progress: ProgressView,
    /// The result so far; final when the job has ended.
    result: Option<Value>,
    error: Option<JobErrorView>,
    /// Absent if there are no warnings.
    warnings: Option<Vec<JobWarningView>>,
    /// The number of starts: the first one and each retry.
    attempts: i32,
    created_at: Time,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    heartbeat_at: Option<Time>,
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let rounded = |number: f64| (number * 10.0).round() / 10.0;
        Self {
            id: job.id.0,
            kind: job.kind.clone(),
            status: job.status.as_str().into(),
            progress: ProgressView {
                total: job.total,
                processed: job.processed(),
                succeeded: job.succeeded,
                failed: job.failed,
                percent: job.percent().map(rounded),
                rate_per_second: job.rate_per_second().map(rounded),
                eta_seconds: job.eta_seconds().map(rounded),
            },
            result: Some(job.result),
            error: job.error.map(|error| JobErrorView { code: error.code, detail: error.detail }),
            warnings: warnings_of(job.warnings),
            attempts: job.attempts,
            created_at: job.created_at.into(),
            started_at: job.started_at.map(Time::from),
            finished_at: job.finished_at.map(Time::from),
            heartbeat_at: job.heartbeat_at.map(Time::from),
        }
    }
}

/// Progress, in rows.
#[derive(Debug, Object)]
#[oai(rename = "Progress", rename_all = "camelCase")]
struct ProgressView {
    /// Null until it is known.
    total: Option<i64>,
    /// `succeeded` and `failed` together.
    processed: i64,
    succeeded: i64,
    /// Rejected rows, duplicates included.
    failed: i64,
    /// 0 to 100; null until `total` is known.
    percent: Option<f64>,
    rate_per_second: Option<f64>,
    /// Estimated seconds until the end at the current rate. Null when the job has ended.
    eta_seconds: Option<f64>,
}

/// Why a job failed.
#[derive(Debug, Object)]
#[oai(rename = "JobError")]
struct JobErrorView {
    /// A stable code.
    code: String,
    detail: String,
}

/// A warning about a job that succeeds as requested.
#[derive(Debug, Object)]
#[oai(rename = "JobWarning")]
struct JobWarningView {
    /// A stable code: `guessable_codes`.
    code: String,
    /// A sentence for people, including the remedy.
    detail: String,
}

/// None if there are no warnings.
fn warnings_of(warnings: Vec<JobWarning>) -> Option<Vec<JobWarningView>> {
    let view = |warning: JobWarning| JobWarningView { code: warning.code, detail: warning.detail };
    (!warnings.is_empty()).then(|| warnings.into_iter().map(view).collect())
}

/// Failed jobs that were queued again.
#[derive(Debug, Object)]
#[oai(rename = "Redrive", rename_all = "camelCase")]
pub(crate) struct RedriveView {
    /// The number of jobs that were queued again.
    retried_count: u64,
    /// Their ids, oldest first.
    job_ids: Vec<Uuid>,
    /// The number of failed jobs that are left for another call.
    remaining_count: u64,
}

impl From<Redrive> for RedriveView {
    fn from(redrive: Redrive) -> Self {
        Self {
            retried_count: redrive.jobs.len().try_into().unwrap_or(u64::MAX),
            job_ids: redrive.jobs.into_iter().map(|id| id.0).collect(),
            remaining_count: redrive.remaining,
        }
    }
}
