//! Texts that users type or paste: trimming, and detection of invisible characters.

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// The text without blanks and zero-width characters at both ends.
///
/// Blanks are Unicode's `White_Space`; zero-width characters are the general category `Cf`, which includes the byte
/// order mark, U+200B and the marks of writing direction.
pub fn trim(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || is_format(character))
}

/// Whether the character is a format character (`Cf`), which has no width.
pub fn is_format(character: char) -> bool {
    !character.is_ascii() && character.general_category() == GeneralCategory::Format
}

/// Whether the character is a control or format character or a line or paragraph separator (`Cc`, `Cf`,
/// `Zl`, `Zp`): people cannot distinguish two identifiers by it.
pub fn is_control_or_format(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    matches!(
        character.general_category(),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_zero_width_characters_are_trimmed_at_the_ends_only() {
        let cases = [
            ("ana", "ana"),
            (" \t\u{a0}ana\u{3000}\r\n", "ana"),
            ("\u{feff}\u{200b}ana\u{200d}\u{2060}", "ana"),
            (" \u{200b} \u{ad}", ""),
            ("a\u{200b} b", "a\u{200b} b"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(trim(text), expected, "{text:?}");
        }
    }

    #[test]
    fn only_what_cannot_be_seen_counts_as_control_or_format() {
        for character in [
            '\0', '\n', '\u{7f}', '\u{85}', '\u{ad}', '\u{200b}', '\u{202e}', '\u{2028}', '\u{2029}',
            '\u{feff}',
        ] {
            assert!(is_control_or_format(character), "{character:?}");
        }
        for character in ['a', ' ', '\u{a0}', 'é', '日', '\u{301}', '😀'] {
            assert!(!is_control_or_format(character), "{character:?}");
        }
    }
}
