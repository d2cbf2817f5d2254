//! Export: the rows of a business or of a book, written to a file. A chunk writes the next part of the file and adds the chunk after
//! it; the last one joins the parts.

use std::ops::Range;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::export::{ExportKind, Filter, Format};
use crate::id::{BookId, JobId, RedemptionId};

use super::WorksOn;

/// What all chunks share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// What the file contains.
    pub export: ExportKind,
    /// Only of this book.
    pub book: Option<BookId>,
    /// Only these rows.
    #[serde(default)]
    pub filter: Filter,
    /// How the file is written.
    #[serde(default)]
    pub format: Format,
    /// What redemptions and events existed when the job was planned.
    pub snapshot: Snapshot,
}

/// A snapshot of the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Counts restores of the database from a dump. Transactions of earlier epochs are older than the snapshot.
    pub epoch: i16,
    /// The transactions of the epoch whose rows it has, in the form of `pg_snapshot`.
    pub transactions: String,
}

/// A step of an export.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Chunk {
    /// Writes the part that begins at a place. The next step is the same, or [`Self::Join`].
    Write {
        /// The place.
        from: Place,
    },
    /// Joins the parts.
    Join,
}

/// A place in the order of the rows. `ordinal` is the number of the book among those of the export; without it the export ends with
/// the book.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// The beginning of a book.
    Book {
        /// Its number.
        ordinal: i32,
    },
    /// Codes by position.
    Positions {
        /// The number of the book.
        ordinal: Option<i32>,
        /// The book.
        book: BookId,
        /// The positions that are left.
        positions: Range<i32>,
        /// Imports that may move codes to other positions. Their codes follow as [`Self::Moving`].
        imports: Vec<JobId>,
    },
    /// Codes of imports that may move them to other positions, by code, which does not change.
    Moving {
        /// The number of the book.
        ordinal: Option<i32>,
        /// The book.
        book: BookId,
        /// Only after this code.
        after: String,
        /// The imports.
        imports: Vec<JobId>,
    },
    /// Events, by the position and the version of their code.
    Events {
        /// The number of the book.
        ordinal: Option<i32>,
        /// The book.
        book: BookId,
        /// Only after this position and version.
        after: (i32, i32),
    },
    /// Redemptions, by time. After another redemption, without their amounts: an earlier version has begun the file.
    Redemptions {
        /// Only after this one.
        after: Option<(DateTime<Utc>, RedemptionId)>,
    },
    /// Redemptions with their amounts, by time. A worker of an earlier version, which would omit the amounts, cannot read this place.
    RedemptionsWithAmounts {
        /// Only after this one.
        after: (DateTime<Utc>, RedemptionId),
    },
}

impl WorksOn for Spec {
    fn book(&self) -> Option<BookId> {
        self.book
    }
}

impl Spec {
    /// The job's result before any row is written.
    pub fn first_result(&self) -> Value {
        json!({ "kind": self.export, "couponBookId": self.book, "rowCount": 0, "bytes": 0 })
    }

    /// The place of the first row.
    pub fn first_place(&self) -> Place {
        match self.export {
            ExportKind::Codes | ExportKind::Assignments | ExportKind::Events => Place::Book { ordinal: 0 },
            ExportKind::Redemptions => Place::Redemptions { after: None },
        }
    }
}

impl Place {
    /// The first code of a book that has these positions.
    pub fn of_codes(ordinal: Option<i32>, book: BookId, positions: i32, imports: Vec<JobId>) -> Self {
        Self::Positions { ordinal, book, positions: 0..positions, imports }
    }

    /// The first event of a book.
    pub fn of_events(ordinal: Option<i32>, book: BookId) -> Self {
        Self::Events { ordinal, book, after: (-1, 0) }
    }

    /// Whether the rows have no amounts, because an earlier version has begun the file without them.
    pub fn lacks_amounts(&self) -> bool {
        matches!(self, Self::Redemptions { after: Some(_) })
    }

    /// The place after the last row of a book.
    pub fn after_book(ordinal: Option<i32>) -> Option<Self> {
        ordinal.map(|ordinal| Self::Book { ordinal: ordinal + 1 })
    }
}
