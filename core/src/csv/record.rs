//! Defines what a record is: finds the end of each record in text that arrives in pieces, and counts
//! physical lines.
//!
//! The rules are those of csv-core, with two exceptions. A record ends at LF, CRLF or a lone CR outside
//! quotes. A quote is special only at the start of a field, after optional blanks (the first exception);
//! inside quotes `""` is a literal quote; text after a closing quote continues unquoted. A record of only
//! delimiters, blanks and empty quotes is a blank line (the second exception).

use memchr::memchr3;

use super::Delimiter;

const QUOTE: u8 = b'"';

/// The end of a record.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// Number of bytes of the given text that belong to the record, including the line break.
    pub(super) next: usize,
    /// Length of the record in bytes, including earlier pieces and without the line break.
    pub(super) length: usize,
    /// A blank line, not a record: only delimiters, ASCII whitespace and empty quotes.
    pub(super) blank: bool,
}

/// The state between two bytes.
#[derive(Debug)]
pub(super) struct Scanner {
    delimiter: u8,
    place: Place,
    /// Whether the field has only blanks so far. Undefined inside quotes.
    at_field_start: bool,
    /// The last byte of the record. Undefined while `length` is 0.
    previous: u8,
    length: usize,
    blank: bool,
    line: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Unquoted,
    Quoted,
    /// After a quote inside quotes: it closed the quotes, unless another quote follows.
    Closing,
    /// After the CR that ended the record: an LF directly after it belongs to it, and may be in the next
    /// piece.
    Ending,
}

impl Scanner {
    /// Starts a record on physical line `line`.
    pub(super) fn new(delimiter: Delimiter, line: u64) -> Self {
        Self::begin(delimiter.byte(), line)
    }

    fn begin(delimiter: u8, line: u64) -> Self {
        let place = Place::Unquoted;
        Self { delimiter, place, at_field_start: true, previous: 0, length: 0, blank: true, line }
    }

    /// The physical line of the next byte.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Length of the current record so far, in bytes without its line break.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Whether the next byte is inside quotes.
    pub(super) fn is_inside_quotes(&self) -> bool {
        self.place == Place::Quoted
    }

    /// Scans to the end of the current record; returns `None` if `text` ends before it.
    pub(super) fn next_end(&mut self, text: &[u8]) -> Option<End> {
        let first = text.first()?;
        if self.place == Place::Ending {
            return Some(self.end(usize::from(*first == b'\n')));
        }
        let mut at = 0;
        while let Some(plain) = memchr3(QUOTE, b'\n', b'\r', &text[at..]) {
            self.pass_plain(&text[at..at + plain]);
            at += plain + 1;
            match text[at - 1] {
                QUOTE => self.pass_quote(),
                line_break if self.is_inside_quotes() => self.pass_quoted_break(line_break),
                line_break => {
                    self.line += 1;
                    match (line_break, text.get(at)) {
                        (b'\r', None) => {
                            self.place = Place::Ending;
                            return None;
                        }
                        (b'\r', Some(b'\n')) => return Some(self.end(at + 1)),
                        _ => return Some(self.end(at)),
                    }
                }
            }
        }
        self.pass_plain(&text[at..]);
        None
    }

    /// Ends the record and the line at the end of the text, if one was started.
    pub(super) fn last_end(&mut self) -> Option<End> {
        if self.place != Place::Ending {
            if self.length == 0 {
                return None;
            }
            self.line += 1;
        }
        Some(self.end(0))
    }

    fn end(&mut self, next: usize) -> End {
        let end = End { next, length: self.length, blank: self.blank };
        *self = Self::begin(self.delimiter, self.line);
        end
    }

    /// Processes text without quotes and line breaks.
    fn pass_plain(&mut self, plain: &[u8]) {
        let Some(&last) = plain.last() else { return };
        self.length += plain.len();
        self.previous = last;
        if self.place == Place::Quoted {
            self.blank = self.blank && plain.iter().all(u8::is_ascii_whitespace);
            return;
        }
        self.blank = self.blank && plain.iter().all(|byte| self.is_blank(*byte));
        self.place = Place::Unquoted;
        if let Some(&last_visible) = plain.iter().rfind(|byte| !is_padding(**byte, self.delimiter)) {
            self.at_field_start = last_visible == self.delimiter;
        }
    }

    fn is_blank(&self, byte: u8) -> bool {
        byte.is_ascii_whitespace() || byte == self.delimiter
    }

    fn pass_quote(&mut self) {
        self.place = match self.place {
            Place::Quoted => Place::Closing,
            Place::Closing => {
                self.blank = false;
                Place::Quoted
            }
            Place::Unquoted | Place::Ending if self.at_field_start => Place::Quoted,
            Place::Unquoted | Place::Ending => {
                self.blank = false;
                Place::Unquoted
            }
        };
        self.at_field_start = false;
        self.length += 1;
        self.previous = QUOTE;
    }

    fn pass_quoted_break(&mut self, line_break: u8) {
        let ends_a_crlf = line_break == b'\n' && self.previous == b'\r';
        self.line += u64::from(!ends_a_crlf);
        self.length += 1;
        self.previous = line_break;
    }
}

/// Whether the byte may precede an opening quote: a space, or a tab unless it is the delimiter.
pub(super) fn is_padding(byte: u8, delimiter: u8) -> bool {
    byte != delimiter && matches!(byte, b' ' | b'\t')
}
