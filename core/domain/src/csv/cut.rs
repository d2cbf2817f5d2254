//! Cuts an upload: takes pieces of any size and returns parts. Holds at most one part and one record.
//!
//! A piece passes the check of its text (`text`), is buffered until the layout is decided (`opening`), and is then cut at
//! the ends of records.

mod opening;
mod text;

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use self::opening::Opening;
use self::text::{Checked, TextGate};
use super::layout::{Columns, Layout, ReadAs, ReadOptions};
use super::record::{Delimiter, End, Scanner};
use super::{CutError, MAX_RECORD_BYTES};

/// Maximum total size of the metadata names in a part, in bytes: each row repeats them.
const MAX_PART_NAMES_BYTES: u64 = 64 * 1024 * 1024;

/// The size of a part. A part ends with the record that reaches one of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub part_bytes: usize,
    /// Records.
    pub part_records: u64,
}

impl Default for Limits {
    /// 4 MiB or 50,000 records: seconds of work for a worker, and thousands of parts in the largest upload.
    fn default() -> Self {
        Self { part_bytes: 4 * 1024 * 1024, part_records: 50_000 }
    }
}

/// Consecutive lines of the upload, from the start of a record to the end of a record or of a following
/// blank line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// UTF-8 text, without byte order mark or header.
    pub bytes: Bytes,
    /// The physical line of the first byte, from 1.
    pub first_line: u64,
    /// Number of records, at least one.
    pub records: u64,
    /// Number of physical lines, including blank lines and those inside quotes.
    pub lines: u64,
}

/// The summary of the whole upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// The meaning of the columns.
    pub columns: Columns,
    /// The same for the owner of the file.
    pub read_as: ReadAs,
    /// Records in all parts, without the header.
    pub records: u64,
    /// Physical lines of the file, including blank lines, the header and those inside quotes.
    pub lines: u64,
    /// Bytes received.
    pub bytes: u64,
}

/// The result of [`Cutter::finish`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The parts not yet taken, in order: usually the last one.
    pub parts: Vec<Part>,
    /// The summary of the whole upload.
    pub summary: Summary,
}

/// Cuts one upload. Parts and errors depend only on the bytes, not on how they are divided into pushes.
///
/// An error rejects the whole upload: drop the cutter and delete the parts that it returned.
#[derive(Debug)]
pub struct Cutter {
    gate: TextGate,
    limits: Limits,
    stage: Stage,
    /// Bytes of text since the last line break.
    line_bytes: u64,
    bytes: u64,
}

#[derive(Debug)]
enum Stage {
    /// Until it is decided how the file is read.
    Opening(Opening),
    Slicing(Box<Slicer>),
    /// An error was returned.
    Failed,
}

impl Cutter {
    /// Starts an upload.
    pub fn new(limits: Limits, options: ReadOptions) -> Self {
        let stage = Stage::Opening(Opening::new(options));
        Self { gate: TextGate::default(), limits, stage, line_bytes: 0, bytes: 0 }
    }

    /// Processes the next bytes. After each push call [`Self::take_part`] until it returns `None`.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), CutError> {
        // Each piece is scanned three times (zero bytes, UTF-8, records); this size stays in the
        // processor's cache.
        const PIECE_BYTES: usize = 64 * 1024;
        self.bytes += bytes.len() as u64;
        for piece in bytes.chunks(PIECE_BYTES) {
            let checked = self.gate.check(piece);
            self.accept(&checked)?;
        }
        Ok(())
    }

    /// The next full part, if there is one.
    pub fn take_part(&mut self) -> Option<Part> {
        match &mut self.stage {
            Stage::Slicing(slicer) => slicer.take_part(),
            Stage::Opening(_) | Stage::Failed => None,
        }
    }

    /// How the file is read, once that is decided: before the first part.
    pub fn layout(&self) -> Option<(&Columns, Delimiter)> {
        match &self.stage {
            Stage::Slicing(slicer) => Some(slicer.layout()),
            Stage::Opening(_) | Stage::Failed => None,
        }
    }

    /// Ends the upload.
    pub fn finish(mut self) -> Result<Cut, CutError> {
        let checked = self.gate.finish();
        self.accept(&checked)?;
        self.begin_slicing(true)?;
        match self.stage {
            Stage::Slicing(slicer) => slicer.finish(self.bytes),
            Stage::Opening(_) | Stage::Failed => Err(CutError::Empty { has_header: false }),
        }
    }

    /// Processes the text first: an error in it precedes the fault after it.
    fn accept(&mut self, checked: &Checked<'_>) -> Result<(), CutError> {
        self.feed(&checked.lead)?;
        self.feed(checked.text)?;
        let Some(fault) = checked.fault else { return Ok(()) };
        let line = match &self.stage {
            Stage::Opening(opening) => opening.line(),
            Stage::Slicing(slicer) => slicer.line(),
            Stage::Failed => 1,
        };
        Err(fault.at(line, self.line_bytes + 1))
    }

    fn feed(&mut self, text: &str) -> Result<(), CutError> {
        match memchr::memrchr2(b'\n', b'\r', text.as_bytes()) {
            Some(line_break) => self.line_bytes = (text.len() - line_break - 1) as u64,
            None => self.line_bytes += text.len() as u64,
        }
        match &mut self.stage {
            Stage::Slicing(slicer) => slicer.feed(text.as_bytes()),
            Stage::Opening(opening) => {
                let Some(taken) = opening.feed(text) else { return Ok(()) };
                self.begin_slicing(false)?.feed(&text.as_bytes()[taken..])
            }
            Stage::Failed => Ok(()),
        }
    }

    /// Decides how the file is read, unless already decided, and passes on the buffered text.
    fn begin_slicing(&mut self, is_whole: bool) -> Result<&mut Slicer, CutError> {
        self.stage = match mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Opening(opening) => {
                let (layout, kept) = opening.decide(is_whole)?;
                let start = layout.start;
                let mut slicer = Slicer::new(self.limits, layout);
                slicer.feed(&kept[start..])?;
                Stage::Slicing(Box::new(slicer))
            }
            stage => stage,
        };
        match &mut self.stage {
            Stage::Slicing(slicer) => Ok(slicer),
            Stage::Opening(_) | Stage::Failed => Err(CutError::Empty { has_header: false }),
        }
    }
}

