//! An upload, cut while it streams: bytes in arbitrary pieces become parts that can be imported side by side.
//!
//! [`Cutter`] takes the body as it arrives, makes every check of shape (UTF-8, closed quotes, record length) and
//! hands out parts that begin and end with a record; [`records`] walks a part again and [`RowParser`] reads its
//! rows. What a record is has one definition, `scan::Scanner`, used by both; how a record falls into cells is
//! csv-core's. **Invariant:** for the delimiter found, both agree with the `csv` crate on every text without an
//! unclosed quote, but for lines of nothing but whitespace, which are no records here.
//!
//! Absent on purpose: no I/O, no rule about coupons (a code is handed on as it stands), no limit on the whole upload.

mod cells;
mod columns;
mod cut;
mod delimiter;
mod error;
mod record;
mod scan;
mod slice;
#[cfg(test)]
mod tests;
mod text;

pub use columns::{Columns, MetadataColumn};
pub use cut::{Cut, Cutter, Limits, Part, Summary};
pub use delimiter::Delimiter;
pub use error::CutError;
pub use record::{Record, Records, Row, RowParser, records};

/// The longest record, in bytes without its line break.
///
/// A coupon's row is around a hundred bytes, so nobody meets this with a sound file. A quote that is never closed
/// would otherwise swallow the rest of the upload, and memory with it.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
