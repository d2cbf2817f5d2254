//! Jobs: long work as data. A job is a row with a tally, and chunks that are worked side by side and retried alone.

mod message;
mod retry;
mod stage;
mod warning;

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::book::BookStatus;
use crate::csv::{Columns, Delimiter};
use crate::id::{BookId, BusinessId, JobId};

pub use message::Message;
pub use retry::{MAX_ATTEMPTS, MAX_CRASHES, retry_delay};
pub use stage::Stage;
pub use warning::JobWarning;

/// How many codes a chunk of generation makes: a fraction of a second of work, and the batch that sorts well.
pub const CODES_PER_CHUNK: u64 = 50_000;
/// The most codes one job may be asked for.
pub const MAX_CODES_PER_JOB: u64 = 100_000_000;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobKind {
    /// Makes codes from a pattern.
    GenerateCodes,
    /// Takes codes from an uploaded file.
    ImportCodes,
    /// Deletes a book and its codes, none of which was ever assigned.
    DeleteBook,
}

impl JobKind {
    /// All kinds this version works.
    pub const ALL: [Self; 3] = [Self::GenerateCodes, Self::ImportCodes, Self::DeleteBook];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GenerateCodes => "GENERATE_CODES",
            Self::ImportCodes => "IMPORT_CODES",
            Self::DeleteBook => "DELETE_BOOK",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

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

/// What all chunks of a job share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Work {
    /// See [`JobKind::GenerateCodes`].
    GenerateCodes {
        /// Where the codes go.
        book: BookId,
        /// The pattern, in its canonical form.
        pattern: String,
    },
    /// See [`JobKind::ImportCodes`].
    ImportCodes {
        /// Where the codes go.
        book: BookId,
        /// What the file's columns mean.
        columns: Columns,
        /// What stands between the fields.
        delimiter: Delimiter,
        /// The position of the file's line 0: line `n` goes to `first_position + n`.
        first_position: i32,
        /// Whether it only counts.
        dry_run: bool,
    },
    /// See [`JobKind::DeleteBook`].
    DeleteBook {
        /// The book, which was closed when the job was submitted.
        book: BookId,
    },
    /// This program cannot read the job, or the chunk that was claimed: a newer one wrote it, or it is damaged.
    #[serde(skip)]
    Unreadable {
        /// The kind of the job.
        kind: JobKind,
        /// Why it cannot be read.
        reason: String,
    },
}

impl Work {
    /// The kind of job.
    pub fn kind(&self) -> JobKind {
        match self {
            Self::GenerateCodes { .. } => JobKind::GenerateCodes,
            Self::ImportCodes { .. } => JobKind::ImportCodes,
            Self::DeleteBook { .. } => JobKind::DeleteBook,
            Self::Unreadable { kind, .. } => *kind,
        }
    }

    /// Whether it is an import that only counts.
    pub fn is_dry_run(&self) -> bool {
        matches!(self, Self::ImportCodes { dry_run: true, .. })
    }

    /// Whether it is an import of a file that assigns codes to users.
    pub fn names_users(&self) -> bool {
        matches!(self, Self::ImportCodes { columns, .. } if columns.user_id.is_some())
    }

    /// The book it works on, if it works on one.
    pub fn book(&self) -> Option<BookId> {
        match self {
            Self::GenerateCodes { book, .. } | Self::ImportCodes { book, .. } | Self::DeleteBook { book } => {
                Some(*book)
            }
            Self::Unreadable { .. } => None,
        }
    }
}

/// What one chunk does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "chunk", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChunkWork {
    /// Makes the codes of these indexes of the space.
    Generate {
        /// Indexes of the code space.
        indexes: Range<u64>,
        /// The position of the first code in the book; as many follow as there are indexes.
        first_position: i32,
        /// Whether the job's first or last code is among them.
        edge: Edge,
        /// Further indexes, reserved because foreign codes stood in the way.
        #[serde(default)]
        top_ups: Vec<Range<u64>>,
    },
    /// Takes the rows of this part of the file.
    Import {
        /// The part in the file store.
        file: String,
        /// The physical line its first byte stands on.
        first_line: u64,
    },
    /// Takes a step of a deletion, and adds the chunk of the next step to the job.
    Delete(DeletionStep),
    /// See [`Work::Unreadable`].
    #[serde(skip)]
    Unreadable,
}

/// A step of the deletion of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DeletionStep {
    /// Checks that no code was assigned by a statement that had begun before the book was closed. The next step is
    /// [`Self::DeleteCodes`].
    CheckUnused {
        /// The book's status before it was closed, until the book has it back.
        status_before: Option<BookStatus>,
    },
    /// Deletes a slice of the codes. The next step is the same from a later position, or [`Self::DeleteBook`].
    DeleteCodes {
        /// The first position that may still have a code.
        from_position: i32,
    },
    /// Deletes the book and its counts.
    DeleteBook,
}

/// Whether a chunk stands at an end of its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edge {
    /// Neither the first nor the last.
    None,
    /// The first of several.
    First,
    /// The last of several.
    Last,
    /// The only one.
    Both,
}

/// Cuts a range of indexes into the chunks of a generation job.
pub fn generation_chunks(indexes: Range<u64>, first_position: i32) -> Vec<ChunkWork> {
    let count = (indexes.end - indexes.start).div_ceil(CODES_PER_CHUNK);
    (0..count)
        .map(|number| {
            let offset = number * CODES_PER_CHUNK;
            let start = indexes.start + offset;
            ChunkWork::Generate {
                indexes: start..indexes.end.min(start + CODES_PER_CHUNK),
                first_position: first_position.saturating_add(i32::try_from(offset).unwrap_or(i32::MAX)),
                edge: match (number == 0, number + 1 == count) {
                    (true, true) => Edge::Both,
                    (true, false) => Edge::First,
                    (false, true) => Edge::Last,
                    (false, false) => Edge::None,
                },
                top_ups: Vec::new(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_range_once_and_know_the_edges() {
        let chunks = generation_chunks(7..7 + 120_000, 30);
        let ranges: Vec<_> = chunks
            .iter()
            .map(|chunk| match chunk {
                ChunkWork::Generate { indexes, first_position, edge, .. } => {
                    (indexes.clone(), *first_position, *edge)
                }
                other => panic!("not a chunk of a generation: {other:?}"),
            })
            .collect();
        assert_eq!(
            ranges,
            [
                (7..50_007, 30, Edge::First),
                (50_007..100_007, 50_030, Edge::None),
                (100_007..120_007, 100_030, Edge::Last)
            ]
        );
        assert_eq!(generation_chunks(0..1, 0).len(), 1);
    }
}
