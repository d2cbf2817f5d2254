//! Buffers the beginning of a file until the layout can be decided.

use super::super::CutError;
use super::super::layout::{Layout, ReadOptions, SAMPLE_BYTES, decide};
use super::super::record::Delimiter;

/// The beginning of a file. **Invariant:** the buffered text, and therefore the decision, depends only on
/// the file's bytes, not on the pieces in which they arrived.
#[derive(Debug)]
pub(super) struct Opening {
    options: ReadOptions,
    /// The text from the first non-blank line on; before that line, the blanks of the current line.
    kept: Vec<u8>,
    has_text: bool,
    ends_with_cr: bool,
    first_line: u64,
}

impl Opening {
    pub(super) fn new(options: ReadOptions) -> Self {
        Self { options, kept: Vec::new(), has_text: false, ends_with_cr: false, first_line: 1 }
    }

    /// Buffers text. When there is enough to decide, returns how many bytes were used.
    pub(super) fn feed(&mut self, text: &str) -> Option<usize> {
        let mut taken = 0;
        if !self.has_text {
            for character in text.chars() {
                if !self.pass_blank(character) {
                    break;
                }
                taken += character.len_utf8();
            }
        }
        if self.kept.len() < SAMPLE_BYTES {
            let wanted = (SAMPLE_BYTES - self.kept.len()).min(text.len() - taken);
            self.kept.extend_from_slice(&text.as_bytes()[taken..taken + wanted]);
            taken += wanted;
        }
        (self.kept.len() >= SAMPLE_BYTES).then_some(taken)
    }

    /// Skips a blank before the first text of the file; returns `false` at that text.
    fn pass_blank(&mut self, character: char) -> bool {
        let ends_a_crlf = self.ends_with_cr && character == '\n';
        self.ends_with_cr = character == '\r';
        match character {
            '\n' | '\r' => {
                self.first_line += u64::from(!ends_a_crlf);
                self.kept.clear();
            }
            ' ' | '\t' | '\x0c' if self.kept.len() < SAMPLE_BYTES => self.kept.push(character as u8),
            // The first mark was already removed; some programs write two.
            '\u{feff}' if self.kept.is_empty() && self.first_line == 1 => {}
            _ => self.has_text = true,
        }
        !self.has_text
    }

    /// The physical line of the next byte.
    pub(super) fn line(&self) -> u64 {
        let breaks = |bytes: &[u8]| {
            let all = memchr::memchr2_iter(b'\n', b'\r', bytes);
            all.filter(|at| bytes[*at] == b'\n' || bytes.get(at + 1) != Some(&b'\n')).count() as u64
        };
        self.first_line + breaks(&self.kept)
    }

    /// Decides the layout, and returns it with the buffered text.
    pub(super) fn decide(self, is_whole: bool) -> Result<(Layout, Vec<u8>), CutError> {
        let length = match str::from_utf8(&self.kept) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = str::from_utf8(&self.kept[..length]).unwrap_or_default();
        let (named, start, line) = match delimiter_line(text) {
            Some((named, start)) => (Some(named), start, self.first_line + 1),
            None => (None, 0, self.first_line),
        };
        let delimiter = match (self.options.delimiter, named) {
            (Some(delimiter), _) => Some(delimiter),
            (None, Some(named)) => Some(Delimiter::of(named).ok_or(CutError::UnknownDelimiter { named })?),
            (None, None) => None,
        };
        let options = ReadOptions { delimiter, ..self.options };
        let mut layout = decide(&text[start..], line, is_whole, &options)?;
        layout.start += start;
        Ok((layout, self.kept))
    }
}

/// The line `sep=X`, with which spreadsheets name the delimiter: returns X and the start of the text after
/// the line.
fn delimiter_line(text: &str) -> Option<(char, usize)> {
    let end = text.find(['\n', '\r']).unwrap_or(text.len());
    let line = text[..end].trim_matches('"').trim_start();
    let named = line.get(..4).filter(|name| name.eq_ignore_ascii_case("sep=")).and(line.get(4..))?;
    let mut characters = named.chars();
    let delimiter = characters.next().filter(|named| *named == '\t' || !named.is_whitespace())?;
    // If a spreadsheet saved this line as a row, its own delimiters follow.
    if !characters.all(|character| {
        character == delimiter || character.is_whitespace() || Delimiter::of(character).is_some()
    }) {
        return None;
    }
    let line_break = if text[end..].starts_with("\r\n") { 2 } else { text[end..].len().min(1) };
    let mark = &text[end + line_break..];
    Some((delimiter, text.len() - mark.trim_start_matches('\u{feff}').len()))
}
