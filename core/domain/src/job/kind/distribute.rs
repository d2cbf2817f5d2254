//! Distribution: codes of a book for the members of a pool. Members are noted, then codes are reserved slice by slice, then they are
//! allocated to the members, and then assigned: the last by chunks that run side by side.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::distribution::{Amount, Rules};
use crate::id::{BookId, PoolId};

use super::WorksOn;

/// How many codes a chunk assigns: it holds the rows of as many quotas.
pub const CODES_PER_SLICE: u64 = 10_000;
/// How many codes a chunk reserves.
pub const CODES_RESERVED_AT_ONCE: u64 = 50_000;

/// What all chunks share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The book whose codes are distributed.
    pub book: BookId,
    /// The pool whose members get them.
    pub pool: PoolId,
    /// How many codes each gets.
    pub rules: Rules,
    /// Whether the job only computes the result.
    #[serde(default)]
    pub dry_run: bool,
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        Some(self.book)
    }
}

impl Spec {
    /// The request, as lists and results show it.
    pub fn request(&self) -> Value {
        let Rules { mode, amount, seed, on_shortage } = self.rules;
        let mut request = json!({
            "poolId": self.pool, "couponBookId": self.book, "mode": mode, "seed": seed, "onShortage": on_shortage });
        match amount {
            Amount::PerUser(codes) => request["codesPerUser"] = codes.into(),
            Amount::Total(codes) => request["totalCodes"] = codes.into(),
        }
        request
    }

    /// The job's result before any code is assigned.
    pub fn first_result(&self) -> Value {
        let mut result = self.request();
        if !self.dry_run {
            result["members"] = 0.into();
            result["given"] = 0.into();
            result["short"] = 0.into();
        }
        result
    }
}

/// A step of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// Notes the members and their rooms. The next step is [`Self::Reserve`].
    NoteMembers,
    /// Reserves further codes. The next step is the same, or [`Self::Allocate`].
    Reserve {
        /// How many codes the distribution needs.
        needed: u64,
        /// The first position to look at.
        from_position: i32,
        /// Whether this is the second look at all positions, which waits for codes that other transactions hold.
        waits: bool,
    },
    /// Decides how many of the reserved codes each member gets. The next steps are [`Self::Assign`], one for each slice.
    Allocate {
        /// How many codes the distribution needs.
        needed: u64,
    },
    /// Assigns the codes of a slice.
    Assign {
        /// The number of the slice.
        slice: i32,
    },
}
