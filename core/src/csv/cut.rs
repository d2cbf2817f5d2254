//! The cutter: takes an upload in pieces of any size and hands out parts, holding one part and one record at most.

use bytes::Bytes;

use super::delimiter::Sniffer;
use super::slice::Slicer;
use super::text::{Checked, TextGate};
use super::{Columns, CutError, Delimiter};

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
    /// What parts the cells.
    pub delimiter: Delimiter,
    /// What each column holds.
    pub columns: Columns,
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
    /// Until the delimiter is known.
    sniffer: Option<Sniffer>,
    slicer: Slicer,
    bytes: u64,
}

impl Cutter {
    /// Begins an upload.
    pub fn new(limits: Limits) -> Self {
        Self {
            gate: TextGate::default(),
            sniffer: Some(Sniffer::new()),
            slicer: Slicer::new(limits),
            bytes: 0,
        }
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
        self.slicer.take_part()
    }

    /// Ends the upload.
    pub fn finish(mut self) -> Result<Cut, CutError> {
        let checked = self.gate.finish();
        self.accept(&checked)?;
        self.decide_delimiter()?;
        self.slicer.finish(self.bytes)
    }

    /// Text first: an error in it comes before the fault behind it.
    fn accept(&mut self, checked: &Checked<'_>) -> Result<(), CutError> {
        self.feed(&checked.lead)?;
        self.feed(checked.text)?;
        let Some(fault) = checked.fault else { return Ok(()) };
        self.decide_delimiter()?;
        Err(fault.on_line(self.slicer.line()))
    }

    fn feed(&mut self, text: &[u8]) -> Result<(), CutError> {
        let Some(sniffer) = &mut self.sniffer else { return self.slicer.feed(text) };
        let Some(taken) = sniffer.feed(text) else { return Ok(()) };
        self.decide_delimiter()?;
        self.slicer.feed(&text[taken..])
    }

    /// Hands over from the sniffer to the slicer, once.
    fn decide_delimiter(&mut self) -> Result<(), CutError> {
        let Some(sniffer) = self.sniffer.take() else { return Ok(()) };
        self.slicer.begin(sniffer.delimiter(), sniffer.first_line());
        self.slicer.feed(sniffer.buffer())
    }
}
