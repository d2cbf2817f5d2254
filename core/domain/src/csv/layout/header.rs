//! Finds the header and the meaning of its columns.

use super::super::CutError;
use super::columns::{ColumnLabel, Columns, Layout, MetadataColumn, ReadAs, ReadOptions};
use super::names::{fold, is_code_name, is_column_name, is_user_name};
use super::sample::{Sample, SampleRecord, has_digit, mask};
use crate::text;

/// A candidate for the header: the sample of a delimiter, the record's index in it, and the column of
/// codes.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) sample: &'a Sample,
    pub(super) index: usize,
    pub(super) code: usize,
}

/// The best header: the one under which most rows of the sample have a code. Ties are resolved by more
/// columns, the earlier record, and the earlier delimiter.
pub(super) fn best_header<'a>(samples: &'a [Sample], options: &ReadOptions) -> Option<Candidate<'a>> {
    let mut best: Option<(usize, usize, Candidate<'a>)> = None;
    for sample in samples {
        for candidate in headers(sample, options) {
            let (rows, width) = (candidate.valid_rows(), candidate.record().cells.len());
            let is_better = best.as_ref().is_none_or(|(most, widest, other)| {
                let is_same_sample = std::ptr::eq(other.sample, sample);
                rows > *most || (rows == *most && width > *widest && !is_same_sample)
            });
            if is_better {
                best = Some((rows, width, candidate));
            }
        }
    }
    best.map(|(.., candidate)| candidate)
}

/// The candidates: records with a column of codes that have only comments and title lines above them. Title
/// lines have fewer cells with text.
fn headers<'a>(sample: &'a Sample, options: &ReadOptions) -> impl Iterator<Item = Candidate<'a>> {
    let mut most_filled = 0;
    sample.records.iter().enumerate().filter_map(move |(index, record)| {
        let is_below_titles = record.filled > most_filled;
        if !record.is_comment() {
            most_filled = most_filled.max(record.filled);
        }
        let code = code_column(record, options).filter(|_| is_below_titles)?;
        Some(Candidate { sample, index, code })
    })
}

/// The column of codes if this record is the header.
fn code_column(record: &SampleRecord, options: &ReadOptions) -> Option<usize> {
    match &options.code_column {
        Some(ColumnLabel::Name(name)) => position(record, |folded| folded == fold(name)),
        Some(ColumnLabel::Number(number)) => has_any_name(record, options).then_some(number - 1),
        None => position(record, is_code_name),
    }
}

pub(super) fn has_any_name(record: &SampleRecord, options: &ReadOptions) -> bool {
    let user = match &options.user_column {
        Some(ColumnLabel::Name(name)) => Some(fold(name)),
        _ => None,
    };
    position(record, |folded| is_column_name(folded) || Some(folded) == user.as_deref()).is_some()
}

fn position(record: &SampleRecord, is_wanted: impl Fn(&str) -> bool) -> Option<usize> {
    record.folded.iter().position(|folded| !folded.is_empty() && is_wanted(folded))
}

