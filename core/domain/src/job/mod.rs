//! Jobs: long work as data. A job is a row with a tally, and chunks that are worked side by side and retried alone.

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
pub use kind::{ChunkWork, JobKind, Task, Work, delete_book, distribute, generate, import, import_members};
pub use message::Message;
pub use retry::{MAX_ATTEMPTS, MAX_CRASHES, retry_delay};
pub use stage::Stage;
pub use warning::JobWarning;

/// Where a job stands: a function of the tally of its chunks, but for cancelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// No chunk was started.
    Queued,
    /// Chunks are worked, or wait to be tried again.
    Running,
    /// All chunks are done.
    Succeeded,
    /// All chunks are settled, and at least one could not be done; or the job cannot go on.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing more will happen unless somebody retries.
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
    /// A stable word.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

/// A job as its clients see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Its owner.
    pub business: BusinessId,
    /// What it does: the name of a [`JobKind`], or of a kind that only newer programs know.
    pub kind: String,
    /// Where it stands.
    pub status: JobStatus,
    /// How many rows it has to do, once known.
    pub total: Option<i64>,
    /// Rows done.
    pub succeeded: i64,
    /// Rows refused: duplicates, invalid ones.
    pub failed: i64,
    /// What came out, so far or in the end.
    pub result: Value,
    /// Why it failed.
    pub error: Option<JobError>,
    /// What its owner should know all the same.
    #[serde(default)]
    pub warnings: Vec<JobWarning>,
    /// How often it was started: the first time and each retry.
    pub attempts: i32,
    /// When it was submitted.
    pub created_at: DateTime<Utc>,
    /// When its first chunk was claimed.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When a worker last said that it is at it.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// The database's time of this reading.
    pub read_at: DateTime<Utc>,
}

impl Job {
    /// Rows done and refused.
    pub fn processed(&self) -> i64 {
        self.succeeded + self.failed
    }

    /// Share of the rows that are processed, from 0 to 100.
    pub fn percent(&self) -> Option<f64> {
        match self.total? {
            0 => Some(100.0),
            total => Some(as_f64(self.processed()) * 100.0 / as_f64(total)),
        }
    }

    /// Rows a second since it started.
    pub fn rate_per_second(&self) -> Option<f64> {
        let seconds =
            as_f64((self.finished_at.unwrap_or(self.read_at) - self.started_at?).num_milliseconds()) / 1000.0;
        (seconds > 0.0 && self.processed() > 0).then(|| as_f64(self.processed()) / seconds)
    }

    /// Seconds until the end at the rate so far; only while it runs.
    pub fn eta_seconds(&self) -> Option<f64> {
        let left = as_f64(self.total? - self.processed());
        (!self.status.is_over()).then_some(left / self.rate_per_second()?)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and percentages, not sums")]
fn as_f64(number: i64) -> f64 {
    number as f64
}
