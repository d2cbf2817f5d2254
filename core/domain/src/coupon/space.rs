//! A code space: all codes of a pattern, in a secret order that depends on a key.
//!
//! Code *i* is element *i* of a keyed permutation of the pattern's codes. Codes are therefore distinct by
//! construction, the same each time they are generated, and not predictable from one another. The
//! permutation is [`Ff1`] over a power of two, with cycle-walking down to the pattern's capacity: an image
//! beyond the capacity is permuted again until it is below it (Black and Rogaway, "Ciphers with Arbitrary
//! Finite Domains", 2002). Which indexes are used is stored elsewhere.

use std::fmt;
use std::ops::Range;

use super::ff1::{Ff1, MIN_BITS};
use super::pattern::Pattern;

/// The codes of a pattern, numbered by a key.
#[derive(Clone)]
pub struct CodeSpace {
    pattern: Pattern,
    permutation: Ff1,
}

/// The error for requesting more codes than remain in the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} codes were requested, but {remaining} remain in the space")]
pub struct Exhausted {
    /// Number of requested codes.
    pub wanted: u64,
    /// Number of codes from the first requested index on.
    pub remaining: u128,
}

/// Some codes of a space, all of the same width, in one string.
#[derive(Clone)]
pub struct Codes {
    pattern: Pattern,
    elements: Vec<u128>,
    text: String,
}

impl CodeSpace {
    /// The space of `pattern` under `key`. Another key gives another order of the same codes.
    pub fn new(pattern: Pattern, key: &[u8; 32]) -> Self {
        let bits_needed = u128::BITS - (pattern.capacity() - 1).leading_zeros();
        Self { permutation: Ff1::new(key, bits_needed.max(MIN_BITS)), pattern }
    }

    /// The codes at these indexes, in the order of the indexes. Intended for batches: memory grows with the
    /// range.
    ///
    /// A code takes 2^bits / capacity permutations on average: at most two from 2^19 codes up. All codes of
    /// a smaller space together take at most 2^20 permutations, a fraction of a second.
    ///
    /// # Errors
    /// [`Exhausted`] if the range ends beyond the capacity.
    pub fn codes(&self, indexes: Range<u64>) -> Result<Codes, Exhausted> {
        let wanted = indexes.end.saturating_sub(indexes.start);
        let remaining = self.remaining(indexes.start);
        if u128::from(wanted) > remaining {
            return Err(Exhausted { wanted, remaining });
        }
        let mut elements: Vec<u128> = indexes.map(u128::from).collect();
        self.walk(&mut elements);
        Ok(Codes::new(self.pattern.clone(), elements))
    }

    /// The number of codes that remain after the first `used`.
    pub fn remaining(&self, used: u64) -> u128 {
        self.capacity().saturating_sub(u128::from(used))
    }

    /// The number of all codes, used or not.
    pub fn capacity(&self) -> u128 {
        self.pattern.capacity()
    }

    /// The pattern of the codes.
    pub fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// Replaces each index by its element: permutes all, then repeatedly those beyond the capacity.
    fn walk(&self, elements: &mut [u128]) {
        let capacity = self.capacity();
        self.permutation.permute(elements);
        let outside = |(_, element): &(usize, u128)| *element >= capacity;
        let (mut places, mut strays): (Vec<usize>, Vec<u128>) =
            elements.iter().copied().enumerate().filter(outside).unzip();
        while !strays.is_empty() {
            self.permutation.permute(&mut strays);
            let mut kept = 0;
            for stray in 0..strays.len() {
                let (place, element) = (places[stray], strays[stray]);
                if element < capacity {
                    elements[place] = element;
                } else {
                    (places[kept], strays[kept]) = (place, element);
                    kept += 1;
                }
            }
            places.truncate(kept);
            strays.truncate(kept);
        }
    }
}

impl Codes {
    fn new(pattern: Pattern, elements: Vec<u128>) -> Self {
        let mut codes = Self { pattern, elements, text: String::new() };
        codes.write();
        codes
    }

    /// Sorts the codes in byte order, the order of the database's index.
    pub fn sort(&mut self) {
        // The codes of a pattern have the order of their elements, and sorting numbers is faster.
        self.elements.sort_unstable();
        self.write();
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there are no codes.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// The code at `place`, if it exists.
    pub fn get(&self, place: usize) -> Option<&str> {
        (place < self.len()).then(|| self.at(place))
    }

    /// The codes in their current order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + DoubleEndedIterator {
        (0..self.len()).map(|place| self.at(place))
    }

    /// All codes without a separator, each [`Pattern::width`] bytes long.
    pub fn as_text(&self) -> &str {
        &self.text
    }

    fn at(&self, place: usize) -> &str {
        let width = self.pattern.width();
        &self.text[place * width..(place + 1) * width]
    }

    fn write(&mut self) {
        let mut text = std::mem::take(&mut self.text).into_bytes();
        text.clear();
        text.reserve_exact(self.elements.len() * self.pattern.width());
        for element in &self.elements {
            self.pattern.write(*element, &mut text);
        }
        self.text = String::from_utf8(text).expect("patterns write ASCII");
    }
}

