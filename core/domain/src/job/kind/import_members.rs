//! Import of members: the users of an uploaded file, part by part.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::csv::{Columns, Delimiter, ReadAs};
use crate::id::{BookId, PoolId};

use super::WorksOn;

pub use super::import::Chunk;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The pool that gets the members.
    pub pool: PoolId,
    /// The meaning of the columns: that of users is the column of codes too.
    pub columns: Columns,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        None
    }
}

impl Spec {
    /// The result before any row is done.
    pub fn first_result(&self, read_as: &ReadAs) -> Value {
        json!({
            "addedCount": 0, "alreadyMembersCount": 0, "duplicatesCount": 0, "invalidRowsCount": 0, "userPoolId": self.pool,
            "readAs": {
                "encoding": read_as.encoding, "delimiter": read_as.delimiter, "header": read_as.header,
                "userColumn": read_as.code_column, "skippedLines": read_as.skipped_lines,
            },
        })
    }
}
