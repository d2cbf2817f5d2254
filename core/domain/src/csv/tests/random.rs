//! Random files: pushes have no effect, cells equal those of the `csv` crate, lines equal a simple count.

use ::csv::StringRecord;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::record::Splitter;
use super::super::{Cut, Delimiter, Limits, ReadOptions};
use super::{break_count, config, cut_every_way, cut_in_pieces, cut_whole, explicit_options, records_of};

type Cells = Vec<String>;

/// Characters that matter to the scanner, and a few others.
const TOKENS: &[&str] = &[
    "A", "b1c", " ", ",", ";", "\t", "\"", "\"", "\"\"", "\n", "\r", "\r\n", "é", "𝄞", "\u{feff}", "code",
    "sep=",
];
const CELL_TOKENS: &[&str] = &["A", "b", " ", ",", ";", "\"", "\n", "\r\n", "\r", "é"];
const LINE_BREAKS: &[&str] = &["\n", "\r\n", "\r", "\n\n", "\n \t\r\n"];
const NOT_TEXT: &[&[u8]] = &[b"", b"", b"\0", b"\xFF", b"\xFF\xFE", b"\xE2\x82", b"\xF0\x9D", b"\x80"];

fn any_limits() -> impl Strategy<Value = Limits> {
    (0..40_usize, 0..4_u64).prop_map(|(part_bytes, part_records)| Limits { part_bytes, part_records })
}

/// Text with many special characters, valid or not.
fn any_text() -> impl Strategy<Value = String> {
    vec(select(TOKENS), 0..40).prop_map(|tokens| tokens.concat())
}

/// The same with invalid UTF-8.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    (any_text(), select(NOT_TEXT), any_text())
        .prop_map(|(before, foreign, after)| [before.as_bytes(), foreign, after.as_bytes()].concat())
}

/// A cell, quoted correctly.
fn any_cell(delimiter: char) -> impl Strategy<Value = String> {
    (vec(select(CELL_TOKENS), 0..5), any::<bool>()).prop_map(move |(tokens, quoted)| {
        let text = tokens.concat();
        let must_quote = text.contains([delimiter, '"', '\n', '\r']);
        if quoted || must_quote { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
    })
}

/// A file of valid rows and blank lines.
#[derive(Debug, Clone)]
struct SoundFile {
    text: String,
    /// The non-blank rows with their lines.
    rows: Vec<(u64, String)>,
}

fn any_sound_file() -> impl Strategy<Value = (SoundFile, Delimiter)> {
    select(&Delimiter::ALL[..]).prop_flat_map(|delimiter| {
        let character = char::from(delimiter.byte());
        let row = vec(any_cell(character), 1..4).prop_map(move |cells| cells.join(&character.to_string()));
        vec((row, select(LINE_BREAKS)), 0..12).prop_map(move |lines| {
            let mut file = SoundFile { text: String::new(), rows: Vec::new() };
            for (row, line_break) in [("FIRST".to_owned(), "\n")].into_iter().chain(lines) {
                let line = break_count(&file.text) + 1;
                file.text.push_str(&row);
                file.text.push_str(line_break);
                let mut reader = ::csv::ReaderBuilder::new()
                    .delimiter(delimiter.byte())
                    .has_headers(false)
                    .from_reader(row.as_bytes());
                if reader.records().any(|record| !is_blank(&record.unwrap())) {
                    file.rows.push((line, row));
                }
            }
            (file, delimiter)
        })
    })
}

fn cells_by_us(cut: &Cut) -> Vec<Cells> {
    let mut splitter = Splitter::new(cut.summary.delimiter);
    let split = |(_, raw): &(u64, String)| splitter.split(raw).iter().map(str::to_owned).collect();
    records_of(cut).iter().map(split).collect()
}

fn cells_by_csv(file: &str, cut: &Cut) -> Vec<Cells> {
    let mut reader = ::csv::ReaderBuilder::new()
        .delimiter(cut.summary.delimiter.byte())
        .flexible(true)
        .has_headers(false)
        .from_reader(file.trim_start_matches('\u{feff}').as_bytes());
    let records = reader.records().map(Result::unwrap).filter(|record| !is_blank(record));
    records.map(|record| record.iter().map(str::to_owned).collect()).collect()
}

/// The `csv` crate reads a record without text in any cell; this module does not.
fn is_blank(record: &StringRecord) -> bool {
    record.iter().all(|cell| cell.trim_ascii().is_empty())
}

/// Blanks before a quote: here the quote opens the cell, in the `csv` crate it is text.
fn has_padded_quote(file: &str) -> bool {
    file.contains(" \"") || file.contains("\t\"")
}

/// Each part is a section of the file that begins on its stated line.
fn assert_parts_by_counting(file: &str, cut: &Cut) {
    let text = file.trim_start_matches('\u{feff}');
    let mut at = 0;
    for part in &cut.parts {
        let bytes = str::from_utf8(&part.bytes).unwrap();
        let is_on_its_line = |start: &usize| break_count(&text[..*start]) + 1 == part.first_line;
        let starts = text[at..].match_indices(bytes).map(|(start, _)| at + start);
        at = starts.into_iter().find(is_on_its_line).expect("the part is no section of the file on its line")
            + bytes.len();
    }
    assert_eq!(break_count(text), cut.summary.lines);
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn pushes_do_not_matter(file in any_bytes(), limits in any_limits(), size in 1..9_usize) {
        for options in [ReadOptions::default(), explicit_options()] {
            let whole = cut_every_way(&file, limits, &options);
            prop_assert_eq!(cut_in_pieces(file.chunks(size), limits, &options), whole);
        }
    }

    #[test]
    fn the_csv_crate_reads_the_same_from_any_text(file in any_text(), limits in any_limits()) {
        if has_padded_quote(&file) || file.contains("sep=") {
            return Ok(());
        }
        if let Ok(cut) = cut_whole(file.as_bytes(), limits, &explicit_options()) {
            prop_assert_eq!(cells_by_us(&cut), cells_by_csv(&file, &cut));
            assert_parts_by_counting(&file, &cut);
        }
    }

    #[test]
    fn sound_files_come_back_row_by_row((file, delimiter) in any_sound_file(), limits in any_limits()) {
        let options = ReadOptions { delimiter: Some(delimiter), ..explicit_options() };
        let cut = cut_whole(file.text.as_bytes(), limits, &options).unwrap();
        if !has_padded_quote(&file.text) {
            prop_assert_eq!(cells_by_us(&cut), cells_by_csv(&file.text, &cut));
        }
        prop_assert_eq!(records_of(&cut), file.rows);
        prop_assert_eq!(break_count(&file.text), cut.summary.lines);
    }
}
