//! Whether a file has a code twice, in 8 bytes for each row.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::cells::{Splitter, unescape};
use super::{Columns, Delimiter, records};
use crate::coupon::code::Code;

/// The codes of an upload, as hashes. **Invariant.** A code that stands twice is found, since equal codes have equal hashes. Two
/// codes may have one hash, and are then taken for a repeated one.
#[derive(Debug, Default)]
pub struct Repeats {
    hasher: RandomState,
    hashes: Vec<u64>,
}

impl Repeats {
    /// Takes the codes of a part, normalized as an import does it. Texts that are no codes are left out.
    pub fn take(&mut self, part: &str, columns: &Columns, delimiter: Delimiter) {
        let (mut splitter, mut code) = (Splitter::new(delimiter), String::new());
        for record in records(part, delimiter, 1) {
            let cells = splitter.split(record.raw);
            code.clear();
            if Code::normalize(unescape(cells.get(columns.code).trim()), &mut code).is_ok() {
                self.hashes.push(self.hasher.hash_one(&code));
            }
        }
    }

    /// Whether a code may stand twice.
    pub fn is_any(mut self) -> bool {
        self.hashes.sort_unstable();
        self.hashes.windows(2).any(|pair| pair[0] == pair[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeats(parts: &[&str]) -> bool {
        let mut repeats = Repeats::default();
        for part in parts {
            repeats.take(part, &Columns::default(), Delimiter::default());
        }
        repeats.is_any()
    }

    #[test]
    fn a_code_that_stands_twice_is_found_however_it_is_written() {
        assert!(!repeats(&["AAA,1\nBBB,2\n", "CCC,1\n"]));
        assert!(repeats(&["AAA,1\nBBB,2\n", "\n\"aaa\",7\n"]));
        assert!(repeats(&["AAA\n aAa \n"]));
    }

    #[test]
    fn texts_that_are_no_codes_are_not_compared() {
        assert!(!repeats(&["n o\nn o\n", "x\nx\n"]));
    }

    #[test]
    fn a_hundred_thousand_codes_that_differ_do_not_repeat() {
        let codes: Vec<String> = (0..100_000).map(|number| format!("CODE-{number}")).collect();
        let file = codes.join("\n");
        assert!(!repeats(&[&file]));
        assert!(repeats(&[&file, "code-77777\n"]));
    }
}
