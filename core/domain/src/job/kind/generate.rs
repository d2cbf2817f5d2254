//! Generation: codes of a pattern at reserved positions of a book.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::coupon::limits::SharedLimits;
use crate::id::BookId;

use super::{ChunkWork, WorksOn};

/// Number of codes of a chunk: it takes a fraction of a second, and this batch size sorts well.
pub const CODES_PER_CHUNK: u64 = 50_000;
/// Maximum number of codes of a job.
pub const MAX_CODES_PER_JOB: u64 = 100_000_000;

/// The parameters of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The book that gets the codes.
    pub book: BookId,
    /// The normalized pattern.
    pub pattern: String,
    /// The limits of each code, if the book is SHARED. A program of an earlier version does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<SharedLimits>,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The job's result before the first chunk.
    pub fn first_result(&self) -> Value {
        json!({ "generatedCount": 0, "couponBookId": self.book })
    }
}

/// The parameters of a chunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Indexes of the code space.
    pub indexes: Range<u64>,
    /// The position of the first code in the book. The number of positions is the number of indexes.
    pub first_position: i32,
    /// Whether the chunk has the job's first or last code.
    pub edge: Edge,
    /// Further indexes, reserved to replace codes that already existed.
    #[serde(default)]
    pub top_ups: Vec<Range<u64>>,
}

/// Whether a chunk is the first or last of its job.
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

/// Divides a range of indexes into chunks.
pub fn chunks(indexes: &Range<u64>, first_position: i32) -> Vec<ChunkWork> {
    let count = (indexes.end - indexes.start).div_ceil(CODES_PER_CHUNK);
    let chunk = |number| {
        let offset = number * CODES_PER_CHUNK;
        let start = indexes.start + offset;
        Chunk {
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
    };
    (0..count).map(|number| ChunkWork::GenerateCodes(chunk(number))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_cover_the_range_once_and_know_the_edges() {
        let ranges: Vec<_> = chunks(&(7..7 + 120_000), 30)
            .into_iter()
            .map(|chunk| match chunk {
                ChunkWork::GenerateCodes(chunk) => (chunk.indexes, chunk.first_position, chunk.edge),
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
        assert_eq!(chunks(&(0..1), 0).len(), 1);
    }
}