impl Candidate<'_> {
    fn record(&self) -> &SampleRecord {
        &self.sample.records[self.index]
    }

    fn rows(&self) -> &[SampleRecord] {
        &self.sample.records[self.index + 1..]
    }

    /// The number of sample rows that have a code under this header.
    fn valid_rows(&self) -> usize {
        let width = self.record().cells.len();
        let suits = |row: &&SampleRecord| row.cells.len() <= width && row.code(self.code).is_some();
        self.rows().iter().filter(suits).count()
    }

    pub(super) fn layout(self, options: &ReadOptions) -> Result<Layout, CutError> {
        let record = self.record();
        self.refuse_skipped_codes(options)?;
        let unclear = |why: String| record.unclear(why);
        refuse_equal_names(record).map_err(unclear)?;
        let code = self
            .resolve_column(self.code, is_code_name, options.code_column.as_ref(), "codes", "codeColumn")
            .map_err(unclear)?;
        let user =
            match &options.user_column {
                Some(ColumnLabel::Number(number)) => Some(number - 1),
                Some(ColumnLabel::Name(name)) => {
                    let named = position(record, |folded| folded == fold(name));
                    Some(named.ok_or_else(|| {
                        unclear(format!("userColumn is {name:?}, but no column has this name"))
                    })?)
                }
                None => position(record, is_user_name).filter(|user| *user != code),
            };
        let user = user
            .map(|user| {
                self.resolve_column(user, is_user_name, options.user_column.as_ref(), "users", "userColumn")
            })
            .transpose()
            .map_err(unclear)?;
        if user == Some(code) {
            return Err(unclear("codeColumn and userColumn name the same column".to_owned()));
        }
        Ok(self.with_columns(code, user))
    }

    /// Returns the column of a role, unless it does not exist or another column's name has the same role.
    fn resolve_column(
        &self,
        column: usize,
        is_name: fn(&str) -> bool,
        said: Option<&ColumnLabel>,
        role: &str,
        parameter: &str,
    ) -> Result<usize, String> {
        let record = self.record();
        if column >= record.cells.len() {
            return Err(format!(
                "{parameter} is {}, but the header has {} columns",
                column + 1,
                record.cells.len()
            ));
        }
        let other = record.folded.iter().enumerate().find(|(at, name)| *at != column && is_name(name));
        match (said, other) {
            (None, Some((at, _))) => Err(format!(
                "{:?} and {:?} both name a column of {role}: select one with {parameter}",
                record.cell(column),
                record.cell(at)
            )),
            _ => Ok(column),
        }
    }

    fn with_columns(&self, code: usize, user: Option<usize>) -> Layout {
        let record = self.record();
        let name = |index: usize| text::trim(&record.cells[index]).to_owned();
        let is_metadata =
            |index: &usize| *index != code && Some(*index) != user && !record.folded[*index].is_empty();
        let metadata: Vec<MetadataColumn> = (0..record.cells.len())
            .filter(is_metadata)
            .map(|index| MetadataColumn { index, name: name(index) })
            .collect();
        let label = |index: usize| match name(index) {
            name if fold(&name).is_empty() => ColumnLabel::Number(index + 1),
            name => ColumnLabel::Name(name),
        };
        let read_as = ReadAs {
            encoding: "UTF-8",
            delimiter: self.sample.delimiter,
            header: true,
            code_column: label(code),
            user_column: user.map(label),
            metadata_columns: metadata.iter().map(|column| column.name.clone()).collect(),
            skipped_lines: record.line - 1,
        };
        let columns =
            Columns { code, user_id: user, metadata, header: record.folded.clone(), ..Columns::default() };
        let (start, line) = record.next;
        Layout { delimiter: self.sample.delimiter, columns, read_as, start, line }
    }

    /// A line above the header that looks like the codes below it is probably not a title; skipping it
    /// would silently lose a code.
    fn refuse_skipped_codes(&self, options: &ReadOptions) -> Result<(), CutError> {
        let below: Vec<String> =
            self.rows().iter().filter_map(|row| row.code(self.code)).map(|code| mask(&code)).collect();
        let above = &self.sample.records[..self.index];
        let is_like_a_code = |record: &&SampleRecord| {
            let first = (0..record.cells.len()).find_map(|index| record.code(index));
            first.is_some_and(|code| has_digit(&code) && below.contains(&mask(&code)))
        };
        match above.iter().find(is_like_a_code) {
            Some(record) if options.header != Some(true) => Err(record.unclear(format!(
                "it looks like a code, but the header appears to be below it, on line {}",
                self.record().line
            ))),
            _ => Ok(()),
        }
    }
}

fn refuse_equal_names(header: &SampleRecord) -> Result<(), String> {
    for (at, folded) in header.folded.iter().enumerate() {
        if !folded.is_empty() && header.folded[..at].contains(folded) {
            return Err(format!("two columns are named {:?}: rename one of them", header.cell(at)));
        }
    }
    Ok(())
}
