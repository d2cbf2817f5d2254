//! How a record falls into cells: csv-core's reader over one record at a time, in memory that is used again.

use std::fmt;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::Delimiter;

/// Splits records, each on its own: nothing of one reaches the next.
pub(super) struct Splitter {
    reader: Reader,
    /// The cells' text without their quotes, one behind the other.
    text: Vec<u8>,
    /// Where each cell ends in `text`.
    ends: Vec<usize>,
}

impl Splitter {
    pub(super) fn new(delimiter: Delimiter) -> Self {
        let reader = ReaderBuilder::new().delimiter(delimiter.byte()).build();
        Self { reader, text: Vec::new(), ends: vec![0; 16] }
    }

    /// The cells of a record given without its line break.
    pub(super) fn split(&mut self, raw: &str) -> Cells<'_> {
        // csv-core asks for room before it looks at the input, hence one byte more than can be written.
        if self.text.len() <= raw.len() {
            self.text.resize(raw.len() + 1, 0);
        }
        self.reader.reset();
        // A fresh reader drops a byte order mark. Inside a file it is text, so spend that on a line break.
        let _ = self.reader.read_record(b"\n", &mut self.text, &mut self.ends);
        let (mut written, mut count, mut input) = (0, 0, raw.as_bytes());
        loop {
            let (result, read, wrote, ended) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[count..]);
            (input, written, count) = (&input[read..], written + wrote, count + ended);
            // Empty input ends the record. A line break outside quotes would too: what follows it is no part of it.
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

impl fmt::Debug for Splitter {
    /// The buffers are as large as the longest record and say nothing.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Splitter").finish_non_exhaustive()
    }
}

/// The cells of one record.
pub(super) struct Cells<'a> {
    text: &'a str,
    ends: &'a [usize],
}

impl<'a> Cells<'a> {
    /// The cell at `index`, empty if the record ends before it.
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
}
