//! Import: the codes of an uploaded file, one part in each chunk.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::csv::{Columns, Delimiter, ReadAs};
use crate::id::BookId;

use super::WorksOn;

/// The parameters of the job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The book that gets the codes.
    pub book: BookId,
    /// The meaning of the file's columns.
    pub columns: Columns,
    /// The delimiter of the fields.
    pub delimiter: Delimiter,
    /// The position of the file's line 0: line `n` gets position `first_position + n`.
    pub first_position: i32,
    /// Whether the job only counts the rows.
    pub dry_run: bool,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The job's result before the first chunk.
    pub fn first_result(&self, read_as: &ReadAs) -> Value {
        json!({
            "uploadedCount": 0, "unassignedCount": 0, "duplicatesCount": 0, "invalidRowsCount": 0,
            "couponBookId": self.book, "readAs": read_as,
        })
    }
}

/// The part of the file that a chunk imports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The part in the file store.
    pub file: String,
    /// The physical line of its first byte.
    pub first_line: u64,
}
