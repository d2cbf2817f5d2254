//! The delimiter between two cells.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
