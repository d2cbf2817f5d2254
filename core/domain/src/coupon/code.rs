//! A coupon code as it is stored and compared: trimmed, upper-cased, `A-Z0-9-_`, 3–64 characters. A
//! [`Code`] is always valid, so later code does not check it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text;

/// Minimum length, in characters: shorter codes can be guessed by hand and are typing errors in imported
/// files.
pub const MIN_CHARS: usize = 3;

/// Maximum length, in characters: fits a printed barcode and keeps index rows small.
pub const MAX_CHARS: usize = 64;

/// Whether each byte is allowed in a code, in either case. A table, because imports look up each byte of a
/// file.
const LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        legal[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        byte += 1;
    }
    legal
};

/// A valid coupon code. Codes are ordered by their bytes, as in the database (`COLLATE "C"`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Code(String);

/// Why a text is not a coupon code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// Empty after trimming.
    #[error("the code is empty")]
    Empty,
    /// Fewer than [`MIN_CHARS`] characters.
    #[error("the code is shorter than {MIN_CHARS} characters")]
    TooShort,
    /// More than [`MAX_CHARS`] characters.
    #[error("the code is longer than {MAX_CHARS} characters")]
    TooLong,
    /// The first invalid character.
    #[error("the code has the character {0:?}; only letters A-Z, digits, - and _ are allowed")]
    BadCharacter(char),
}

impl CodeError {
    /// The text for the errors file of an import. It names the character, which may be invisible.
    pub fn detail(self) -> String {
        match self {
            Self::BadCharacter(character) => {
                let name = match character {
                    ' ' => "a blank (U+0020)".to_owned(),
                    '\u{a0}' => "a no-break space (U+00A0)".to_owned(),
                    _ if character.is_control()
                        || character.is_whitespace()
                        || text::is_control_or_format(character) =>
                    {
                        format!("U+{:04X}", u32::from(character))
                    }
                    _ => format!("{character} (U+{:04X})", u32::from(character)),
                };
                format!("the code has {name}; only letters A-Z, digits, - and _ are allowed")
            }
            Self::Empty | Self::TooShort | Self::TooLong => self.to_string(),
        }
    }

    /// The stable name of the fault, in the errors file of an import.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::BadCharacter(_) => "bad_character",
        }
    }
}

impl Code {
    /// Parses a code from user input or a file.
    ///
    /// # Errors
    /// A [`CodeError`] if the trimmed, upper-cased text is not a code. A bad character takes precedence
    /// over a wrong length, because it must be corrected first.
    pub fn parse(input: &str) -> Result<Self, CodeError> {
        let trimmed = check(input)?;
        Ok(Self(trimmed.to_ascii_uppercase()))
    }

    /// Appends the normalized code to `into`, for callers that parse millions of codes with one buffer.
    ///
    /// # Errors
    /// As [`Code::parse`]; `into` is then unchanged.
    pub fn normalize(input: &str, into: &mut String) -> Result<(), CodeError> {
        let trimmed = check(input)?;
        let start = into.len();
        into.push_str(trimmed);
        into[start..].make_ascii_uppercase();
        Ok(())
    }

    /// The normalized text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The normalized text, by value.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether this byte is allowed in a code, in either case.
pub(super) fn is_legal(byte: u8) -> bool {
    LEGAL[usize::from(byte)]
}

/// The trimmed text, if it is a code after upper-casing.
fn check(input: &str) -> Result<&str, CodeError> {
    let trimmed = input.trim();
    if let Some(at) = trimmed.bytes().position(|byte| !is_legal(byte)) {
        // All bytes before `at` are ASCII, so a character starts here.
        return Err(trimmed[at..].chars().next().map_or(CodeError::Empty, CodeError::BadCharacter));
    }
    match trimmed.len() {
        0 => Err(CodeError::Empty),
        1..MIN_CHARS => Err(CodeError::TooShort),
        MIN_CHARS..=MAX_CHARS => Ok(trimmed),
        _ => Err(CodeError::TooLong),
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = CodeError;

    fn from_str(input: &str) -> Result<Self, CodeError> {
        Self::parse(input)
    }
}

impl TryFrom<String> for Code {
    type Error = CodeError;

    fn try_from(input: String) -> Result<Self, CodeError> {
        Self::parse(&input)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_trimmed_and_upper_cased() {
        assert_eq!(Code::parse("\t summer-26_a \r\n").unwrap().as_str(), "SUMMER-26_A");
        assert_eq!(Code::parse("\u{a0}abc\u{a0}").unwrap().as_str(), "ABC", "spreadsheets pad with NBSP");
    }

    #[test]
    fn each_fault_has_its_name() {
        let cases = [
            ("", CodeError::Empty, "empty"),
            (" \t\n", CodeError::Empty, "empty"),
            ("ab", CodeError::TooShort, "too_short"),
            (&"A".repeat(65), CodeError::TooLong, "too_long"),
            ("AB C", CodeError::BadCharacter(' '), "bad_character"),
            ("añ", CodeError::BadCharacter('ñ'), "bad_character"),
            ("ABC\0", CodeError::BadCharacter('\0'), "bad_character"),
        ];
        for (input, error, reason) in cases {
            assert_eq!(Code::parse(input), Err(error), "{input:?}");
            assert_eq!(error.reason(), reason);
        }
    }

    #[test]
    fn both_ends_of_the_length_are_codes() {
        for length in [MIN_CHARS, MAX_CHARS] {
            assert!(Code::parse(&"Z".repeat(length)).is_ok(), "{length}");
        }
    }

    #[test]
    fn a_refused_text_leaves_the_buffer_alone() {
        let mut buffer = String::from("KEPT,");
        assert_eq!(Code::normalize("no!", &mut buffer), Err(CodeError::BadCharacter('!')));
        assert_eq!(buffer, "KEPT,");
        Code::normalize(" abc ", &mut buffer).unwrap();
        assert_eq!(buffer, "KEPT,ABC");
    }

    #[test]
    fn json_is_checked_on_the_way_in() {
        let code: Code = serde_json::from_str("\" abc-1 \"").unwrap();
        assert_eq!(serde_json::to_string(&code).unwrap(), "\"ABC-1\"");
        let rejected = serde_json::from_str::<Code>("\"a b\"").unwrap_err();
        assert!(rejected.to_string().contains("the code has the character ' '"), "{rejected}");
    }

    proptest! {
        #[test]
        fn a_code_read_again_is_itself(input in "\\s{0,2}[ -~é]{0,70}\\s{0,2}") {
            let mut buffer = String::new();
            let normalized = Code::normalize(&input, &mut buffer);
            match Code::parse(&input) {
                Ok(code) => {
                    prop_assert_eq!(Code::parse(code.as_str()), Ok(code.clone()));
                    prop_assert_eq!(buffer, code.into_string());
                }
                Err(error) => prop_assert_eq!(normalized, Err(error)),
            }
        }
    }
}
