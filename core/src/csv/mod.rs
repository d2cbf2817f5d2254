//! Cuts an upload while it streams: bytes in arbitrary pieces become parts that can be imported
//! concurrently.
//!
//! [`Cutter`] takes the body as it arrives, decides from its beginning how it is read (`layout`), checks
//! its form (UTF-8, closed quotes, record length) and returns parts that begin and end with a record.
//! [`records`] iterates over a part again, and [`RowParser`] parses its rows. The definition of a record is
//! `scan::Scanner`, used by both; csv-core splits records into cells. **Invariant:** for the selected
//! delimiter, both agree with the `csv` crate on every text without an unclosed quote, except for blanks
//! before an opening quote and for records without text in any cell.
//!
//! Not included: I/O, a limit of the whole upload, and rules about coupons other than which texts are
//! codes.

mod cells;
mod columns;
mod cut;
mod delimiter;
mod error;
mod header;
mod headerless;
mod layout;
mod members;
mod names;
mod opening;
mod record;
mod repeats;
mod sample;
mod scan;
mod shape;
mod slice;
#[cfg(test)]
mod tests;
mod text;

pub use cells::begins_formula;
pub use columns::{ColumnLabel, Columns, Content, MetadataColumn, ReadAs, ReadOptions};
pub use cut::{Cut, Cutter, Limits, Part, Summary};
pub use delimiter::Delimiter;
pub use error::CutError;
pub use names::{CODE_NAMES, USER_NAMES};
pub use record::{Record, Records, Row, RowFault, RowParser, records};
pub use repeats::Repeats;

/// Maximum length of a record, including the header, in bytes without its line break.
///
/// A row is around a hundred bytes long, so valid files do not reach this limit. Without it, an unclosed
/// quote would consume the rest of the upload, and memory.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
