//! Text output of server data: aligned tables, without characters that control a terminal.

use chrono::{DateTime, SecondsFormat};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::HumanCount;
use serde_json::Value;

/// Printed for an absent value.
const ABSENT: &str = "-";

/// A column of a table: its title, the JSON pointer of its values, and their format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column(pub(crate) &'static str, pub(crate) &'static str, pub(crate) CellFormat);

/// The format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellFormat {
    /// Unformatted.
    Text,
    /// A number, in groups of three digits, aligned to the right.
    Count,
    /// A time.
    Time,
}

/// Formats the items of a list as a table.
pub(crate) fn table(columns: &[Column], items: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(columns.iter().map(|column| column.0));
    for item in items {
        table.add_row(columns.iter().map(|column| column.of(item)));
    }
    for (index, column) in columns.iter().enumerate() {
        if let (CellFormat::Count, Some(shown)) = (column.2, table.column_mut(index)) {
            shown.set_cell_alignment(CellAlignment::Right);
        }
    }
    flush_left(&table)
}

/// Formats one item, with a line for each field that is present.
pub(crate) fn card(columns: &[Column], item: &Value) -> String {
    let present = columns.iter().map(|column| (column.0, column.of(item))).filter(|(_, text)| text != ABSENT);
    pairs(&present.collect::<Vec<_>>())
}

/// Formats names and values in two aligned columns.
pub(crate) fn pairs(lines: &[(&str, String)]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING);
    for (name, value) in lines {
        table.add_row([(*name).to_owned(), value.clone()]);
    }
    flush_left(&table)
}

/// Removes the left margin and trailing spaces.
fn flush_left(table: &Table) -> String {
    let lines = table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

impl Column {
    fn of(self, item: &Value) -> String {
        let found = item.pointer(self.1).unwrap_or(&Value::Null);
        match (found, self.2) {
            (Value::Null, _) => ABSENT.to_owned(),
            (Value::String(text), CellFormat::Time) => time(text),
            (Value::String(text), _) => plain(text),
            (number, CellFormat::Count) => number.as_u64().map_or_else(|| number.to_string(), count),
            (Value::Array(items), _) => {
                let one =
                    |item: &Value| plain(&item.as_str().map_or_else(|| item.to_string(), str::to_owned));
                items.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            (other, _) => plain(&other.to_string()),
        }
    }
}

/// Escapes characters that move the cursor, change colors, or change the writing direction.
pub(crate) fn plain(text: &str) -> String {
    escape(text, |char| char.escape_unicode().to_string())
}

/// Escapes such characters in a JSON document and puts it on one line. Its value does not change.
pub(crate) fn plain_json(text: &str) -> String {
    // Outside of strings, the only control characters of JSON are line ends and tabs.
    let escaped = |char| match char {
        '\n' | '\r' | '\t' => " ".to_owned(),
        other => format!("\\u{:04x}", u32::from(other)),
    };
    escape(text.trim(), escaped)
}

fn escape(text: &str, escaped: impl Fn(char) -> String) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, char| {
        if controls_terminal(char) {
            plain.push_str(&escaped(char));
        } else {
            plain.push(char);
        }
        plain
    })
}

/// Control characters, line and paragraph separators, and characters that change the writing direction.
fn controls_terminal(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Formats a number in groups of three digits.
pub(crate) fn count(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Formats a timestamp from the server, to the second.
pub(crate) fn time(text: &str) -> String {
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => time.to_utc().to_rfc3339_opts(SecondsFormat::Secs, true).replace('T', " "),
        Err(_) => plain(text),
    }
}

/// A string of a document, escaped for a terminal.
pub(crate) fn text(item: &Value, pointer: &str) -> String {
    item.pointer(pointer).and_then(Value::as_str).map_or_else(|| ABSENT.to_owned(), plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_steers_a_terminal_is_printed_raw() {
        let hostile = "red\u{1b}[31m\u{9b}2J\u{7}\r\n\u{202e}txt";
        for shown in [
            plain(hostile),
            plain_json(hostile),
            table(&[Column("A", "/a", CellFormat::Text)], &[json!({"a": hostile})]),
            table(&[Column("A", "/a", CellFormat::Text)], &[json!({"a": [[hostile]]})]),
        ] {
            let left = shown.chars().filter(|char| *char != '\n' && controls_terminal(*char)).count();
            assert_eq!(left, 0, "{shown:?}");
        }
    }

    #[test]
    fn escaped_json_says_the_same_on_one_line() {
        let document = "{\n  \"a\": \"x\u{9b}y\u{2028}z\\n\"\n}\n";
        let shown = plain_json(document);
        assert!(!shown.contains('\n'));
        let (before, after): (Value, Value) =
            (serde_json::from_str(document).unwrap(), serde_json::from_str(&shown).unwrap());
        assert_eq!(before, after);
    }

    #[test]
    fn a_table_is_aligned_by_what_is_seen_and_numbers_stand_to_the_right() {
        let columns =
            [Column("NAME", "/name", CellFormat::Text), Column("CODES", "/codes", CellFormat::Count)];
        let items = [json!({"name": "Ñandú 券", "codes": 1_234_567}), json!({"name": "b", "codes": null})];
        assert_eq!(table(&columns, &items), "NAME          CODES\nÑandú 券  1,234,567\nb                 -");
    }
}
