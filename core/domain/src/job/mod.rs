//! Jobs: long work as data. A job is a row with totals, and chunks that run concurrently and are retried independently.

mod kind;
mod message;
mod retry;
mod stage;
mod warning;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{BusinessId, JobId};

pub use kind::generate::CODES_PER_CHUNK;
pub use kind::{
    ChunkWork, JobKind, Task, Work, assign_codes, delete_book, distribute, export, generate, import,
    import_members, take_back, void_codes,
};
pub use message::Message;
pub use retry::{MAX_ATTEMPTS, MAX_CRASHES, retry_delay};
pub use stage::Stage;
pub use warning::JobWarning;

/// The status of a job. Except for cancellation, it is a function of the statuses of its chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// No chunk was started.
    Queued,
    /// Chunks run or wait for a retry.
    Running,
    /// All chunks are done.
    Succeeded,
    /// All chunks are finished and at least one failed, or a rule stopped the job.
    Failed,
    /// A caller cancelled it.
    Cancelled,
}

impl JobStatus {
    /// All statuses.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether the job has ended. Only a retry changes it further.
    pub fn is_over(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    /// A stable code.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// A job as clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub business: BusinessId,
    /// The name of a [`JobKind`], or of a kind that only newer versions know.
    pub kind: String,
    /// Its status.
    pub status: JobStatus,
    /// Total number of rows, once known.
    pub total: Option<i64>,
    /// Number of rows done.
    pub succeeded: i64,
    /// Number of rejected rows, such as duplicates and invalid rows.
    pub failed: i64,
    /// The result so far, or the final result.
    pub result: Value,
    /// Why it failed.
    pub error: Option<JobError>,
    /// Warnings for the owner.
    #[serde(default)]
    pub warnings: Vec<JobWarning>,
    /// Number of starts: the first and each retry.
    pub attempts: i32,
    /// Time of the submission.
    pub created_at: DateTime<Utc>,
    /// Time at which its first chunk was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// Time of its end.
    pub finished_at: Option<DateTime<Utc>>,
    /// Time of the last claim, heartbeat or end of a chunk.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// The database's time of this reading.
    pub read_at: DateTime<Utc>,
}

impl Job {
    /// Number of rows done or rejected.
    pub fn processed(&self) -> i64 {
        self.succeeded + self.failed
    }

    /// Share of the processed rows, from 0 to 100: rows may be added while an export reads them.
    pub fn percent(&self) -> Option<f64> {
        match self.total? {
            0 => Some(100.0),
            total => Some((as_f64(self.processed()) * 100.0 / as_f64(total)).min(100.0)),
        }
    }

    /// Processed rows per second since the start.
    pub fn rate_per_second(&self) -> Option<f64> {
        let seconds =
            as_f64((self.finished_at.unwrap_or(self.read_at) - self.started_at?).num_milliseconds()) / 1000.0;
        (seconds > 0.0 && self.processed() > 0).then(|| as_f64(self.processed()) / seconds)
    }

    /// Estimated seconds until the end; `None` if the job has ended.
    pub fn eta_seconds(&self) -> Option<f64> {
        let left = as_f64((self.total? - self.processed()).max(0));
        (!self.status.is_over()).then_some(left / self.rate_per_second()?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and percentages, not sums")]
fn as_f64(number: i64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::Job;

    /// A job that has run for ten seconds.
    fn job(total: Option<i64>, succeeded: i64) -> Job {
        let job = json!({
            "id": Uuid::nil(), "business": Uuid::nil(), "kind": "EXPORT", "status": "RUNNING",
            "total": total, "succeeded": succeeded, "failed": 0, "result": {}, "error": Value::Null, "attempts": 1,
            "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:00Z", "finished_at": Value::Null,
            "heartbeat_at": Value::Null, "read_at": "2026-01-01T00:00:10Z",
        });
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn progress_stays_within_its_limits_if_more_rows_come_than_were_planned() {
        let progress = |job: Job| (job.percent(), job.eta_seconds());
        assert_eq!(progress(job(Some(200), 50)), (Some(25.0), Some(30.0)));
        assert_eq!(progress(job(Some(200), 500)), (Some(100.0), Some(0.0)));
        assert_eq!(progress(job(Some(0), 0)), (Some(100.0), None));
        assert_eq!(progress(job(None, 500)), (None, None));
    }
}
