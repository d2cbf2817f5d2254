//! The first records of a file, split with one delimiter, for detection.

use super::super::record::{Delimiter, Splitter, is_empty, records, unescape};
use super::super::{CutError, MAX_RECORD_BYTES};
use super::names::fold;
use crate::coupon::code::Code;
use crate::text;

/// Maximum number of examined records.
const MAX_RECORDS: usize = 200;
/// Records that start after this many bytes are not examined.
const MAX_BYTES: usize = 64 * 1024;
const MAX_LINE_BREAK_BYTES: usize = 2;
/// The length of the beginning of a file that detection needs: a record that starts within [`MAX_BYTES`],
/// its line break, and one byte of lookahead.
pub(in crate::csv) const SAMPLE_BYTES: usize = MAX_BYTES + MAX_RECORD_BYTES + MAX_LINE_BREAK_BYTES + 1;

/// The first records, split with one delimiter.
pub(super) struct Sample {
    pub(super) delimiter: Delimiter,
    pub(super) records: Vec<SampleRecord>,
}

/// A record of a sample.
pub(super) struct SampleRecord {
    /// The physical line of its start.
    pub(super) line: u64,
    /// The start of the next record, as a byte offset in the sample, and its physical line.
    pub(super) next: (usize, u64),
    /// The cells up to the last one with text.
    pub(super) cells: Vec<String>,
    /// The cells, folded as names are.
    pub(super) folded: Vec<String>,
    /// Number of cells with text.
    pub(super) filled: usize,
}

impl Sample {
    /// Reads `text`, which begins on physical line `first_line`. Unless the text is the whole file, its
    /// last record may be incomplete and is omitted.
    pub(super) fn read(text: &str, first_line: u64, is_whole: bool, delimiter: Delimiter) -> Self {
        let mut splitter = Splitter::new(delimiter);
        let mut all = records(text, delimiter, first_line);
        let mut found = Vec::new();
        while found.len() < MAX_RECORDS
            && let Some(record) = all.next()
        {
            let next = all.position();
            let start = next.0 - record.raw.len();
            let is_cut_off = next.0 == text.len() && (!is_whole || all.is_unfinished());
            if start > MAX_BYTES + MAX_LINE_BREAK_BYTES || record.raw.len() > MAX_RECORD_BYTES || is_cut_off {
                break;
            }
            let cells = splitter.split(record.raw);
            let cells: Vec<String> = cells.iter().take(cells.width()).map(str::to_owned).collect();
            found.push(SampleRecord::new(record.line, next, cells));
        }
        Self { delimiter, records: found }
    }
}

impl SampleRecord {
    fn new(line: u64, next: (usize, u64), cells: Vec<String>) -> Self {
        let folded = cells.iter().map(|cell| fold(cell)).collect();
        let filled = cells.iter().filter(|cell| !is_empty(cell)).count();
        Self { line, next, cells, folded, filled }
    }

    /// The cell at `index` for messages: trimmed, empty if absent.
    pub(super) fn cell(&self, index: usize) -> &str {
        text::trim(self.cells.get(index).map_or("", |cell| unescape(cell)))
    }

    /// The code at `index`, if it is valid.
    pub(super) fn code(&self, index: usize) -> Option<Code> {
        Code::parse(unescape(self.cells.get(index)?.trim())).ok()
    }

    /// The rejection of a file whose layout is uncertain because of this record.
    pub(super) fn unclear(&self, why: impl Into<String>) -> CutError {
        /// Limits of the cells, and of each cell, that a rejection contains.
        const MAX_CELLS: usize = 50;
        const MAX_CELL_CHARS: usize = 100;
        let shown = |cell: &String| cell.chars().take(MAX_CELL_CHARS).collect();
        let first_record = self.cells.iter().take(MAX_CELLS).map(shown).collect();
        CutError::UnclearHeader { line: self.line, why: why.into(), first_record }
    }

    /// Whether the record starts like a comment.
    pub(super) fn is_comment(&self) -> bool {
        self.cells.first().is_some_and(|cell| cell.trim_start().starts_with('#'))
    }
}

/// The code with each letter and digit replaced by one sign.
pub(super) fn mask(code: &Code) -> String {
    code.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { 'X' } else { c }).collect()
}

pub(super) fn has_digit(code: &Code) -> bool {
    code.as_str().contains(|c: char| c.is_ascii_digit())
}
