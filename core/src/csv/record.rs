//! Reads a part again: its records with their lines, and the cells of each that matter.

use super::cells::{Cells, Splitter, is_empty, unescape};
use super::names::{fold, is_column_name};
use super::scan::{End, Scanner};
use super::{Columns, Delimiter};
use crate::text;

/// One record as it stands in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The physical line of the upload it starts on, counted from 1.
    pub line: u64,
    /// Its text, without the line break that ends it.
    pub raw: &'a str,
}

/// The records of a part whose first byte stands on physical line `first_line`; blank lines are skipped.
pub fn records(part: &str, delimiter: Delimiter, first_line: u64) -> Records<'_> {
    Records {
        rest: part,
        length: part.len(),
        scanner: Scanner::new(delimiter, first_line),
        is_unfinished: false,
    }
}

/// What [`records`] gives.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a str,
    /// Of the whole part, in bytes.
    length: usize,
    scanner: Scanner,
    is_unfinished: bool,
}

impl Records<'_> {
    /// The next record or blank line.
    fn next_end(&mut self) -> Option<End> {
        if let Some(end) = self.scanner.next_end(self.rest.as_bytes()) {
            return Some(end);
        }
        self.is_unfinished = self.scanner.is_inside_quotes();
        self.scanner.last_end().map(|end| End { next: self.rest.len(), ..end })
    }

    /// Where the next record begins, in bytes of the part, and on which physical line.
    pub(super) fn position(&self) -> (usize, u64) {
        (self.length - self.rest.len(), self.scanner.line())
    }

    /// Whether the last record ended inside quotes.
    pub(super) fn is_unfinished(&self) -> bool {
        self.is_unfinished
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            let line = self.scanner.line();
            let end = self.next_end()?;
            let (text, rest) = self.rest.split_at(end.next);
            self.rest = rest;
            if !end.blank {
                return Some(Record { line, raw: &text[..end.length] });
            }
        }
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row<'a> {
    /// The code's cell, unquoted and trimmed; empty where the record has none.
    pub code: &'a str,
    /// The user's id, trimmed, if there is one.
    pub user: Option<&'a str>,
    /// A JSON object of the cells that have something in them, as they stand, unquoted.
    pub metadata: Option<&'a str>,
    /// Why the record does not suit the header, if it does not.
    pub fault: Option<RowFault>,
}

/// Why a record does not suit the header of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowFault {
    /// It has text in a cell behind the header's last column.
    TooManyCells {
        /// The number of its last cell with text in it, from 1.
        cells: usize,
        /// How many columns the header has.
        columns: usize,
    },
    /// It is a header: its code is the name of a column, or its user is.
    RepeatedHeader,
    /// The file has no header, and no row at its start has a code.
    NoCodeAtStart,
}

impl RowFault {
    /// The stable name of the fault, as the errors file of an import gives it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooManyCells { .. } => "too_many_cells",
            Self::RepeatedHeader => "repeated_header",
            Self::NoCodeAtStart => "no_code_at_start",
        }
    }

    /// The same as a sentence.
    pub fn detail(self) -> String {
        match self {
            Self::TooManyCells { cells, columns } => {
                format!("column {cells} has text, and the header has {columns} columns")
            }
            Self::RepeatedHeader => "the row is a header once more".to_owned(),
            Self::NoCodeAtStart => {
                "the file has no header and no code in its first rows; header=false imports its codes"
                    .to_owned()
            }
        }
    }
}

/// Reads rows into memory that it uses again for the next row.
#[derive(Debug)]
pub struct RowParser {
    splitter: Splitter,
    columns: Columns,
    /// Metadata columns with their keys as JSON.
    keys: Vec<(usize, String)>,
    json: Vec<u8>,
}

impl RowParser {
    /// Reads the columns of one upload.
    pub fn new(columns: &Columns, delimiter: Delimiter) -> Self {
        let key = |name: &str| serde_json::Value::from(name).to_string();
        Self {
            splitter: Splitter::new(delimiter),
            keys: columns.metadata.iter().map(|column| (column.index, key(&column.name))).collect(),
            columns: columns.clone(),
            json: Vec::new(),
        }
    }

    /// Reads one row. A missing cell is an empty one.
    pub fn parse(&mut self, record: &Record<'_>) -> Row<'_> {
        let cells = self.splitter.split(record.raw);
        let cell = |index| unescape(text::trim(cells.get(index)));
        Row {
            // Only blanks are taken off a code: a character in it that cannot be seen is reported.
            code: unescape(cells.get(self.columns.code).trim()),
            user: self.columns.user_id.map(cell).filter(|user| !user.is_empty()),
            metadata: write_metadata(&mut self.json, &self.keys, &cells),
            fault: fault_of(&self.columns, &cells),
        }
    }
}

fn fault_of(columns: &Columns, cells: &Cells<'_>) -> Option<RowFault> {
    if columns.creates_nothing {
        return Some(RowFault::NoCodeAtStart);
    }
    if repeats_header(columns, cells) {
        return Some(RowFault::RepeatedHeader);
    }
    if columns.header.is_empty() {
        return None;
    }
    let (width, columns) = (cells.width(), columns.header.len());
    (width > columns).then_some(RowFault::TooManyCells { cells: width, columns })
}

/// Whether the record is a header, such as that of another file behind the first: its code is the name of a
/// column, a known one or the one of this file, or its user is this file's name of that column. A file that is said to have no
/// header has none here either.
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

/// Writes the object into `json`; `None` if no cell has anything in it.
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
