//! Upload of assignments: existing codes of a book for the users that a file names, part by part.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::csv::{Columns, Delimiter, ReadAs};
use crate::id::BookId;

use super::WorksOn;

/// The maximum number of rows of a part. Calls for their codes and their users wait for its commit.
pub const ROWS_PER_PART: u64 = 5_000;
/// The maximum number of rows of a chunk that waits for other transactions.
pub const HELD_ROWS_PER_CHUNK: usize = 100;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The book of the codes.
    pub book: BookId,
    /// The meaning of the columns.
    pub columns: Columns,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// Whether the job only counts the rows.
    pub dry_run: bool,
    /// Whether two parts may have the same code. The parts are then done one after the other.
    pub may_repeat_codes: bool,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The result before any row is done.
    pub fn first_result(&self, read_as: &ReadAs) -> Value {
        json!({
            "assignedCount": 0, "alreadyAssignedCount": 0, "rejectedCount": 0, "duplicatesCount": 0, "invalidRowsCount": 0,
            "couponBookId": self.book, "readAs": read_as,
        })
    }
}

/// A row whose code another transaction held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldRow {
    /// The physical line on which it starts.
    pub line: u64,
    /// The code.
    pub code: String,
    /// The user.
    pub user: String,
    /// The beginning of the row as it is in the file.
    pub text: String,
}

/// A part of the rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// The rows of a part of the file.
    Part {
        /// The part in the file store.
        file: String,
        /// The physical line of its first byte.
        first_line: u64,
    },
    /// Rows whose codes other transactions held: waits for them.
    Held {
        /// The rows.
        rows: Vec<HeldRow>,
    },
}
