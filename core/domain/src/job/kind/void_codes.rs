//! Bulk void: codes of a list, of a job, or of a book, piece by piece.

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::coupon::state::CouponStatus;
use crate::id::{BookId, JobId};

use super::{ChunkWork, WorksOn};

/// The maximum number of codes in a list.
pub const MAX_LISTED_CODES: usize = 10_000;
/// The number of listed codes that a chunk voids.
const CODES_PER_CHUNK: usize = 1_000;
/// The number of parts of a book that are voided side by side.
const PARTS: i32 = 4;
/// Books with fewer positions are voided in one part.
const MIN_POSITIONS_PER_PART: i32 = 10_000;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The book of all codes; absent if listed codes are of several books.
    pub book: Option<BookId>,
    /// The reason, for the events.
    pub reason: String,
    /// Which codes of the book, unless they are listed.
    pub filter: Filter,
}

/// Which codes of a book. A code that is redeemed or void is never voided.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Only codes with this effective status.
    #[serde(default)]
    pub status: Option<CouponStatus>,
    /// Only codes with this prefix.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Only codes that were created before this time.
    #[serde(default)]
    pub created_before: Option<DateTime<Utc>>,
    /// Only codes that this job created.
    #[serde(default)]
    pub job: Option<JobId>,
}

/// A part of the codes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// Listed codes.
    Listed {
        /// The codes, each with its place in the list, from 1.
        codes: Vec<(u64, String)>,
        /// Whether these were held by other transactions before: wait for them.
        #[serde(default)]
        waits: bool,
    },
    /// Codes at positions of the book. The next piece of them is added by the chunk before it.
    Positions {
        /// The positions that are left.
        positions: Range<i32>,
        /// Whether the positions up to the first code of another job are those of the job.
        #[serde(default)]
        ends_at_other_job: bool,
        /// Whether some of these codes were held by other transactions before: wait for them.
        #[serde(default)]
        waits: bool,
    },
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        self.book
    }
}

impl Spec {
    /// The job's result before any code is voided.
    pub fn first_result(&self) -> Value {
        json!({ "voidedCount": 0, "alreadyVoidCount": 0, "redeemedCount": 0, "notFoundCount": 0, "couponBookId": self.book })
    }
}

/// Cuts a list into chunks.
pub fn chunks_of_list(codes: &[String]) -> Vec<ChunkWork> {
    let codes: Vec<(u64, String)> = (1..).zip(codes.iter().cloned()).collect();
    let chunk = |codes: &[(u64, String)]| Chunk::Listed { codes: codes.to_vec(), waits: false };
    codes.chunks(CODES_PER_CHUNK).map(chunk).map(ChunkWork::VoidCodes).collect()
}

/// Cuts positions of a book into parts that are voided side by side.
pub fn chunks_of_positions(positions: &Range<i32>, ends_at_other_job: bool) -> Vec<ChunkWork> {
    if positions.is_empty() {
        return Vec::new();
    }
    let length = positions.end - positions.start;
    let parts = if ends_at_other_job { 1 } else { (length / MIN_POSITIONS_PER_PART).clamp(1, PARTS) };
    let start = |part: i32| {
        let offset = i64::from(length) * i64::from(part) / i64::from(parts);
        positions.start + i32::try_from(offset).unwrap_or(length)
    };
    let chunk =
        |part| Chunk::Positions { positions: start(part)..start(part + 1), ends_at_other_job, waits: false };
    (0..parts).map(chunk).map(ChunkWork::VoidCodes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(positions: Range<i32>) -> Vec<Range<i32>> {
        let range = |chunk| match chunk {
            ChunkWork::VoidCodes(Chunk::Positions { positions, .. }) => positions,
            other => panic!("not positions: {other:?}"),
        };
        chunks_of_positions(&positions, false).into_iter().map(range).collect()
    }

    #[test]
    fn parts_cover_the_positions_once() {
        assert_eq!(ranges(0..0), []);
        assert_eq!((ranges(5..6).len(), &ranges(5..6)[0]), (1, &(5..6)));
        assert_eq!(ranges(10..20_011), [10..10_010, 10_010..20_011]);
        assert_eq!(ranges(0..i32::MAX).len(), 4);
        assert_eq!(ranges(0..i32::MAX).last().unwrap().end, i32::MAX);
    }

    #[test]
    fn a_list_is_cut_with_the_places_of_its_codes() {
        let codes: Vec<String> = (0..1_001).map(|n| format!("C{n}")).collect();
        let chunks = chunks_of_list(&codes);
        assert_eq!(chunks.len(), 2);
        let last = Chunk::Listed { codes: vec![(1_001, "C1000".into())], waits: false };
        assert_eq!(chunks[1], ChunkWork::VoidCodes(last));
    }
}
