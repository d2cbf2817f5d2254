//! Codes in bulk: binary `COPY` of sorted batches writes directly into the table. A conflict rolls the batch back; the
//! caller decides what follows.
//!
//! **Invariant.** The rows of a chunk, the counts they add and the end of the chunk commit together.

mod allocate;
mod assigned;
mod chunk;
mod copy;
mod distributed;
mod dry_run;
mod generate;
mod give;
mod import;
mod members;
mod of_job;
mod part;
mod rejection;
pub(super) mod space;

pub use generate::BulkOutcome;
pub use import::FindLines;
pub(crate) use of_job::CodesOfJob;
pub use part::{ImportPart, ImportRow, RowRejection, SampleRow};
pub(crate) use rejection::write as write_rejections;
pub use rejection::{RejectedRow, RejectedRowCursor, RejectedRowPage};
pub use space::Space;
