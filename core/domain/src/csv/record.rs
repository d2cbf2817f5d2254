//! Records: what a record is, where it ends, and its cells.
//!
//! [`records`] iterates over the records of a text. [`Scanner`] finds the end of each record in text that arrives in
//! pieces, and counts physical lines. [`Splitter`] splits a record into cells with csv-core.
//!
//! The rules are those of csv-core, with two exceptions. A record ends at LF, CRLF or a lone CR outside quotes. A quote is
//! special only at the start of a field, after optional blanks (the first exception); inside quotes `""` is a literal
//! quote; text after a closing quote continues unquoted. A record of only delimiters, blanks and empty quotes is a blank
//! line (the second exception).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};
use memchr::{memchr_iter, memchr3};
use serde::{Deserialize, Serialize};

use crate::text;

const QUOTE: u8 = b'"';

/// A record of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The physical line of its start, from 1.
    pub line: u64,
    /// Its text, without the final line break.
    pub raw: &'a str,
}

/// The records of a part whose first byte is on physical line `first_line`; blank lines are skipped.
pub fn records(part: &str, delimiter: Delimiter, first_line: u64) -> Records<'_> {
    Records {
        rest: part,
        length: part.len(),
        scanner: Scanner::new(delimiter, first_line),
        is_unfinished: false,
    }
}

/// The iterator of [`records`].
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a str,
    /// Length of the whole part, in bytes.
    length: usize,
    scanner: Scanner,
    is_unfinished: bool,
}

impl Records<'_> {
    /// The next record or blank line.
    fn next_end(&mut self) -> Option<End> {
        if let Some(end) = self.scanner.next_end(self.rest.as_bytes()) {
            return Some(end);
        }
        self.is_unfinished = self.scanner.is_inside_quotes();
        self.scanner.last_end().map(|end| End { next: self.rest.len(), ..end })
    }

    /// The start of the next record, as a byte offset in the part, and its physical line.
    pub(super) fn position(&self) -> (usize, u64) {
        (self.length - self.rest.len(), self.scanner.line())
    }

    /// Whether the last record ended inside quotes.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let line = self.scanner.line();
            let end = self.next_end()?;
            let (text, rest) = self.rest.split_at(end.next);
            self.rest = rest;
            if !end.blank {
                return Some(Record { line, raw: &text[..end.length] });
            }
        }
    }
}

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
    position: Position,
    /// Whether the field has only blanks so far. Undefined inside quotes.
    at_field_start: bool,
    /// The last byte of the record. Undefined while `length` is 0.
    previous: u8,
    length: usize,
    blank: bool,
    line: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
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
        let position = Position::Unquoted;
        Self { delimiter, position, at_field_start: true, previous: 0, length: 0, blank: true, line }
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
        self.position == Position::Quoted
    }

    /// Scans to the end of the current record; returns `None` if `text` ends before it.
    pub(super) fn next_end(&mut self, text: &[u8]) -> Option<End> {
        let first = text.first()?;
        if self.position == Position::Ending {
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
                            self.position = Position::Ending;
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
        if self.position != Position::Ending {
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
        if self.position == Position::Quoted {
            self.blank = self.blank && plain.iter().all(u8::is_ascii_whitespace);
            return;
        }
        self.blank = self.blank && plain.iter().all(|byte| self.is_blank(*byte));
        self.position = Position::Unquoted;
        if let Some(&last_visible) = plain.iter().rfind(|byte| !is_padding(**byte, self.delimiter)) {
            self.at_field_start = last_visible == self.delimiter;
        }
    }

    fn is_blank(&self, byte: u8) -> bool {
        byte.is_ascii_whitespace() || byte == self.delimiter
    }

    fn pass_quote(&mut self) {
        self.position = match self.position {
            Position::Quoted => Position::Closing,
            Position::Closing => {
                self.blank = false;
                Position::Quoted
            }
            Position::Unquoted | Position::Ending if self.at_field_start => Position::Quoted,
            Position::Unquoted | Position::Ending => {
                self.blank = false;
                Position::Unquoted
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
    let (mut kept, mut copied, mut in_field) = (String::with_capacity(raw.len()), 0, InField::Start(0));
    for (at, &byte) in bytes.iter().enumerate() {
        in_field = match in_field {
            InField::Start(start) if byte == b'"' => {
                kept.push_str(&raw[copied..start]);
                copied = at;
                InField::Quoted
            }
            InField::Quoted if byte == b'"' => InField::Closing,
            InField::Closing if byte == b'"' => InField::Quoted,
            InField::Quoted => InField::Quoted,
            _ if byte == delimiter => InField::Start(at + 1),
            InField::Start(start) if is_padding(byte, delimiter) => InField::Start(start),
            InField::Start(_) | InField::Text | InField::Closing => InField::Text,
        };
    }
    kept.push_str(&raw[copied..]);
    Cow::Owned(kept)
}

/// The position of a byte in its field.
#[derive(Clone, Copy)]
enum InField {
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

/// Whether the byte may precede an opening quote: a space, or a tab unless it is the delimiter.
pub(super) fn is_padding(byte: u8, delimiter: u8) -> bool {
    byte != delimiter && matches!(byte, b' ' | b'\t')
}

/// The supported delimiters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Delimiter {
    /// `,`, and the choice if several delimiters fit equally.
    #[default]
    #[serde(rename = ",")]
    Comma,
    /// `;`, used by spreadsheets if the comma is the decimal separator.
    #[serde(rename = ";")]
    Semicolon,
    /// A tab, used by spreadsheets for the clipboard and `.txt` files.
    #[serde(rename = "\t")]
    Tab,
    /// `|`.
    #[serde(rename = "|")]
    Pipe,
}

impl Delimiter {
    /// All delimiters; if several fit equally, the first is selected.
    pub const ALL: [Self; 4] = [Self::Comma, Self::Semicolon, Self::Tab, Self::Pipe];

    /// The values that [`FromStr`] accepts, for messages.
    pub const EXPECTED: &str = "a comma, a semicolon, a tab or a pipe: , ; tab |";

    /// The character as a byte.
    pub fn byte(self) -> u8 {
        match self {
            Self::Comma => b',',
            Self::Semicolon => b';',
            Self::Tab => b'\t',
            Self::Pipe => b'|',
        }
    }

    /// The delimiter of this character.
    pub fn of(character: char) -> Option<Self> {
        Self::ALL.into_iter().find(|delimiter| char::from(delimiter.byte()) == character)
    }
}

impl FromStr for Delimiter {
    type Err = &'static str;

    /// Parses the character or its English name; a tab may also be `\t`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut characters = text.chars();
        if let (Some(character), None) = (characters.next(), characters.next()) {
            return Self::of(character).ok_or(Self::EXPECTED);
        }
        match text.to_ascii_lowercase().as_str() {
            "comma" => Ok(Self::Comma),
            "semicolon" => Ok(Self::Semicolon),
            "tab" | "\\t" => Ok(Self::Tab),
            "pipe" => Ok(Self::Pipe),
            _ => Err(Self::EXPECTED),
        }
    }
}
