//! Take-back: the codes that a distribution assigned become free again, unless they were locked or used. The first chunk divides the
//! report of the distribution into parts; the parts are taken back side by side, each piece by piece. A retry of the job divides again,
//! because the distribution may have been retried and have assigned codes of further slices.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::id::{AssignmentId, BookId, JobId};

use super::WorksOn;

/// The maximum number of parts that are taken back side by side.
pub const MAX_PARTS: i64 = 8;
/// The maximum number of codes that a chunk takes back. Calls for these codes wait for its commit.
pub const CODES_PER_CHUNK: i64 = 1_000;
/// The maximum number of codes of a chunk that waits for other transactions.
pub const HELD_CODES_PER_CHUNK: usize = 100;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The book of the codes.
    pub book: BookId,
    /// The job of the distribution.
    pub distribution: JobId,
    /// The reason, for the events.
    pub reason: String,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The job's result before the first chunk.
    pub fn first_result(&self) -> Value {
        json!({
            "takenBackCount": 0, "goneCount": 0, "lockedCount": 0, "redeemedCount": 0,
            "distributionId": self.distribution, "couponBookId": self.book,
        })
    }
}

/// A place among the codes of a distribution: in the order of the members, of the slices, and of the codes of a member in a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Place {
    /// The number of the member.
    pub ordinal: i32,
    /// The slice.
    pub slice: i32,
    /// The number of codes of the member in the slice that are before the place.
    pub codes_before: i32,
}

/// A code that the distribution assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedCode {
    /// Its number among the codes of the distribution, from 1.
    pub number: i64,
    /// The member that got it.
    pub user: String,
    /// The code.
    pub code: String,
    /// The assignment to end.
    pub assignment: AssignmentId,
}

/// A part of the codes of a distribution, from a place on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The place before the first code.
    pub from: Place,
    /// The place after the last code; the end of the report if absent.
    pub until: Option<Place>,
    /// The number of codes of the distribution before the first one, in the order of the divisions.
    pub codes_before: i64,
    /// Only codes of these slices, in the form of `int4multirange`: those that were divided together. All slices if absent, as in parts of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slices: Option<String>,
}

/// A step of a take-back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// Divides the codes that no earlier step of the job has divided. The next steps are [`Self::Part`].
    Divide,
    /// Takes back the next codes. The next step is the same from a later place, if the part has more codes.
    Part(Part),
    /// Takes back codes that other transactions held: waits for them.
    Held {
        /// The codes.
        codes: Vec<AssignedCode>,
    },
}
