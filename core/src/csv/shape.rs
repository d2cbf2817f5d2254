//! Classifies the start of a file without known names: codes, no codes, or an uncertain first record that
//! may be a header.

use super::layout::sample::SampleRecord;
use crate::coupon::code::Code;

/// Minimum number of consecutive codes of one shape that count as a series. A record of another shape above
/// a series may be a header.
const LEAST_UNIFORM: usize = 3;

/// How a file starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// All records have codes of the same shape.
    Codes,
    /// No record has a code.
    NoCodes,
    /// The first record may be a header.
    Unclear,
}

/// How these records start, with their codes in the column `code`.
pub(super) fn start_of(records: &[&SampleRecord], code: usize) -> Start {
    let codes: Vec<Code> = records.iter().filter_map(|record| record.code(code)).collect();
    if codes.is_empty() {
        return Start::NoCodes;
    }
    if codes.len() < records.len() || !have_same_shape(&codes) || looks_like_a_header(records, &codes, code) {
        return Start::Unclear;
    }
    Start::Codes
}

/// Codes have the same shape if they are equal after each letter and digit is replaced by one sign, or if
/// each has a digit.
fn have_same_shape(codes: &[Code]) -> bool {
    codes.iter().all(has_digit) || codes.iter().all(|code| mask(code) == mask(&codes[0]))
}

/// Whether the first records differ from all others as a header or titles would, although the codes have
/// the same shape.
fn looks_like_a_header(records: &[&SampleRecord], codes: &[Code], code: usize) -> bool {
    let has_lower_case =
        |record: &&SampleRecord| record.cell(code).contains(|c: char| c.is_ascii_lowercase());
    let is_number = |code: &Code| code.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let masks: Vec<String> = codes.iter().map(mask).collect();
    let is_unlike_the_last = |mask: &String| Some(mask) != masks.last();
    let [first, rest @ ..] = records else { return false };
    let is_uniform = masks.iter().all(|mask| *mask == masks[0]) && has_digit(&codes[0]);
    let is_above_a_series =
        masks.iter().rev().take_while(|mask| !is_unlike_the_last(mask)).count() >= LEAST_UNIFORM;
    (is_above_a_series && is_only_at_start(&masks, is_unlike_the_last))
        || is_only_at_start(codes, is_number)
        || is_only_at_start(codes, |code| !has_digit(code))
        || (!is_uniform && is_only_at_start(records, has_lower_case))
        || (!has_digit(&codes[0]) && !rest.is_empty() && rest.iter().all(|other| other.filled > first.filled))
        || (!rest.is_empty() && names_numbers(first, rest, code))
}

/// Whether one or more items at the start satisfy the condition, and no others.
fn is_only_at_start<T>(items: &[T], is_of_kind: impl Fn(&T) -> bool) -> bool {
    let at_start = items.iter().take_while(|item| is_of_kind(item)).count();
    at_start > 0 && at_start < items.len() && !items[at_start..].iter().any(is_of_kind)
}

/// Whether the first record has a word in a column in which all others have a number.
fn names_numbers(first: &SampleRecord, rest: &[&SampleRecord], code: usize) -> bool {
    let has_number =
        |record: &SampleRecord, column| record.cell(column).contains(|c: char| c.is_ascii_digit());
    let names_numbers = |column: &usize| {
        *column != code
            && !first.cell(*column).is_empty()
            && !has_number(first, *column)
            && rest.iter().all(|record| has_number(record, *column))
    };
    (0..first.cells.len()).any(|column| names_numbers(&column))
}

/// The code with each letter and digit replaced by one sign.
pub(super) fn mask(code: &Code) -> String {
    code.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { 'X' } else { c }).collect()
}

pub(super) fn has_digit(code: &Code) -> bool {
    code.as_str().contains(|c: char| c.is_ascii_digit())
}
