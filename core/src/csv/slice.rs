//! Collects records into parts, after it is decided how the file is read.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::layout::Layout;
use super::record::{End, Scanner};
use super::{Columns, Cut, CutError, Delimiter, Limits, MAX_RECORD_BYTES, Part, ReadAs, Summary};

/// Maximum total size of the metadata names in a part, in bytes: each row repeats them.
const MAX_PART_NAMES_BYTES: u64 = 64 * 1024 * 1024;

/// The part being filled. **Invariant:** before its first record is complete, it contains only bytes of
/// that record.
#[derive(Debug)]
pub(super) struct Slicer {
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
    pub(super) fn new(limits: Limits, layout: Layout) -> Self {
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

    pub(super) fn line(&self) -> u64 {
        self.scanner.line()
    }

    pub(super) fn layout(&self) -> (&Columns, Delimiter) {
        (&self.columns, self.delimiter)
    }

    pub(super) fn take_part(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    pub(super) fn feed(&mut self, text: &[u8]) -> Result<(), CutError> {
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

    pub(super) fn finish(mut self, bytes: u64) -> Result<Cut, CutError> {
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
