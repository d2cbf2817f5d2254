//! Gathers records into parts once the delimiter is known, and takes the header out.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::cells::Splitter;
use super::scan::{End, Scanner};
use super::{Columns, Cut, CutError, Delimiter, Limits, MAX_RECORD_BYTES, Part, Summary};

/// The part being filled. **Invariant:** before its first record it holds nothing but the bytes of that record.
#[derive(Debug)]
pub(super) struct Slicer {
    limits: Limits,
    delimiter: Delimiter,
    scanner: Scanner,
    /// The line the current record starts on.
    record_line: u64,
    /// Told from the first record.
    columns: Option<Columns>,
    buffer: Vec<u8>,
    first_line: u64,
    records: u64,
    total_records: u64,
    ready: VecDeque<Part>,
}

impl Slicer {
    pub(super) fn new(limits: Limits) -> Self {
        let delimiter = Delimiter::default();
        Self {
            limits,
            delimiter,
            scanner: Scanner::new(delimiter.bytes(), 1),
            record_line: 1,
            columns: None,
            buffer: Vec::new(),
            first_line: 1,
            records: 0,
            total_records: 0,
            ready: VecDeque::new(),
        }
    }

    /// Says, before any text, what parts the cells and on which line the text begins.
    pub(super) fn begin(&mut self, delimiter: Delimiter, line: u64) {
        self.delimiter = delimiter;
        self.scanner = Scanner::new(delimiter.bytes(), line);
        self.record_line = line;
        self.first_line = line;
    }

    pub(super) fn line(&self) -> u64 {
        self.scanner.line()
    }

    pub(super) fn take_part(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    pub(super) fn feed(&mut self, text: &[u8]) -> Result<(), CutError> {
        // `text[copied..at]` is scanned but not in the buffer yet: copying record by record costs more.
        let (mut copied, mut at) = (0, 0);
        while at < text.len() {
            // One byte past the limit, so that where it is noticed does not depend on the pieces.
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
        let columns = self.columns.ok_or(CutError::Empty)?;
        let (delimiter, records, lines) = (self.delimiter, self.total_records, self.scanner.line() - 1);
        Ok(Cut { parts: self.ready.into(), summary: Summary { delimiter, columns, records, lines, bytes } })
    }

    fn check_length(&self) -> Result<(), CutError> {
        if self.scanner.length() <= MAX_RECORD_BYTES {
            return Ok(());
        }
        let inside_quotes = self.scanner.is_inside_quotes();
        Err(CutError::RecordTooLong { line: self.record_line, inside_quotes })
    }

    /// Whether [`Self::end_record`] will look into the buffer, which lacks `missing` bytes.
    fn must_touch_buffer(&self, end: End, missing: usize) -> bool {
        self.columns.is_none()
            || (end.blank && self.records == 0)
            || self.is_full(self.buffer.len() + missing, self.records + u64::from(!end.blank))
    }

    fn is_full(&self, bytes: usize, records: u64) -> bool {
        bytes >= self.limits.part_bytes || records >= self.limits.part_records
    }

    fn end_record(&mut self, end: End) {
        self.record_line = self.scanner.line();
        let skipped = end.blank || self.take_header(end);
        if !skipped {
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

    /// Settles the columns at the first record, and says whether it was a header.
    fn take_header(&mut self, end: End) -> bool {
        if self.columns.is_some() {
            return false;
        }
        let record =
            str::from_utf8(&self.buffer[..end.length]).expect("the text gate lets UTF-8 through only");
        let header = Columns::from_header(Splitter::new(self.delimiter).split(record).iter());
        let found = header.is_some();
        self.columns = Some(header.unwrap_or_default());
        found
    }

    fn close_part(&mut self) {
        // The next part will be about as large, and should not have to move when it is a little larger.
        let next_buffer = Vec::with_capacity(self.buffer.len() + self.buffer.len() / 8);
        let bytes = Bytes::from(mem::replace(&mut self.buffer, next_buffer));
        let lines = self.scanner.line() - self.first_line;
        self.ready.push_back(Part { bytes, first_line: self.first_line, records: self.records, lines });
        self.first_line = self.scanner.line();
        self.records = 0;
    }
}