/// The part being filled. **Invariant:** before its first record is complete, it contains only bytes of
/// that record.
#[derive(Debug)]
struct Slicer {
    limits: Limits,
    delimiter: Delimiter,
    columns: Columns,
    read_as: ReadAs,
    scanner: Scanner,
    /// The line of the current record's start.
    record_line: u64,
    buffer: Vec<u8>,
    first_line: u64,
    records: u64,
    total_records: u64,
    ready: VecDeque<Part>,
}

impl Slicer {
    /// Starts at the first row of the layout.
    fn new(limits: Limits, layout: Layout) -> Self {
        let Layout { delimiter, columns, read_as, line, start: _ } = layout;
        let names_bytes: usize = columns.metadata.iter().map(|column| column.name.len()).sum();
        let part_records = limits.part_records.min(MAX_PART_NAMES_BYTES / names_bytes.max(1) as u64);
        Self {
            limits: Limits { part_records, ..limits },
            delimiter,
            columns,
            read_as,
            scanner: Scanner::new(delimiter, line),
            record_line: line,
            buffer: Vec::new(),
            first_line: line,
            records: 0,
            total_records: 0,
            ready: VecDeque::new(),
        }
    }

    fn line(&self) -> u64 {
        self.scanner.line()
    }

    fn layout(&self) -> (&Columns, Delimiter) {
        (&self.columns, self.delimiter)
    }

    fn take_part(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    fn feed(&mut self, text: &[u8]) -> Result<(), CutError> {
        // `text[copied..at]` is scanned but not yet buffered: copying each record separately is slower.
        let (mut copied, mut at) = (0, 0);
        while at < text.len() {
            // One byte beyond the limit, so that its detection does not depend on the pieces.
            let window = (MAX_RECORD_BYTES + 1 - self.scanner.length()).min(text.len() - at);
            if let Some(end) = self.scanner.next_end(&text[at..at + window]) {
                at += end.next;
                if self.must_touch_buffer(end, at - copied) {
                    self.buffer.extend_from_slice(&text[copied..at]);
                    copied = at;
                }
                self.end_record(end);
            } else {
                at += window;
                self.check_length()?;
            }
        }
        self.buffer.extend_from_slice(&text[copied..]);
        Ok(())
    }

    fn finish(mut self, bytes: u64) -> Result<Cut, CutError> {
        if self.scanner.is_inside_quotes() {
            return Err(CutError::UnclosedQuote { line: self.record_line });
        }
        if let Some(end) = self.scanner.last_end() {
            self.end_record(end);
        }
        if self.records > 0 {
            self.close_part();
        }
        if self.total_records == 0 {
            return Err(CutError::Empty { has_header: self.read_as.header });
        }
        let summary = Summary {
            delimiter: self.delimiter,
            columns: self.columns,
            read_as: self.read_as,
            records: self.total_records,
            lines: self.scanner.line() - 1,
            bytes,
        };
        Ok(Cut { parts: self.ready.into(), summary })
    }

    fn check_length(&self) -> Result<(), CutError> {
        if self.scanner.length() <= MAX_RECORD_BYTES {
            return Ok(());
        }
        let inside_quotes = self.scanner.is_inside_quotes();
        Err(CutError::RecordTooLong { line: self.record_line, inside_quotes })
    }

    /// Whether [`Self::end_record`] will use the buffer, which lacks `missing` bytes.
    fn must_touch_buffer(&self, end: End, missing: usize) -> bool {
        (end.blank && self.records == 0)
            || self.is_full(self.buffer.len() + missing, self.records + u64::from(!end.blank))
    }

    fn is_full(&self, bytes: usize, records: u64) -> bool {
        bytes >= self.limits.part_bytes || records >= self.limits.part_records
    }

    fn end_record(&mut self, end: End) {
        self.record_line = self.scanner.line();
        if !end.blank {
            self.records += 1;
            self.total_records += 1;
        }
        if self.records == 0 {
            self.buffer.clear();
            self.first_line = self.record_line;
        } else if self.is_full(self.buffer.len(), self.records) {
            self.close_part();
        }
    }

    fn close_part(&mut self) {
        // The next part will have about the same size; the reserve avoids a reallocation if it is slightly
        // larger.
        let next_buffer = Vec::with_capacity(self.buffer.len() + self.buffer.len() / 8);
        let bytes = Bytes::from(mem::replace(&mut self.buffer, next_buffer));
        let lines = self.scanner.line() - self.first_line;
        self.ready.push_back(Part { bytes, first_line: self.first_line, records: self.records, lines });
        self.first_line = self.scanner.line();
        self.records = 0;
    }
}
