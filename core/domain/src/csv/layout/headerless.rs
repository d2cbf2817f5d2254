//! Handles files without a known column name: distinguishes a file without a header from one with unknown
//! names.

use super::super::CutError;
use super::columns::{ColumnLabel, Columns, Layout, ReadAs, ReadOptions};
use super::header::{Candidate, has_any_name};
use super::names::{is_code_name, is_column_name};
use super::sample::{Sample, SampleRecord, has_digit, mask};
use crate::coupon::code::Code;

/// Minimum number of consecutive codes of one shape that count as a series. A record of another shape above
/// a series may be a header.
const MIN_UNIFORM_CODES: usize = 3;

/// The sample in which most rows have a code in its column and the same number of cells; the first of
/// equals. If no row has a code, the file may consist only of one of the delimiters.
pub(super) fn best_sample<'a>(samples: &'a [Sample], options: &ReadOptions) -> &'a Sample {
    let code = code_index(options);
    let alike = |sample: &Sample| {
        let mut counts = std::collections::HashMap::<usize, usize>::new();
        for record in rows(sample).filter(|record| record.code(code).is_some()) {
            *counts.entry(record.cells.len()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    };
    let (mut best, mut most) = (&samples[0], 0);
    for sample in samples {
        let count = alike(sample);
        if count > most {
            (best, most) = (sample, count);
        }
    }
    let has_no_records = |sample: &&Sample| sample.records.is_empty();
    samples.iter().find(has_no_records).filter(|_| most == 0).unwrap_or(best)
}

/// The layout with `header=true` if no record has a known name: the first record is the header.
pub(super) fn first_record_as_header(sample: &Sample, options: &ReadOptions) -> Result<Layout, CutError> {
    // Comments may precede a header.
    let index = sample.records.iter().position(|record| !record.is_comment()).unwrap_or_default();
    let first = &sample.records[index];
    let code = match &options.code_column {
        Some(ColumnLabel::Number(number)) => number - 1,
        Some(ColumnLabel::Name(name)) => return Err(first.unclear(no_such_column("codeColumn", name))),
        None if first.cells.len() == 1 => 0,
        None => return Err(first.unclear("the header has no known name for a column of codes")),
    };
    Candidate { sample, index, code }.layout(options)
}

/// The layout of a file without a header, if this is certain.
pub(super) fn without_header(
    sample: &Sample,
    first_line: u64,
    options: &ReadOptions,
) -> Result<Layout, CutError> {
    let Some(first) = rows(sample).next() else {
        return Ok(layout(sample, first_line, options, Start::Codes));
    };
    check_columns(sample, first, options)?;
    let start =
        if options.header == Some(false) { Start::Codes } else { certain_start(sample, first, options)? };
    Ok(layout(sample, first_line, options, start))
}

/// How the file starts, if no header can start this way.
fn certain_start(sample: &Sample, first: &SampleRecord, options: &ReadOptions) -> Result<Start, CutError> {
    if let Some(named) = first_with_name(sample, options) {
        let why = "it has a known name for users, but none for codes";
        return Err(named.unclear(why));
    }
    if let Some(repeated) = repeated_with_name(sample, options) {
        return Err(repeated.unclear("it occurs more than once and has a column name"));
    }
    if let Some(named) = rare_name_for_codes(sample) {
        return Err(named.unclear("it has a known name for codes, and most other records have none there"));
    }
    let code = code_index(options);
    let is_name =
        |record: &&SampleRecord| record.folded.get(code).is_some_and(|folded| is_column_name(folded));
    if let Some(named) = rows(sample).find(is_name) {
        return Err(named.unclear("it has a column name where the other records have their codes"));
    }
    let records: Vec<&SampleRecord> = rows(sample).collect();
    match start_of(&records, code) {
        Start::Unclear => Err(first.unclear("it may be a header or a row")),
        start => Ok(start),
    }
}

/// The first record with a known name that has only title lines above it, which have fewer cells with text.
fn first_with_name<'a>(sample: &'a Sample, options: &ReadOptions) -> Option<&'a SampleRecord> {
    let mut most_filled = 0;
    rows(sample).find(|record| {
        let is_below_titles = record.filled > most_filled;
        most_filled = most_filled.max(record.filled);
        is_below_titles && has_any_name(record, options)
    })
}

