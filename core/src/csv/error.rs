//! Why an upload cannot be cut: each reason with the line it was found on and what to do about it.

use super::{Delimiter, MAX_RECORD_BYTES};

/// What to do about a file in another encoding.
const SAVE_AS_UTF8: &str = "save it as UTF-8 and upload it again. In Excel: File, Save As, \
    \"CSV UTF-8 (Comma delimited)\". In LibreOffice: File, Save As, \"Text CSV\", tick \"Edit filter settings\", \
    character set \"Unicode (UTF-8)\"";

/// What is wrong with the shape of an upload. Lines are physical and count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A byte sequence that is not UTF-8.
    #[error("line {line} is not UTF-8 at byte {byte} of the line (0x{value:02X}): {SAVE_AS_UTF8}")]
    NotUtf8 {
        /// The line of the first wrong byte.
        line: u64,
        /// Which byte of the line it is, from 1.
        byte: u64,
        /// The byte.
        value: u8,
    },
    /// The file begins with the byte order mark of UTF-16.
    #[error("the file is UTF-16: {SAVE_AS_UTF8}")]
    Utf16,
    /// A zero byte: legal UTF-8, but a binary file or UTF-16 without its mark, and Postgres could not store it.
    #[error("line {line} has a zero byte, so the file is not text: {SAVE_AS_UTF8}")]
    ZeroByte {
        /// The line of the first zero byte.
        line: u64,
    },
    /// Nothing but blank lines and a header, or nothing at all.
    #[error("the file has no rows: put one code on each line{}", if *.has_header { " below the header" } else { "" })]
    Empty {
        /// Whether there is a header.
        has_header: bool,
    },
    /// The line `sep=X` names a delimiter that is not known.
    #[error("the line sep={named} names a delimiter that is not supported: use {}", Delimiter::EXPECTED)]
    UnknownDelimiter {
        /// The X.
        named: char,
    },
    /// It is not certain which record is the header or what its columns hold.
    #[error(
        "line {line}: {why}. Settle it with the parameters header=true or header=false, codeColumn and userColumn \
         (a column's name, or its number from 1) and delimiter"
    )]
    UnclearHeader {
        /// The line of the record in question.
        line: u64,
        /// What is not certain.
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
        /// Whether the limit was passed between quotes, and so probably for want of a closing one.
        inside_quotes: bool,
    },
    /// The file ends between quotes.
    #[error(
        "the record that starts on line {line} opens a quote that is never closed: close it, or remove it"
    )]
    UnclosedQuote {
        /// The line the record starts on.
        line: u64,
    },
}

impl CutError {
    /// The physical line to look at, if one line is to blame.
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
