//! Decides how a file of users is read. If its first record has a name of a user column, it is the header. Otherwise the first column
//! has the users, whatever they look like.

use super::columns::Layout;
use super::names::{fold, is_user_name};
use super::sample::{Sample, SampleRecord};
use super::{ColumnLabel, Columns, ReadAs, ReadOptions};
use crate::csv::{CutError, Delimiter};

/// Decides the layout of a file of which each sample is the beginning, read with one delimiter.
pub(super) fn decide(samples: &[Sample], first_line: u64, options: &ReadOptions) -> Result<Layout, CutError> {
    if options.header != Some(false) {
        let named = samples.iter().rev().filter_map(|sample| {
            let header = sample.records.first()?;
            Some((sample, header, named_column(header, options)?))
        });
        // Of equals the last is taken: the first delimiter.
        if let Some((sample, header, column)) = named.max_by_key(|(_, header, _)| header.cells.len()) {
            return Ok(below_header(sample, header, column));
        }
    }
    let Some(sample) = most_regular(samples) else { return Ok(Layout::of_nothing(first_line)) };
    let Some(first) = sample.records.first() else { return Ok(Layout::of_nothing(first_line)) };
    let column = match &options.user_column {
        Some(ColumnLabel::Name(name)) => {
            return Err(first.unclear(format!("userColumn is {name:?}, but no column has this name")));
        }
        Some(ColumnLabel::Number(number)) => number - 1,
        None => 0,
    };
    if column >= sample.records.iter().map(|record| record.cells.len()).max().unwrap_or(0) {
        return Err(first.unclear(format!("userColumn is {}, but no record has this column", column + 1)));
    }
    if options.header == Some(true) {
        return Ok(below_header(sample, first, column));
    }
    let read_as = read_as(sample, false, ColumnLabel::Number(column + 1), first.line - 1);
    let columns = Columns { code: column, ..Columns::default() };
    Ok(Layout { delimiter: sample.delimiter, columns, read_as, start: 0, line: first_line })
}

impl Layout {
    /// The layout of a file without records, which is rejected for that.
    fn of_nothing(first_line: u64) -> Self {
        let sample = Sample { delimiter: Delimiter::Comma, records: Vec::new() };
        let read_as = read_as(&sample, false, ColumnLabel::Number(1), 0);
        Self { delimiter: sample.delimiter, columns: Columns::default(), read_as, start: 0, line: first_line }
    }
}

/// The column of users if this record is the header.
fn named_column(record: &SampleRecord, options: &ReadOptions) -> Option<usize> {
    let position = |is_wanted: &dyn Fn(&str) -> bool| {
        record.folded.iter().position(|folded| !folded.is_empty() && is_wanted(folded))
    };
    match &options.user_column {
        Some(ColumnLabel::Name(name)) => position(&|folded| folded == fold(name)),
        Some(ColumnLabel::Number(number)) => position(&is_user_name).map(|_| number - 1),
        None => position(&is_user_name),
    }
    .filter(|column| *column < record.cells.len())
}

fn below_header(sample: &Sample, header: &SampleRecord, column: usize) -> Layout {
    let label = match header.cell(column) {
        name if fold(name).is_empty() => ColumnLabel::Number(column + 1),
        name => ColumnLabel::Name(name.to_owned()),
    };
    let columns = Columns { code: column, header: header.folded.clone(), ..Columns::default() };
    let (start, line) = header.next;
    let read_as = read_as(sample, true, label, header.line - 1);
    Layout { delimiter: sample.delimiter, columns, read_as, start, line }
}

fn read_as(sample: &Sample, header: bool, users: ColumnLabel, skipped_lines: u64) -> ReadAs {
    ReadAs {
        encoding: "UTF-8",
        delimiter: sample.delimiter,
        header,
        code_column: users,
        user_column: None,
        metadata_columns: Vec::new(),
        skipped_lines,
    }
}

/// The sample whose records all have the same number of columns: rather two or more, so that only the first is read, and otherwise
/// one, so that no id is cut. Without such a sample the first.
fn most_regular(samples: &[Sample]) -> Option<&Sample> {
    let width = |sample: &Sample| {
        let mut widths = sample.records.iter().map(|record| record.cells.len());
        let first = widths.next()?;
        widths.all(|width| width == first).then_some(first)
    };
    let regular = samples.iter().filter(|sample| width(sample).is_some());
    regular.rev().max_by_key(|sample| width(sample)).or_else(|| samples.first())
}
