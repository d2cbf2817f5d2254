//! The pattern of generated codes: literal text with groups in braces, such as `SUMMER-{XXXX}-{9999}`. All
//! codes of a [`Pattern`] are valid. They are numbered `0..capacity`, and any of them can be written.

use std::fmt;
use std::str::FromStr;

use super::code::{self, MAX_CHARS, MIN_CHARS};

/// The characters of `X`. I, O, 0 and 1 are omitted because people confuse them. The last 24 are the
/// letters of `A`.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// Number of letters at the end of [`ALPHABET`].
const LETTERS: u8 = 24;

/// Maximum number of codes of a pattern: the permutation of a code space has at most 127 bits.
pub const MAX_CAPACITY: u128 = 1 << 127;

/// A pattern is [guessable](Pattern::is_guessable) if more than one guess in this many hits a live code.
pub const FEWEST_GUESSES: u128 = 1_000_000;

/// A valid pattern. Two patterns are equal if they have the same codes in the same order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    slots: Vec<Slot>,
    capacity: u128,
}

/// One character of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Literal(u8),
    Symbol,
    Digit,
    Letter,
}

/// Why a text is not a pattern. Positions are 1-based characters of the given text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Empty after trimming.
    #[error("the pattern is empty: write text with groups in braces, such as SUMMER-{{XXXX}}")]
    Empty,
    /// A `{` without `}`, and its position.
    #[error("the group opened at character {0} is not closed: add }}")]
    UnclosedGroup(usize),
    /// A `}` without `{`, and its position.
    #[error("the }} at character {0} closes no group: remove it, or open the group with {{")]
    UnopenedGroup(usize),
    /// `{}`, and its position.
    #[error("the group opened at character {0} is empty: put X, 9 or A in it, or remove it")]
    EmptyGroup(usize),
    /// A `{` inside a group.
    #[error(
        "the {{ at character {at} is inside the group opened at character {opened}: close that one first with }}"
    )]
    NestedGroup {
        /// Position of the inner `{`.
        at: usize,
        /// Position of the outer `{`.
        opened: usize,
    },
    /// An unknown character in a group.
    #[error(
        "{symbol:?} at character {at} is not allowed in a group: use X (letter or digit), 9 (digit) or A (letter), \
         or move it outside the braces"
    )]
    UnknownSymbol {
        /// Its position.
        at: usize,
        /// The character.
        symbol: char,
    },
    /// A literal character that is not allowed in codes.
    #[error("{literal:?} at character {at} cannot be part of a code: use letters A-Z, digits, - and _")]
    BadLiteral {
        /// Its position.
        at: usize,
        /// The character.
        literal: char,
    },
    /// Codes shorter than [`MIN_CHARS`] characters, and their length.
    #[error("codes of this pattern would have {0} characters, fewer than {MIN_CHARS}: make it longer")]
    TooShort(usize),
    /// Codes longer than [`MAX_CHARS`] characters, and the position of the first excess character.
    #[error("the codes would have more than {MAX_CHARS} characters: remove the text from character {0} on")]
    TooLong(usize),
    /// More than [`MAX_CAPACITY`] codes, and the position of the first excess symbol.
    #[error("from character {0} on there are more than 2^127 codes: use fewer X, 9 and A (at most 25 X)")]
    TooManyCodes(usize),
}

impl Pattern {
    /// Parses a pattern. Surrounding whitespace is trimmed; letters may have either case, also in groups.
    ///
    /// # Errors
    /// The first fault from the left, with its position and the remedy.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let padding = text.chars().take_while(|character| character.is_whitespace()).count();
        let mut reading = Reading { slots: Vec::new(), capacity: 1, group: None };
        for (at, character) in (padding + 1..).zip(text.trim().chars()) {
            reading.take(at, character)?;
        }
        reading.finish()
    }

    /// The normalized text, the same for each set of codes: upper-cased, with adjacent groups merged.
    pub fn canonical(&self) -> String {
        let mut text = String::with_capacity(self.slots.len() + 8);
        let mut grouped = false;
        for slot in &self.slots {
            match (grouped, slot.is_literal()) {
                (false, false) => text.push('{'),
                (true, true) => text.push('}'),
                _ => {}
            }
            grouped = !slot.is_literal();
            text.push(slot.symbol());
        }
        if grouped {
            text.push('}');
        }
        text
    }

    /// The number of codes; at least 1, at most [`MAX_CAPACITY`].
    pub fn capacity(&self) -> u128 {
        self.capacity
    }

    /// The length of each code, in characters and bytes.
    pub fn width(&self) -> usize {
        self.slots.len()
    }

    /// Appends code number `element` of `0..capacity`: a number in mixed radix, most significant digit
    /// first. Each alphabet ascends, so a larger element is a larger code in byte order. Numbers beyond the
    /// capacity wrap.
    pub fn write(&self, element: u128, into: &mut Vec<u8>) {
        let start = into.len();
        into.resize(start + self.width(), 0);
        let mut rest = element;
        for (slot, byte) in self.slots.iter().zip(&mut into[start..]).rev() {
            *byte = slot.take(&mut rest);
        }
    }

    /// The probability that a random code of this pattern is one of `live` codes.
    #[expect(clippy::cast_precision_loss, reason = "a probability is read to a few digits")]
    pub fn chance_of_a_hit(&self, live: u128) -> f64 {
        live.min(self.capacity) as f64 / self.capacity as f64
    }

    /// Whether that probability is above one in [`FEWEST_GUESSES`], so that repeated guesses find a code.
    /// The comparison is exact; the probability itself is rounded.
    pub fn is_guessable(&self, live: u128) -> bool {
        live.min(self.capacity).saturating_mul(FEWEST_GUESSES) > self.capacity
    }

    /// The number of additional `X` with which the pattern would not be guessable.
    pub fn symbols_missing(&self, live: u128) -> u32 {
        let mut needed = live.min(self.capacity).saturating_mul(FEWEST_GUESSES).div_ceil(self.capacity);
        let mut missing = 0;
        while needed > 1 {
            needed = needed.div_ceil(Slot::Symbol.radix());
            missing += 1;
        }
        missing
    }
}

