//! Which of `,` and `;` parts the cells, told from the first record.

use serde::{Deserialize, Serialize};

use super::MAX_RECORD_BYTES;
use super::scan::Scanner;

/// What stands between two cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delimiter {
    /// `,`, and the answer where nothing speaks for either.
    #[default]
    #[serde(rename = ",")]
    Comma,
    /// `;`, as spreadsheets write it where the comma is the decimal sign.
    #[serde(rename = ";")]
    Semicolon,
}

impl Delimiter {
    /// The character as a byte.
    pub fn byte(self) -> u8 {
        self.bytes()[0]
    }

    pub(super) fn bytes(self) -> &'static [u8] {
        match self {
            Self::Comma => b",",
            Self::Semicolon => b";",
        }
    }
}

/// Keeps the first record until its end, counting both delimiters outside quotes.
///
/// It reports no errors: at a record too long or cut off it decides by what it saw, and the slicer, which reads the
/// same bytes again with one delimiter, finds the fault.
#[derive(Debug)]
pub(super) struct Sniffer {
    scanner: Scanner,
    buffer: Vec<u8>,
    first_line: u64,
    commas: usize,
    semicolons: usize,
}

impl Sniffer {
    pub(super) fn new() -> Self {
        // Either may start a field here, so a quote after either opens.
        let scanner = Scanner::new(b",;", 1);
        Self { scanner, buffer: Vec::new(), first_line: 1, commas: 0, semicolons: 0 }
    }

    /// Takes text in; once there is enough to decide, says how much of it was taken. Blank lines are dropped.
    pub(super) fn feed(&mut self, text: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            let outside_quotes = !self.scanner.is_inside_quotes();
            match self.scanner.next_end(&[byte]) {
                Some(end) if end.blank => {
                    at += end.next;
                    self.buffer.clear();
                    self.first_line = self.scanner.line();
                }
                Some(end) => {
                    self.buffer.extend_from_slice(&text[at..at + end.next]);
                    return Some(at + end.next);
                }
                None => {
                    at += 1;
                    self.buffer.push(byte);
                    self.commas += usize::from(outside_quotes && byte == b',');
                    self.semicolons += usize::from(outside_quotes && byte == b';');
                    if self.scanner.length() > MAX_RECORD_BYTES {
                        return Some(at);
                    }
                }
            }
        }
        None
    }

    pub(super) fn delimiter(&self) -> Delimiter {
        if self.semicolons > self.commas { Delimiter::Semicolon } else { Delimiter::Comma }
    }

    /// The text taken in, from the first record on.
    pub(super) fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// The physical line on which [`Self::buffer`] begins.
    pub(super) fn first_line(&self) -> u64 {
        self.first_line
    }
}
