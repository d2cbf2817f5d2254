//! Rows of a part: the relevant cells of each record, the records that do not match the header, and whether a file repeats
//! a code.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use super::layout::{Columns, fold, is_column_name};
use super::record::{Cells, Delimiter, Record, Splitter, is_empty, records, unescape};
use crate::coupon::code::Code;
use crate::text;

/// The content of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The code's cell, unquoted and trimmed; empty if the record has none.
    pub code: &'a str,
    /// The user's id, trimmed, if there is one.
    pub user: Option<&'a str>,
    /// A JSON object of the cells that have text, unquoted and otherwise unchanged.
    pub metadata: Option<&'a str>,
    /// Why the record does not match the header, if it does not.
    pub fault: Option<RowError>,
}

/// Why a record does not match the header of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowError {
    /// It has text after the header's last column.
    TooManyCells {
        /// The number of the last cell with text, from 1.
        cells: usize,
        /// The number of columns in the header.
        columns: usize,
    },
    /// It is a header: its code or its user is a column name.
    RepeatedHeader,
    /// The file has no header, and no row at its start has a code.
    NoCodeAtStart,
}

impl RowError {
    /// The stable name of the fault, in the errors file of an import.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooManyCells { .. } => "too_many_cells",
            Self::RepeatedHeader => "repeated_header",
            Self::NoCodeAtStart => "no_code_at_start",
        }
    }

    /// The fault as a sentence.
    pub fn detail(self) -> String {
        match self {
            Self::TooManyCells { cells, columns } => {
                format!("column {cells} has text, but the header has {columns} columns")
            }
            Self::RepeatedHeader => "the row repeats the header".to_owned(),
            Self::NoCodeAtStart => {
                "the file has no header and no code in its first rows; header=false imports its codes"
                    .to_owned()
            }
        }
    }
}

/// Parses rows with buffers that are reused.
#[derive(Debug)]
pub struct RowParser {
    splitter: Splitter,
    columns: Columns,
    /// The metadata columns, with their keys as JSON.
    keys: Vec<(usize, String)>,
    json: Vec<u8>,
}

impl RowParser {
    /// A parser for the columns of an upload.
    pub fn new(columns: &Columns, delimiter: Delimiter) -> Self {
        let key = |name: &str| serde_json::Value::from(name).to_string();
        Self {
            splitter: Splitter::new(delimiter),
            keys: columns.metadata.iter().map(|column| (column.index, key(&column.name))).collect(),
            columns: columns.clone(),
            json: Vec::new(),
        }
    }

    /// Parses a row. A missing cell counts as empty.
    pub fn parse(&mut self, record: &Record<'_>) -> Row<'_> {
        let cells = self.splitter.split(record.raw);
        let cell = |index| unescape(text::trim(cells.get(index)));
        Row {
            // Only blanks are trimmed from a code: an invisible character in it is reported.
            code: unescape(cells.get(self.columns.code).trim()),
            user: self.columns.user_id.map(cell).filter(|user| !user.is_empty()),
            metadata: write_metadata(&mut self.json, &self.keys, &cells),
            fault: fault_of(&self.columns, &cells),
        }
    }
}

fn fault_of(columns: &Columns, cells: &Cells<'_>) -> Option<RowError> {
    if columns.creates_nothing {
        return Some(RowError::NoCodeAtStart);
    }
    if repeats_header(columns, cells) {
        return Some(RowError::RepeatedHeader);
    }
    if columns.header.is_empty() {
        return None;
    }
    let (width, columns) = (cells.width(), columns.header.len());
    (width > columns).then_some(RowError::TooManyCells { cells: width, columns })
}

/// Whether the record is a header, for example that of a second file appended to the first: its code is a
/// known column name or this file's name of the column, or its user is this file's name of the user column.
/// If the uploader declared that there is no header, no record is one.
fn repeats_header(columns: &Columns, cells: &Cells<'_>) -> bool {
    let code = fold(cells.get(columns.code));
    if columns.header.is_empty() {
        return columns.refuses_names && is_column_name(&code);
    }
    let is_named_so = |column: usize, cell: &str| {
        !cell.is_empty() && columns.header.get(column).is_some_and(|name| name == cell)
    };
    let user = |column: usize| is_named_so(column, &fold(cells.get(column)));
    is_column_name(&code) || is_named_so(columns.code, &code) || columns.user_id.is_some_and(user)
}

/// Writes the object into `json`; returns `None` if all cells are empty.
fn write_metadata<'a>(json: &'a mut Vec<u8>, keys: &[(usize, String)], cells: &Cells<'_>) -> Option<&'a str> {
    json.clear();
    for (index, key) in keys {
        let cell = unescape(cells.get(*index));
        if is_empty(cell) {
            continue;
        }
        json.push(if json.is_empty() { b'{' } else { b',' });
        json.extend_from_slice(key.as_bytes());
        json.push(b':');
        serde_json::to_writer(&mut *json, cell).expect("memory takes any text");
    }
    if json.is_empty() {
        return None;
    }
    json.push(b'}');
    Some(str::from_utf8(json).expect("JSON is UTF-8"))
}

/// Finds out whether an upload may repeat a code. Keeps a hash of 8 bytes for each row. **Invariant.** A repeated code is
/// always found, because equal codes have equal hashes. Two codes may have the same hash and then count as repeated.
#[derive(Debug, Default)]
pub struct Repeats {
    hasher: RandomState,
    hashes: Vec<u64>,
}

impl Repeats {
    /// Adds the codes of a part, normalized as an import does it. Skips texts that are not codes.
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

    /// Whether a code may occur twice.
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
