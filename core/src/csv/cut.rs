//! The cutter: takes an upload in pieces of any size and hands out parts, holding one part and one record at most.

use std::mem;

use bytes::Bytes;

use super::opening::Opening;
use super::slice::Slicer;
use super::text::{Checked, TextGate};
use super::{Columns, CutError, Delimiter, ReadAs, ReadOptions};

/// When a part is full. Either bound closes it, at the end of the record that reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of text.
    pub part_bytes: usize,
    /// Records.
    pub part_records: u64,
}

impl Default for Limits {
    /// 4 MiB or 50,000 records: seconds of work for one worker, and thousands of parts in the largest upload.
    fn default() -> Self {
        Self { part_bytes: 4 * 1024 * 1024, part_records: 50_000 }
    }
}

/// Consecutive lines of the upload, from the start of a record to the end of one (or of a blank line after it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// UTF-8 text, without byte order mark or header.
    pub bytes: Bytes,
    /// The physical line of the upload on which the first byte stands, counted from 1.
    pub first_line: u64,
    /// Records in it, at least one.
    pub records: u64,
    /// Physical lines in it, blank ones and those inside quotes included.
    pub lines: u64,
}

/// What the whole upload was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What separates the cells.
    pub delimiter: Delimiter,
    /// What each column holds.
    pub columns: Columns,
    /// The same for the file's owner.
    pub read_as: ReadAs,
    /// Records in all parts, so without the header.
    pub records: u64,
    /// Physical lines of the file, blank ones, the header and those inside quotes included.
    pub lines: u64,
    /// Bytes pushed.
    pub bytes: u64,
}

/// What [`Cutter::finish`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The parts not taken yet, in order: the last one, as a rule.
    pub parts: Vec<Part>,
    /// What the whole upload was.
    pub summary: Summary,
}

/// Cuts one upload. Parts and errors depend on the bytes alone, never on how they were divided into pushes.
///
/// After an error the upload is refused as a whole: the cutter must be dropped, and the parts it gave deleted.
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
    /// Until it is known how the file is read.
    Opening(Opening),
    Slicing(Box<Slicer>),
    /// An error was returned.
    Failed,
}

impl Cutter {
    /// Begins an upload.
    pub fn new(limits: Limits, options: ReadOptions) -> Self {
        let stage = Stage::Opening(Opening::new(options));
        Self { gate: TextGate::default(), limits, stage, line_bytes: 0, bytes: 0 }
    }

    /// Takes the next bytes. Call [`Self::take_part`] after each push until it has nothing more.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), CutError> {
        // A piece is gone over three times (zero bytes, UTF-8, records): this much stays in the processor's cache.
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

    /// Text first: an error in it comes before the fault behind it.
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

    /// Decides how the file is read, unless that is done, and hands over what was kept until then.
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
