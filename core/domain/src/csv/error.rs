//! The reasons why an upload cannot be cut, each with its line and the remedy.

use super::{Delimiter, MAX_RECORD_BYTES};

/// The remedy for a file in another encoding.
const SAVE_AS_UTF8: &str = "save it as UTF-8 and upload it again. In Excel: File, Save As, \
    \"CSV UTF-8 (Comma delimited)\". In LibreOffice: File, Save As, \"Text CSV\", tick \"Edit filter settings\", \
    character set \"Unicode (UTF-8)\"";

/// Why an upload cannot be cut. Lines are physical and count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A byte sequence that is not UTF-8.
    #[error("line {line} is not UTF-8 at byte {byte} of the line (0x{value:02X}): {SAVE_AS_UTF8}")]
    NotUtf8 {
        /// The line of the first invalid byte.
        line: u64,
        /// The byte's position in the line, from 1.
        byte: u64,
        /// The byte.
        value: u8,
    },
    /// The file begins with the byte order mark of UTF-16.
    #[error("the file is UTF-16: {SAVE_AS_UTF8}")]
    Utf16,
    /// A zero byte: valid UTF-8, but typical of a binary file or of UTF-16 without a mark, and Postgres
    /// cannot store it.
    #[error("line {line} has a zero byte, so the file is not text: {SAVE_AS_UTF8}")]
    ZeroByte {
        /// The line of the first zero byte.
        line: u64,
    },
    /// The file has no rows, only blank lines and possibly a header.
    #[error("the file has no rows: put one code on each line{}", if *.has_header { " below the header" } else { "" })]
    Empty {
        /// Whether there is a header.
        has_header: bool,
    },
    /// The line `sep=X` names an unsupported delimiter.
    #[error("the line sep={named} names a delimiter that is not supported: use {}", Delimiter::EXPECTED)]
    UnknownDelimiter {
        /// The X.
        named: char,
    },
    /// It is uncertain which record is the header, or what its columns contain.
    #[error(
        "line {line}: {why}. Determine it with the parameters header=true or header=false, codeColumn and userColumn \
         (a column's name, or its number from 1) and delimiter"
    )]
    UnclearHeader {
        /// The line of the record in question.
        line: u64,
        /// The uncertainty.
        why: String,
        /// The cells of that record, as read.
        first_record: Vec<String>,
    },
    /// A record of more than [`MAX_RECORD_BYTES`].
    #[error("the record that starts on line {line} is longer than {MAX_RECORD_BYTES} bytes: {}",
        if *.inside_quotes { "a quote that it opens is never closed" } else { "shorten it, or break it into lines" })]
    RecordTooLong {
        /// The line the record starts on.
        line: u64,
        /// Whether the limit was exceeded inside quotes, probably because of a missing closing quote.
        inside_quotes: bool,
    },
    /// The file ends inside quotes.
    #[error(
        "the record that starts on line {line} opens a quote that is never closed: close it, or remove it"
    )]
    UnclosedQuote {
        /// The line the record starts on.
        line: u64,
    },
}

impl CutError {
    /// The physical line with the error, if it is one line.
    pub fn line(&self) -> Option<u64> {
        match *self {
            Self::NotUtf8 { line, .. }
            | Self::ZeroByte { line }
            | Self::UnclearHeader { line, .. }
            | Self::RecordTooLong { line, .. }
            | Self::UnclosedQuote { line } => Some(line),
            Self::Utf16 | Self::UnknownDelimiter { .. } => Some(1),
            Self::Empty { .. } => None,
        }
    }

    /// The stable name of the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } | Self::Utf16 | Self::ZeroByte { .. } => "not_utf8",
            Self::Empty { .. } => "empty_file",
            Self::UnknownDelimiter { .. } => "unknown_delimiter",
            Self::UnclearHeader { .. } => "unclear_header",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::UnclosedQuote { .. } => "unclosed_quote",
        }
    }
}
