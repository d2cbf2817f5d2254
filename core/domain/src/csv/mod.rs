//! Cuts an upload while it streams: bytes in arbitrary pieces become parts that can be imported
//! concurrently.
//!
//! - `cut`: [`Cutter`] takes the body as it arrives, checks its form (UTF-8, closed quotes, record length)
//!   and returns parts that begin and end with a record.
//! - `layout`: decides from the beginning of the file how it is read: the delimiter, the header, the columns.
//! - `record`: defines what a record is and where it ends. [`records`] iterates over a part again; csv-core
//!   splits records into cells.
//! - `row`: [`RowParser`] parses the records of a part, and [`Repeats`] finds repeated codes.
//!
//! **Invariant:** for the selected delimiter, the scanner of records and csv-core agree with the `csv` crate
//! on every text without an unclosed quote, except for blanks before an opening quote and for records without
//! text in any cell.
//!
//! Not included: I/O, a limit of the whole upload, and rules about coupons other than which texts are
//! codes.

mod cut;
mod layout;
mod record;
mod row;

mod error;
#[cfg(test)]
mod tests;

pub use cut::{Cut, Cutter, Limits, Part, Summary};
pub use error::CutError;
pub use layout::{
    CODE_NAMES, ColumnLabel, Columns, Content, MetadataColumn, ReadAs, ReadOptions, USER_NAMES,
};
pub use record::{Delimiter, Record, Records, begins_formula, records};
pub use row::{Repeats, Row, RowError, RowParser};

/// Maximum length of a record, including the header, in bytes without its line break.
///
/// A row is around a hundred bytes long, so valid files do not reach this limit. Without it, an unclosed
/// quote would consume the rest of the upload, and memory.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