/// The first record with a known name for codes in a column in which most records have none: it may be a
/// header below titles with as many cells.
fn rare_name_for_codes(sample: &Sample) -> Option<&SampleRecord> {
    let is_name = |record: &SampleRecord, column: usize| {
        record.folded.get(column).is_some_and(|folded| is_code_name(folded))
    };
    let is_rare = |column: usize| {
        2 * rows(sample).filter(|record| is_name(record, column)).count() < rows(sample).count()
    };
    rows(sample)
        .find(|record| (0..record.folded.len()).any(|column| is_name(record, column) && is_rare(column)))
}

/// The first record with a known name that occurs again, as the headers of appended files do.
fn repeated_with_name<'a>(sample: &'a Sample, options: &ReadOptions) -> Option<&'a SampleRecord> {
    let occurrences =
        |record: &SampleRecord| rows(sample).filter(|other| other.cells == record.cells).count();
    rows(sample).find(|record| has_any_name(record, options) && occurrences(record) > 1)
}

/// Without names, columns are given by number and must exist.
fn check_columns(sample: &Sample, first: &SampleRecord, options: &ReadOptions) -> Result<(), CutError> {
    let widest = rows(sample).map(|record| record.cells.len()).max().unwrap_or(0);
    for (parameter, column) in [("codeColumn", &options.code_column), ("userColumn", &options.user_column)] {
        match column {
            Some(ColumnLabel::Name(name)) if options.header == Some(false) => {
                let why = format!(
                    "{parameter} is {name:?}; without a header it must be the column's number, from 1"
                );
                return Err(first.unclear(why));
            }
            Some(ColumnLabel::Name(name)) => return Err(first.unclear(no_such_column(parameter, name))),
            Some(ColumnLabel::Number(number)) if *number > widest => {
                let why = format!("{parameter} is {number}, but the records have {widest} columns");
                return Err(first.unclear(why));
            }
            _ => {}
        }
    }
    if user_index(options) == Some(code_index(options)) {
        return Err(first.unclear("codeColumn and userColumn name the same column"));
    }
    Ok(())
}

fn layout(sample: &Sample, first_line: u64, options: &ReadOptions, start: Start) -> Layout {
    let (code, user_id) = (code_index(options), user_index(options));
    let first_record_line = sample.records.first().map_or(first_line, |record| record.line);
    Layout {
        delimiter: sample.delimiter,
        columns: Columns {
            code,
            user_id,
            creates_nothing: start == Start::NoCodes,
            refuses_names: options.header.is_none(),
            ..Columns::default()
        },
        read_as: ReadAs {
            encoding: "UTF-8",
            delimiter: sample.delimiter,
            header: false,
            code_column: ColumnLabel::Number(code + 1),
            user_column: user_id.map(|user| ColumnLabel::Number(user + 1)),
            metadata_columns: Vec::new(),
            skipped_lines: first_record_line - 1,
        },
        start: 0,
        line: first_line,
    }
}

fn no_such_column(parameter: &str, name: &str) -> String {
    format!("{parameter} is {name:?}, but no column has this name")
}

/// Records that are not comments.
fn rows(sample: &Sample) -> impl Iterator<Item = &SampleRecord> {
    sample.records.iter().filter(|record| !record.is_comment())
}

fn code_index(options: &ReadOptions) -> usize {
    match &options.code_column {
        Some(ColumnLabel::Number(number)) => number - 1,
        _ => 0,
    }
}

fn user_index(options: &ReadOptions) -> Option<usize> {
    match &options.user_column {
        Some(ColumnLabel::Number(number)) => Some(number - 1),
        _ => None,
    }
}

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
    // A year, a word or a name with a number: titles and a header may be of different kinds.
    let is_like_a_title = |record: &&SampleRecord| {
        has_lower_case(record) || record.code(code).is_some_and(|code| is_number(&code) || !has_digit(&code))
    };
    let masks: Vec<String> = codes.iter().map(mask).collect();
    let is_unlike_the_last = |mask: &String| Some(mask) != masks.last();
    let [first, rest @ ..] = records else { return false };
    let is_uniform = masks.iter().all(|mask| *mask == masks[0]) && has_digit(&codes[0]);
    let is_above_a_series =
        masks.iter().rev().take_while(|mask| !is_unlike_the_last(mask)).count() >= MIN_UNIFORM_CODES;
    (is_above_a_series && is_only_at_start(&masks, is_unlike_the_last))
        || is_only_at_start(codes, is_number)
        || is_only_at_start(codes, |code| !has_digit(code))
        || (!is_uniform
            && (is_only_at_start(records, has_lower_case) || is_only_at_start(records, is_like_a_title)))
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
