//! Splits a record into cells: csv-core's reader on one record at a time, with reused buffers.

use std::borrow::Cow;
use std::fmt;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::memchr_iter;

use super::Delimiter;
use super::record::is_padding;
use crate::text;

/// Splits records independently: a record has no effect on the next.
pub(super) struct Splitter {
    reader: Reader,
    delimiter: u8,
    /// The text of all cells without quotes, concatenated.
    text: Vec<u8>,
    /// The end of each cell in `text`.
    ends: Vec<usize>,
}

impl Splitter {
    pub(super) fn new(delimiter: Delimiter) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter.byte()).build();
        Self { reader, delimiter: delimiter.byte(), text: Vec::new(), ends: vec![0; 16] }
    }

    /// Splits a record, given without its line break.
    pub(super) fn split(&mut self, raw: &str) -> Cells<'_> {
        // csv-core checks for space before it reads input, so the buffer is one byte larger than its
        // output.
        if self.text.len() <= raw.len() {
            self.text.resize(raw.len() + 1, 0);
        }
        self.reader.reset();
        // A new reader drops a byte order mark. Inside a file it is text, so the reader gets a line break
        // first.
        let _ = self.reader.read_record(b"\n", &mut self.text, &mut self.ends);
        let raw = without_padding(raw, self.delimiter);
        let (mut written, mut count, mut input) = (0, 0, raw.as_bytes());
        loop {
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[count..]);
            (input, written, count) = (&input[read..], written + wrote, count + ended);
            // Empty input ends the record. A line break outside quotes would end it too; text after it is
            // not part of the record.
            if matches!(result, ReadRecordResult::Record | ReadRecordResult::End) {
                break;
            }
            if count == self.ends.len() {
                self.ends.resize(2 * count, 0);
            }
        }
        let text =
            str::from_utf8(&self.text[..written]).expect("csv-core leaves out whole ASCII characters only");
        Cells { text, ends: &self.ends[..count] }
    }
}

/// Removes blanks before an opening quote: csv-core would treat such a quote as text.
fn without_padding(raw: &str, delimiter: u8) -> Cow<'_, str> {
    let bytes = raw.as_bytes();
    let is_padded = |quote: usize| quote > 0 && is_padding(bytes[quote - 1], delimiter);
    if !memchr_iter(b'"', bytes).any(is_padded) {
        return Cow::Borrowed(raw);
    }
    let (mut kept, mut copied, mut place) = (String::with_capacity(raw.len()), 0, Place::Start(0));
    for (at, &byte) in bytes.iter().enumerate() {
        place = match place {
            Place::Start(start) if byte == b'"' => {
                kept.push_str(&raw[copied..start]);
                copied = at;
                Place::Quoted
            }
            Place::Quoted if byte == b'"' => Place::Closing,
            Place::Closing if byte == b'"' => Place::Quoted,
            Place::Quoted => Place::Quoted,
            _ if byte == delimiter => Place::Start(at + 1),
            Place::Start(start) if is_padding(byte, delimiter) => Place::Start(start),
            Place::Start(_) | Place::Text | Place::Closing => Place::Text,
        };
    }
    kept.push_str(&raw[copied..]);
    Cow::Owned(kept)
}

/// The position of a byte in its field.
#[derive(Clone, Copy)]
enum Place {
    /// After nothing but blanks; the field starts at this index.
    Start(usize),
    Text,
    Quoted,
    /// After a quote inside quotes: it closed the quotes, unless another quote follows.
    Closing,
}

impl fmt::Debug for Splitter {
    /// Without the buffers, which are as large as the longest record.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Splitter").finish_non_exhaustive()
    }
}

/// Whether a cell has no visible text.
pub(super) fn is_empty(cell: &str) -> bool {
    text::trim(cell).is_empty()
}

/// Removes an apostrophe before a character that begins a formula. Exports add it.
pub(super) fn unescape(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(rest) if begins_formula(rest) => rest,
        _ => cell,
    }
}

/// Whether a spreadsheet would treat the cell as a formula (OWASP, CSV injection).
pub fn begins_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// The cells of a record.
pub(super) struct Cells<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Cells<'a> {
    /// The cell at `index`; empty if the record has fewer cells.
    pub(super) fn get(&self, index: usize) -> &'a str {
        let start = index.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied());
        match (start, self.ends.get(index)) {
            (Some(start), Some(&end)) => &self.text[start..end],
            _ => "",
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &'a str> {
        (0..self.ends.len()).map(|index| self.get(index))
    }

    /// The number of cells up to the last cell with text.
    pub(super) fn width(&self) -> usize {
        (0..self.ends.len()).rfind(|index| !is_empty(self.get(*index))).map_or(0, |last| last + 1)
    }
}
