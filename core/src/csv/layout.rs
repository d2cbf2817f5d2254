//! Decides how a file is read: its delimiter, whether it has a header, and the columns of codes and users.
//! Detection reads the first records with each possibility and compares the results; it does not count
//! characters.
//!
//! **Invariant:** a name in a header or the text of another column never becomes a code. If the file leaves
//! this open, it is rejected with the observation and with the parameters that decide it.

use super::header::best_header;
use super::headerless::{best_sample, first_record_as_header, without_header};
use super::members;
use super::sample::{Sample, SampleRecord};
use super::{Columns, Content, CutError, Delimiter, ReadAs, ReadOptions};

/// How a file is read.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) delimiter: Delimiter,
    pub(super) columns: Columns,
    pub(super) read_as: ReadAs,
    /// The start of the rows, as a byte offset in the examined text.
    pub(super) start: usize,
    /// The physical line of that byte.
    pub(super) line: u64,
}

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
    if options.content == Content::Users {
        return members::decide(&samples, first_line, options);
    }
    if options.header != Some(false)
        && let Some(candidate) = best_header(&samples, options)
    {
        return candidate.layout(options);
    }
    let sample = best_sample(&samples, options);
    if options.header == Some(true) && !sample.records.is_empty() {
        first_record_as_header(sample, options)
    } else {
        without_header(sample, first_line, options)
    }
}

/// The rejection of a file whose layout is uncertain because of `record`.
pub(super) fn unclear(record: &SampleRecord, why: impl Into<String>) -> CutError {
    /// Limits of the cells, and of each cell, that a rejection contains.
    const MAX_CELLS: usize = 50;
    const MAX_CELL_CHARS: usize = 100;
    let shown = |cell: &String| cell.chars().take(MAX_CELL_CHARS).collect();
    let first_record = record.cells.iter().take(MAX_CELLS).map(shown).collect();
    CutError::UnclearHeader { line: record.line, why: why.into(), first_record }
}