/// Prints the pattern, but not the key.
impl fmt::Debug for CodeSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeSpace")
            .field("pattern", &format_args!("{}", self.pattern))
            .finish_non_exhaustive()
    }
}

/// Prints the number only: unused codes are worth money and must not appear in a log.
impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn space(pattern: &str, key: u8) -> CodeSpace {
        CodeSpace::new(Pattern::parse(pattern).unwrap(), &[key; 32])
    }

    fn owned(codes: &Codes) -> Vec<String> {
        codes.iter().map(String::from).collect()
    }

    #[test]
    fn a_space_is_used_to_its_last_code() {
        let mut codes = space("S-{9999}", 1).codes(0..10_000).unwrap();
        assert!(!codes.iter().is_sorted());
        codes.sort();
        assert!(codes.iter().eq((0..10_000).map(|number| format!("S-{number:04}"))));
    }

    #[test]
    fn the_same_index_is_the_same_code_in_any_batch() {
        let space = space("S-{9999}", 1);
        let codes = space.codes(0..400).unwrap();
        let batches = [0..1, 1..150, 150..400].map(|batch| space.codes(batch).unwrap());
        assert!(batches.iter().flat_map(Codes::iter).eq(codes.iter()));
    }

    #[test]
    fn another_key_is_another_order() {
        let orders: HashSet<_> =
            (0..5).map(|key| owned(&space("{XXXXXX}", key).codes(0..50).unwrap())).collect();
        assert_eq!(orders.len(), 5);
    }

    #[test]
    fn the_codes_of_a_key_never_change() {
        // Otherwise existing codes would be generated a second time.
        assert_eq!(owned(&space("{XXXXXXXXXXXX}", 1).codes(0..2).unwrap()), ["7X6FMJHXRECT", "JVGYGNZ46NH7"]);
        assert_eq!(owned(&space("S-{9999}", 1).codes(0..2).unwrap()), ["S-5206", "S-7652"]);
    }

    #[test]
    fn a_pattern_of_one_code_has_one() {
        let space = space("WELCOME", 1);
        assert_eq!(owned(&space.codes(0..1).unwrap()), ["WELCOME"]);
        assert!(space.codes(0..0).unwrap().is_empty());
    }

    #[test]
    fn past_the_end_there_are_no_codes() {
        let space = space("S-{99}", 1);
        assert_eq!(space.codes(90..101).unwrap_err(), Exhausted { wanted: 11, remaining: 10 });
        assert_eq!(space.codes(u64::MAX - 1..u64::MAX).unwrap_err(), Exhausted { wanted: 1, remaining: 0 });
        assert_eq!(space.remaining(90), 10);
        assert_eq!(space.codes(90..100).unwrap().len(), 10);
    }

    #[test]
    fn a_hundred_thousand_codes_are_distinct() {
        let codes = space("{XXXXXXXXXXXX}", 1).codes(0..100_000).unwrap();
        assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 100_000);
    }

    #[test]
    fn the_largest_patterns_have_codes() {
        for pattern in [&format!("{{{}}}", "X".repeat(25)), "{999999999999999999999999999999999999A}"] {
            let codes = space(pattern, 1).codes(0..1_000).unwrap();
            assert_eq!(codes.iter().collect::<HashSet<_>>().len(), 1_000);
        }
    }

    #[test]
    fn places_past_the_last_code_are_empty() {
        let codes = space("S-{9999}", 1).codes(0..3).unwrap();
        assert_eq!(codes.get(2), codes.iter().last());
        assert_eq!(codes.get(3), None);
        assert_eq!(codes.as_text().len(), 18);
    }

    #[test]
    fn debug_prints_neither_key_nor_codes() {
        let space = space("S-{9999}", 211);
        assert_eq!(format!("{space:?}"), "CodeSpace { pattern: S-{9999}, .. }");
        assert_eq!(format!("{:?}", space.codes(0..3).unwrap()), "Codes { len: 3, .. }");
    }

    /// Whether `code` matches the symbols of `pattern`, whose literals are none of X, 9 and A.
    fn follows(code: &str, pattern: &str) -> bool {
        let symbols: Vec<char> = pattern.chars().filter(|symbol| !"{}".contains(*symbol)).collect();
        let letter = |found: char| found.is_ascii_uppercase() && !"IO".contains(found);
        let fits = |(symbol, found): (&char, char)| match symbol {
            'X' => letter(found) || ('2'..='9').contains(&found),
            '9' => found.is_ascii_digit(),
            'A' => letter(found),
            literal => found == *literal,
        };
        code.len() == symbols.len() && symbols.iter().zip(code.chars()).all(fits)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4))]
        #[test]
        fn a_small_pattern_enumerates_exactly_its_codes(
            pattern in "[B-WYZ]{1,2}\\{[X9A]{1,2}\\}[_-]\\{[9A]\\}", key: [u8; 32],
        ) {
            let space = CodeSpace::new(Pattern::parse(&pattern).unwrap(), &key);
            let capacity = u64::try_from(space.capacity()).unwrap();
            let codes = space.codes(0..capacity).unwrap();
            prop_assert_eq!(codes.iter().collect::<HashSet<_>>().len() as u64, capacity);
            for code in codes.iter() {
                prop_assert!(follows(code, &pattern), "{} of {}", code, pattern);
            }
        }
    }
}
