//! Deletion of a book and its codes, none of which was ever assigned. Each chunk is a step that adds the chunk of the
//! next step.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::book::BookStatus;
use crate::id::BookId;

use super::WorksOn;

/// The parameters of the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The book, which is closed when the job is submitted.
    pub book: BookId,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The job's result before the first chunk.
    pub fn first_result(self) -> Value {
        json!({ "deletedCount": 0, "couponBookId": self.book })
    }
}

/// A step of the deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// Checks that no statement that had begun before the book was closed has assigned a code. The next step is
    /// [`Self::DeleteCodes`].
    CheckUnused {
        /// The book's status before it was closed; `None` after it was restored.
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
