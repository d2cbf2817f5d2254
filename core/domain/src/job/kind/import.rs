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
    /// The first reserved position: the place of a row in the file is added to it ([`Begin`]).
    pub first_position: i32,
    /// Whether the job only counts the rows.
    pub dry_run: bool,
    /// Whether the book is SHARED: some columns are limits of the codes. A program of an earlier version does not know it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shared: bool,
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
    /// Where the part begins.
    #[serde(flatten)]
    pub begin: Begin,
}

/// Where a part begins, and what the place of a row is. All parts of a job have the same variant.
///
/// A program of an earlier version cannot read [`Self::Record`]: it sets the chunk aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Begin {
    /// The file has a row on each line after the header. The place of a row is its line.
    Line {
        /// The physical line of the first byte.
        first_line: u64,
    },
    /// The file has other lines too. The place of a row is the number of the rows before it, so that blank lines take no positions.
    Record {
        /// The number of rows in earlier parts.
        record: u64,
        /// The physical line of the first byte.
        line: u64,
    },
}

impl Chunk {
    /// A part of a file in which the place of a row is its line.
    pub fn at_line(file: impl Into<String>, first_line: u64) -> Self {
        Self { file: file.into(), begin: Begin::Line { first_line } }
    }

    /// The physical line of the first byte.
    pub fn first_line(&self) -> u64 {
        match self.begin {
            Begin::Line { first_line: line } | Begin::Record { line, .. } => line,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_by_lines_is_stored_as_before_and_one_by_rows_is_not_read_by_an_earlier_program() {
        let by_lines = Chunk::at_line("a", 2);
        assert_eq!(serde_json::to_value(&by_lines).unwrap(), json!({"file": "a", "first_line": 2}));
        let by_rows = Chunk { file: "a".into(), begin: Begin::Record { record: 7, line: 20 } };
        let stored = serde_json::to_value(&by_rows).unwrap();
        assert_eq!(stored, json!({"file": "a", "record": 7, "line": 20}));
        for chunk in [by_lines, by_rows] {
            let stored = serde_json::to_value(&chunk).unwrap();
            assert_eq!(serde_json::from_value::<Chunk>(stored).unwrap(), chunk);
        }
    }
}
