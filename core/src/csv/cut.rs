//! Cuts an upload: takes pieces of any size and returns parts. Holds at most one part and one record.

mod opening;
mod text;

use std::mem;

use bytes::Bytes;

use super::slice::Slicer;
use super::{Columns, CutError, Delimiter, ReadAs, ReadOptions};
use opening::Opening;
use text::{Checked, TextGate};

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
