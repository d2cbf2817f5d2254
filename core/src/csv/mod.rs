//! An upload, cut while it streams: bytes in arbitrary pieces become parts that can be imported side by side.
//!
//! [`Cutter`] takes the body as it arrives, decides from its beginning how it is read (`layout`), makes every check of
//! shape (UTF-8, closed quotes, record length) and hands out parts that begin and end with a record; [`records`] walks a
//! part again and [`RowParser`] reads its rows. What a record is has one definition, `scan::Scanner`, used by both; how a
//! record falls into cells is csv-core's. **Invariant:** for the delimiter in use, both agree with the `csv` crate on every
//! text without an unclosed quote, except for blanks before an opening quote and for records without text in any cell.
//!
//! Absent on purpose: no I/O, no limit on the whole upload, and no rule about coupons but which texts are codes.

mod cells;
mod columns;
mod cut;
mod delimiter;
mod error;
mod header;
mod headerless;
mod layout;
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
pub use columns::{ColumnLabel, Columns, MetadataColumn, ReadAs, ReadOptions};
pub use cut::{Cut, Cutter, Limits, Part, Summary};
pub use delimiter::Delimiter;
pub use error::CutError;
pub use names::{CODE_NAMES, USER_NAMES};
pub use record::{Record, Records, Row, RowFault, RowParser, records};
pub use repeats::Repeats;

/// The longest record, in bytes without its line break; the header is one.
///
/// A coupon's row is around a hundred bytes, so nobody meets this with a sound file. A quote that is never closed
/// would otherwise swallow the rest of the upload, and memory with it.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