impl Slot {
    fn is_literal(self) -> bool {
        matches!(self, Self::Literal(_))
    }

    /// The character of this slot in a pattern.
    fn symbol(self) -> char {
        match self {
            Self::Literal(byte) => char::from(byte),
            Self::Symbol => 'X',
            Self::Digit => '9',
            Self::Letter => 'A',
        }
    }

    /// The number of possible characters of this slot.
    fn radix(self) -> u128 {
        match self {
            Self::Literal(_) => 1,
            Self::Symbol => 32,
            Self::Digit => 10,
            Self::Letter => u128::from(LETTERS),
        }
    }

    /// Removes the least significant digit from `rest`. Each arm divides by a constant, which compiles to a
    /// multiplication.
    fn take(self, rest: &mut u128) -> u8 {
        match self {
            Self::Literal(byte) => byte,
            Self::Symbol => ALPHABET[remainder::<32>(rest)],
            Self::Digit => b"0123456789"[remainder::<10>(rest)],
            Self::Letter => ALPHABET[ALPHABET.len() - usize::from(LETTERS) + remainder::<LETTERS>(rest)],
        }
    }
}

/// Returns `rest % RADIX` and sets `rest` to `rest / RADIX`; in 64 bits if possible, which is several times
/// faster.
fn remainder<const RADIX: u8>(rest: &mut u128) -> usize {
    let digit;
    if let Ok(small) = u64::try_from(*rest) {
        digit = (small % u64::from(RADIX)).to_le_bytes()[0];
        *rest = u128::from(small / u64::from(RADIX));
    } else {
        digit = (*rest % u128::from(RADIX)).to_le_bytes()[0];
        *rest /= u128::from(RADIX);
    }
    usize::from(digit)
}

/// The state of parsing a pattern.
struct Reading {
    slots: Vec<Slot>,
    capacity: u128,
    /// Position of the open group's `{`.
    group: Option<usize>,
}

impl Reading {
    fn take(&mut self, at: usize, character: char) -> Result<(), PatternError> {
        match (character.to_ascii_uppercase(), self.group) {
            ('{', None) => self.group = Some(at),
            ('{', Some(opened)) => return Err(PatternError::NestedGroup { at, opened }),
            ('}', None) => return Err(PatternError::UnopenedGroup(at)),
            ('}', Some(opened)) if at == opened + 1 => return Err(PatternError::EmptyGroup(opened)),
            ('}', Some(_)) => self.group = None,
            ('X', Some(_)) => self.push(at, Slot::Symbol)?,
            ('9', Some(_)) => self.push(at, Slot::Digit)?,
            ('A', Some(_)) => self.push(at, Slot::Letter)?,
            (_, Some(_)) => return Err(PatternError::UnknownSymbol { at, symbol: character }),
            (literal, None) => match u8::try_from(literal) {
                Ok(byte) if code::is_legal(byte) => self.push(at, Slot::Literal(byte))?,
                _ => return Err(PatternError::BadLiteral { at, literal: character }),
            },
        }
        Ok(())
    }

    fn push(&mut self, at: usize, slot: Slot) -> Result<(), PatternError> {
        if self.slots.len() == MAX_CHARS {
            return Err(PatternError::TooLong(at));
        }
        let capacity = self.capacity.checked_mul(slot.radix()).filter(|&capacity| capacity <= MAX_CAPACITY);
        self.capacity = capacity.ok_or(PatternError::TooManyCodes(at))?;
        self.slots.push(slot);
        Ok(())
    }

    fn finish(self) -> Result<Pattern, PatternError> {
        if let Some(opened) = self.group {
            return Err(PatternError::UnclosedGroup(opened));
        }
        match self.slots.len() {
            0 => Err(PatternError::Empty),
            width @ 1..MIN_CHARS => Err(PatternError::TooShort(width)),
            _ => Ok(Pattern { slots: self.slots, capacity: self.capacity }),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.canonical())
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::code::Code;
    use super::*;

    fn codes(pattern: &str, elements: impl IntoIterator<Item = u128>) -> Vec<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let write = |element| {
            let mut code = Vec::new();
            pattern.write(element, &mut code);
            String::from_utf8(code).unwrap()
        };
        elements.into_iter().map(write).collect()
    }

