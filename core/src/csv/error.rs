//! Why an upload cannot be cut: each reason with the line it was found on and what to do about it.

use super::MAX_RECORD_BYTES;

/// What is wrong with the shape of an upload. Lines are physical and count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// A byte sequence that is not UTF-8.
    #[error("line {line} is not UTF-8: save the file as CSV in UTF-8 and upload it again")]
    NotUtf8 {
        /// The line of the first wrong byte.
        line: u64,
    },
    /// The file begins with the byte order mark of UTF-16.
    #[error("the file is UTF-16: save it as CSV in UTF-8 and upload it again")]
    Utf16,
    /// A zero byte: legal UTF-8, but a binary file or UTF-16 without its mark, and Postgres could not store it.
    #[error(
        "line {line} has a zero byte, so the file is no text: save it as CSV in UTF-8 and upload it again"
    )]
    ZeroByte {
        /// The line of the first zero byte.
        line: u64,
    },
    /// Nothing but blank lines, or nothing at all.
    #[error("the file has no rows: put one code on each line")]
    Empty,
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
            Self::NotUtf8 { line }
            | Self::ZeroByte { line }
            | Self::RecordTooLong { line, .. }
            | Self::UnclosedQuote { line } => Some(line),
            Self::Utf16 => Some(1),
            Self::Empty => None,
        }
    }

    /// The stable name of the reason.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 { .. } | Self::Utf16 | Self::ZeroByte { .. } => "not_utf8",
            Self::Empty => "empty_file",
            Self::RecordTooLong { .. } => "record_too_long",
            Self::UnclosedQuote { .. } => "unclosed_quote",
        }
    }
}
