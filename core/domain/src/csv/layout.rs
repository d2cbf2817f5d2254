//! Decides how a file is read: its delimiter, whether it has a header, and the columns of codes and users.
//! Detection reads the first records with each possibility and compares the results; it does not count
//! characters.
//!
//! **Invariant:** a name in a header or the text of another column never becomes a code. If the file leaves
//! this open, it is rejected with the observation and with the parameters that decide it.

mod assignments;
mod columns;
mod header;
mod headerless;
mod members;
pub(super) mod names;
mod sample;

use self::header::best_header;
use self::headerless::{best_sample, first_record_as_header, without_header};
use self::sample::Sample;
use super::CutError;
use super::record::Delimiter;

pub(super) use self::columns::Layout;
pub use self::columns::{ColumnLabel, Columns, Content, MetadataColumn, ReadAs, ReadOptions};
pub use self::names::{CODE_NAMES, USER_NAMES};
pub(super) use self::names::{fold, is_column_name};
pub(super) use self::sample::SAMPLE_BYTES;

/// Decides the layout of a file that begins with `text` on physical line `first_line`.
pub(super) fn decide(
    text: &str,
    first_line: u64,
    is_whole: bool,
    options: &ReadOptions,
) -> Result<Layout, CutError> {
    let read = |delimiter| Sample::read(text, first_line, is_whole, delimiter);
    let samples: Vec<Sample> = match options.delimiter {
        Some(delimiter) => vec![read(delimiter)],
        None => Delimiter::ALL.into_iter().map(read).collect(),
    };
    match options.content {
        Content::Codes => decide_codes(&samples, first_line, options),
        Content::Users => members::decide(&samples, first_line, options),
        Content::Assignments => {
            assignments::with_users(decide_codes(&samples, first_line, options)?, &samples, options)
        }
    }
}

/// Decides the layout of a file of codes of which each sample is the beginning, read with one delimiter.
fn decide_codes(samples: &[Sample], first_line: u64, options: &ReadOptions) -> Result<Layout, CutError> {
    if options.header != Some(false)
        && let Some(candidate) = best_header(samples, options)
    {
        return candidate.layout(options);
    }
    let sample = best_sample(samples, options);
    if options.header == Some(true) && !sample.records.is_empty() {
        first_record_as_header(sample, options)
    } else {
        without_header(sample, first_line, options)
    }
}
