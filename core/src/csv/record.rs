//! Reads a part again: its records with their lines, and the cells of each that matter.

use super::cells::{Cells, Splitter};
use super::scan::{End, Scanner};
use super::{Columns, Delimiter};

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
    Records { rest: part, scanner: Scanner::new(delimiter.bytes(), first_line) }
}

/// What [`records`] gives.
#[derive(Debug)]
pub struct Records<'a> {
    rest: &'a str,
    scanner: Scanner,
}

impl Records<'_> {
    /// The next record or blank line.
    fn next_end(&mut self) -> Option<End> {
        if let Some(end) = self.scanner.next_end(self.rest.as_bytes()) {
            return Some(end);
        }
        self.scanner.last_end().map(|end| End { next: self.rest.len(), ..end })
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
    /// The code's cell as it stands, unquoted; empty where the record has none.
    pub code: &'a str,
    /// The user's id, trimmed, if there is one.
    pub user: Option<&'a str>,
    /// A JSON object of the cells that have something in them, as they stand, unquoted.
    pub metadata: Option<&'a str>,
}

/// Reads rows into memory that it uses again for the next row.
#[derive(Debug)]
pub struct RowParser {
    splitter: Splitter,
    code: usize,
    user_id: Option<usize>,
    /// Columns with their keys as JSON.
    keys: Vec<(usize, String)>,
    json: Vec<u8>,
}

impl RowParser {
    /// Reads the columns of one upload.
    pub fn new(columns: &Columns, delimiter: Delimiter) -> Self {
        let key = |name: &str| serde_json::Value::from(name).to_string();
        Self {
            splitter: Splitter::new(delimiter),
            code: columns.code,
            user_id: columns.user_id,
            keys: columns.metadata.iter().map(|column| (column.index, key(&column.name))).collect(),
            json: Vec::new(),
        }
    }

    /// Reads one row. Never fails: a missing cell is an empty one, and one too many is ignored.
    pub fn parse(&mut self, record: &Record<'_>) -> Row<'_> {
        let cells = self.splitter.split(record.raw);
        Row {
            code: cells.get(self.code),
            user: self.user_id.map(|index| cells.get(index).trim()).filter(|user| !user.is_empty()),
            metadata: write_metadata(&mut self.json, &self.keys, &cells),
        }
    }
}

/// Writes the object into `json`; `None` if no cell has anything in it.
fn write_metadata<'a>(json: &'a mut Vec<u8>, keys: &[(usize, String)], cells: &Cells<'_>) -> Option<&'a str> {
    json.clear();
    for (index, key) in keys {
        let cell = cells.get(*index);
        if cell.trim().is_empty() {
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
