//! Lets only UTF-8 text through, whatever the borders between pieces, without its byte order mark.

use std::mem;

use memchr::memchr;

use super::CutError;

const UTF8_MARK: &[u8] = b"\xEF\xBB\xBF";
const UTF16_MARKS: [&[u8]; 2] = [b"\xFF\xFE", b"\xFE\xFF"];

/// Remembers the few bytes that cannot be judged before the next piece.
#[derive(Debug, Default)]
pub(super) struct TextGate {
    /// The file's first bytes until a mark can be told, later a character whose end is missing.
    held: Vec<u8>,
    opened: bool,
}

/// The text in a piece: `lead`, then `text`, then `fault` if something else follows.
#[derive(Debug, Default)]
pub(super) struct Checked<'a> {
    /// What earlier pieces held back, complete now.
    pub(super) lead: Vec<u8>,
    pub(super) text: &'a [u8],
    pub(super) fault: Option<Fault>,
}

/// What is not text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    NotUtf8,
    Utf16,
    ZeroByte,
}

impl Fault {
    pub(super) fn on_line(self, line: u64) -> CutError {
        match self {
            Self::NotUtf8 => CutError::NotUtf8 { line },
            Self::Utf16 => CutError::Utf16,
            Self::ZeroByte => CutError::ZeroByte { line },
        }
    }
}

impl TextGate {
    /// Judges the next piece.
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
        if let Some(fault) = self.hold_tail(&mut lead) {
            return Checked { lead, fault: Some(fault), text: &[] };
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

    /// Judges what is still held: nothing follows.
    pub(super) fn finish(&mut self) -> Checked<'static> {
        let mark = self.open();
        let mut lead = mem::take(&mut self.held);
        if mark.is_some() {
            return Checked { fault: mark, ..Checked::default() };
        }
        let fault = self.hold_tail(&mut lead);
        let cut_short = (!self.held.is_empty()).then_some(Fault::NotUtf8);
        Checked { lead, text: &[], fault: fault.or(cut_short) }
    }

    fn wanted_for_mark(&self) -> usize {
        if self.opened { 0 } else { UTF8_MARK.len() - self.held.len() }
    }

    /// Looks for a mark in the file's first bytes, once.
    fn open(&mut self) -> Option<Fault> {
        if mem::replace(&mut self.opened, true) {
            return None;
        }
        if self.held == UTF8_MARK {
            self.held.clear();
        }
        UTF16_MARKS.iter().any(|mark| self.held.starts_with(mark)).then_some(Fault::Utf16)
    }

    /// Leaves the text in `lead`, and holds the unfinished character behind it.
    fn hold_tail(&mut self, lead: &mut Vec<u8>) -> Option<Fault> {
        let (text, rest) = examine(lead);
        let tail = lead.split_off(text.len());
        match rest {
            Rest::Nothing => None,
            Rest::Fault(fault) => Some(fault),
            Rest::Incomplete => {
                self.held = tail;
                None
            }
        }
    }
}

/// What stands behind the text.
enum Rest {
    Nothing,
    Incomplete,
    Fault(Fault),
}

/// The longest beginning that is text, and what stands behind it.
fn examine(bytes: &[u8]) -> (&[u8], Rest) {
    let (text, rest) = match str::from_utf8(bytes) {
        Ok(_) => (bytes, Rest::Nothing),
        Err(error) => {
            let rest = error.error_len().map_or(Rest::Incomplete, |_| Rest::Fault(Fault::NotUtf8));
            (&bytes[..error.valid_up_to()], rest)
        }
    };
    match memchr(0, text) {
        Some(zero) => (&text[..zero], Rest::Fault(Fault::ZeroByte)),
        None => (text, rest),
    }
}