    #[test]
    fn the_alphabets_ascend_and_leave_out_what_people_confuse() {
        assert!(ALPHABET.is_sorted_by(|a, b| a < b));
        assert!(!ALPHABET.iter().any(|byte| b"IO01".contains(byte)));
        let letters = ALPHABET.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        assert_eq!(letters, usize::from(LETTERS));
    }

    #[test]
    fn a_pattern_is_read_in_either_case_and_written_in_one() {
        for (text, canonical, width, capacity) in [
            ("SUMMER-{XXXX}-{9999}", "SUMMER-{XXXX}-{9999}", 16, 32_u128.pow(4) * 10_000),
            ("  summer-{xx}{xx}-{99a9}\n", "SUMMER-{XXXX}-{99A9}", 16, 32_u128.pow(4) * 24_000),
            ("{X}{9}{A}", "{X9A}", 3, 32 * 10 * 24),
            ("x9a", "X9A", 3, 1),
            (&format!("{{{}}}", "X".repeat(25)), &format!("{{{}}}", "X".repeat(25)), 25, 1 << 125),
        ] {
            let pattern: Pattern = text.parse().unwrap();
            assert_eq!(pattern.to_string(), canonical);
            assert_eq!((pattern.width(), pattern.capacity()), (width, capacity), "{text}");
            assert_eq!(Pattern::parse(canonical), Ok(pattern));
        }
    }

    #[test]
    fn elements_count_up_from_the_right() {
        assert_eq!(
            codes("S-{9A}{X}", [0, 1, 31, 32, 768, 7_679]),
            ["S-0A2", "S-0A3", "S-0AZ", "S-0B2", "S-1A2", "S-9ZZ"]
        );
        assert_eq!(codes(&format!("{{{}}}", "X".repeat(25)), [(1 << 125) - 1]), ["Z".repeat(25)]);
        assert_eq!(codes("ABC", [0]), ["ABC"]);
    }

    #[test]
    fn a_fault_names_its_place_and_its_fix() {
        for (text, message) in [
            (" ", "the pattern is empty: write text with groups in braces, such as SUMMER-{XXXX}"),
            ("SUMMER-{XXX", "the group opened at character 8 is not closed: add }"),
            ("{XX}-}", "the } at character 6 closes no group: remove it, or open the group with {"),
            ("AB{}", "the group opened at character 3 is empty: put X, 9 or A in it, or remove it"),
            (
                "A{X{9}}",
                "the { at character 4 is inside the group opened at character 2: close that one first with }",
            ),
            (
                "  {XB}",
                "'B' at character 5 is not allowed in a group: use X (letter or digit), 9 (digit) or A (letter), \
                or move it outside the braces",
            ),
            ("ñ{XX}", "'ñ' at character 1 cannot be part of a code: use letters A-Z, digits, - and _"),
            ("A B{X}", "' ' at character 2 cannot be part of a code: use letters A-Z, digits, - and _"),
            ("A{X}", "codes of this pattern would have 2 characters, fewer than 3: make it longer"),
            (
                &"A".repeat(65),
                "the codes would have more than 64 characters: remove the text from character 65 on",
            ),
            (
                &format!("{{{}}}", "X".repeat(26)),
                "from character 27 on there are more than 2^127 codes: \
                use fewer X, 9 and A (at most 25 X)",
            ),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err().to_string(), message, "{text}");
        }
    }

    #[test]
    fn a_guess_hits_as_often_as_codes_are_live() {
        let pattern = Pattern::parse("S-{9999}").unwrap();
        assert!((pattern.chance_of_a_hit(2_500) - 0.25).abs() < f64::EPSILON);
        assert!((pattern.chance_of_a_hit(1 << 70) - 1.0).abs() < f64::EPSILON);
        assert!(pattern.chance_of_a_hit(0).abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn every_element_is_a_code_of_its_own_and_in_order(
            text in "([A-Z_-]|\\{[X9A]{1,3}\\}){3,9}", low: u128, high: u128,
        ) {
            let capacity = Pattern::parse(&text).unwrap().capacity();
            let (low, high) = (low % capacity, high % capacity);
            let codes = codes(&text, [low, high]);
            prop_assert_eq!(low.cmp(&high), codes[0].cmp(&codes[1]));
            prop_assert_eq!(Code::parse(&codes[0]).unwrap().into_string(), codes[0].clone());
        }

        #[test]
        fn any_text_is_a_pattern_or_a_fault(text in "[ {}XA9Bñ-]{0,80}") {
            if let Ok(pattern) = Pattern::parse(&text) {
                prop_assert_eq!(Pattern::parse(&pattern.canonical()), Ok(pattern));
            }
        }
    }
}
