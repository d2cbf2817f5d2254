//! Import: the codes of an uploaded file, part by part.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::csv::{Columns, Delimiter, ReadAs};
use crate::id::BookId;

use super::WorksOn;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Where the codes go.
    pub book: BookId,
    /// What the file's columns mean.
    pub columns: Columns,
    /// What stands between the fields.
    pub delimiter: Delimiter,
    /// The position of the file's line 0: line `n` goes to `first_position + n`.
    pub first_position: i32,
    /// Whether it only counts.
    pub dry_run: bool,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The job's result before any row is done.
    pub fn first_result(&self, read_as: &ReadAs) -> Value {
        json!({
            "uploadedCount": 0, "unassignedCount": 0, "duplicatesCount": 0, "invalidRowsCount": 0,
            "couponBookId": self.book, "readAs": read_as,
        })
    }
}

/// The part of the file that a chunk takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The part in the file store.
    pub file: String,
    /// The physical line its first byte stands on.
    pub first_line: u64,
}
