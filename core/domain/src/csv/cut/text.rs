//! Accepts only UTF-8 text, in pieces with any boundaries, and removes its byte order mark.

use std::mem;

use memchr::memchr;

use super::super::CutError;

const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";
const UTF16_MARKS: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];

/// Holds the few bytes that need the next piece.
#[derive(Debug, Default)]
pub(super) struct TextGate {
    /// The first bytes of the file until the mark is decided; later, an incomplete character.
    held: Vec<u8>,
    opened: bool,
}

/// The text of a piece: `lead`, then `text`, then `fault` if the bytes after it are not text.
#[derive(Debug, Default)]
pub(super) struct Checked<'a> {
    /// The completed bytes of earlier pieces.
    pub(super) lead: String,
    pub(super) text: &'a str,
    pub(super) fault: Option<Fault>,
}

/// Why bytes are not text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// With the first invalid byte.
    NotUtf8(u8),
    Utf16,
    ZeroByte,
}

impl Fault {
    /// The error for a fault at byte `byte` (from 1) of physical line `line`.
    pub(super) fn at(self, line: u64, byte: u64) -> CutError {
        match self {
            Self::NotUtf8(value) => CutError::NotUtf8 { line, byte, value },
            Self::Utf16 => CutError::Utf16,
            Self::ZeroByte => CutError::ZeroByte { line },
        }
    }
}

impl TextGate {
    /// Checks the next piece.
    pub(super) fn check<'a>(&mut self, piece: &'a [u8]) -> Checked<'a> {
        let (head, mut rest) = piece.split_at(self.wanted_for_mark().min(piece.len()));
        self.held.extend_from_slice(head);
        if self.wanted_for_mark() > 0 {
            return Checked::default();
        }
        if let Some(fault) = self.open() {
            return Checked { fault: Some(fault), ..Checked::default() };
        }
        let mut lead = mem::take(&mut self.held);
        while let (_, Rest::Incomplete) = examine(&lead)
            && let Some((byte, after)) = rest.split_first()
        {
            lead.push(*byte);
            rest = after;
        }
        let (lead, fault) = self.hold_tail(&lead);
        if fault.is_some() {
            return Checked { lead, text: "", fault };
        }
        let (text, tail) = examine(rest);
        match tail {
            Rest::Nothing => Checked { lead, text, fault: None },
            Rest::Fault(fault) => Checked { lead, text, fault: Some(fault) },
            Rest::Incomplete => {
                self.held.extend_from_slice(&rest[text.len()..]);
                Checked { lead, text, fault: None }
            }
        }
    }

    /// Checks the held bytes at the end of the file.
    pub(super) fn finish(&mut self) -> Checked<'static> {
        let mark = self.open();
        let held = mem::take(&mut self.held);
        if mark.is_some() {
            return Checked { fault: mark, ..Checked::default() };
        }
        let (lead, fault) = self.hold_tail(&held);
        let cut_short = self.held.first().map(|byte| Fault::NotUtf8(*byte));
        Checked { lead, text: "", fault: fault.or(cut_short) }
    }

    fn wanted_for_mark(&self) -> usize {
        if self.opened { 0 } else { UTF8_MARK.len() - self.held.len() }
    }

    /// Checks the first bytes of the file for a mark, once.
    fn open(&mut self) -> Option<Fault> {
        if mem::replace(&mut self.opened, true) {
            return None;
        }
        if self.held == UTF8_MARK {
            self.held.clear();
        }
        UTF16_MARKS.iter().any(|mark| self.held.starts_with(mark)).then_some(Fault::Utf16)
    }

    /// Returns the text in `bytes` and the fault after it; holds an incomplete character at the end.
    fn hold_tail(&mut self, bytes: &[u8]) -> (String, Option<Fault>) {
        let (text, rest) = examine(bytes);
        let text = text.to_owned();
        match rest {
            Rest::Nothing => (text, None),
            Rest::Fault(fault) => (text, Some(fault)),
            Rest::Incomplete => {
                self.held = bytes[text.len()..].to_vec();
                (text, None)
            }
        }
    }
}

/// What follows the text.
enum Rest {
    Nothing,
    Incomplete,
    Fault(Fault),
}

/// The longest prefix that is text, and what follows it.
fn examine(bytes: &[u8]) -> (&str, Rest) {
    let (text, rest) = match str::from_utf8(bytes) {
        Ok(text) => (text, Rest::Nothing),
        Err(error) => {
            let (text, rest) = bytes.split_at(error.valid_up_to());
            let fault = error.error_len().and(rest.first()).map(|byte| Rest::Fault(Fault::NotUtf8(*byte)));
            (str::from_utf8(text).unwrap_or_default(), fault.unwrap_or(Rest::Incomplete))
        }
    };
    match memchr(0, text.as_bytes()) {
        Some(zero) => (&text[..zero], Rest::Fault(Fault::ZeroByte)),
        None => (text, rest),
    }
}
