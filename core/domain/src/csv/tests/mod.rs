//! Tests of the module's guarantees, with hand-written cases and against the `csv` crate.

mod cases;
mod detection;
mod limits;
mod names;
mod random;
mod rows;

use proptest::test_runner::Config;

use super::{Cut, CutError, Cutter, Delimiter, Limits, Part, ReadOptions, records};

/// Property tests with this number of cases, or a hundred times as many with `CUPONERA_SOAK=1`.
fn config(cases: u32) -> Config {
    let is_soak = std::env::var_os("CUPONERA_SOAK").is_some_and(|value| value == "1");
    let cases = if is_soak { cases * 100 } else { cases };
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Options for a comma-separated file without a header: nothing is detected.
fn explicit_options() -> ReadOptions {
    ReadOptions { delimiter: Some(Delimiter::Comma), header: Some(false), ..ReadOptions::default() }
}

/// All records of all parts, with their lines. Also checks the guarantees of parts.
fn records_of(cut: &Cut) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for part in &cut.parts {
        let text = str::from_utf8(&part.bytes).unwrap();
        let found: Vec<_> = records(text, cut.summary.delimiter, part.first_line).collect();
        assert_eq!(found.len() as u64, part.records, "records of {part:?}");
        assert_eq!(found[0].line, part.first_line, "a part begins with a record: {part:?}");
        assert_eq!(break_count(text), part.lines, "lines of {part:?}");
        all.extend(found.iter().map(|record| (record.line, record.raw.to_owned())));
    }
    assert_eq!(all.len() as u64, cut.summary.records);
    all
}

/// Counts physical lines in the simple way; a last line without a line break counts.
fn break_count(text: &str) -> u64 {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let unfinished = !text.is_empty() && !text.ends_with('\n');
    text.matches('\n').count() as u64 + u64::from(unfinished)
}

fn cut_in_pieces<'a>(
    pieces: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
    options: &ReadOptions,
) -> Result<Cut, CutError> {
    let mut cutter = Cutter::new(limits, options.clone());
    let mut parts: Vec<Part> = Vec::new();
    for piece in pieces {
        cutter.push(piece)?;
        parts.extend(std::iter::from_fn(|| cutter.take_part()));
    }
    let mut cut = cutter.finish()?;
    parts.append(&mut cut.parts);
    Ok(Cut { parts, ..cut })
}

fn cut_whole(file: &[u8], limits: Limits, options: &ReadOptions) -> Result<Cut, CutError> {
    cut_in_pieces(std::iter::once(file), limits, options)
}

/// Cuts with every split into two pushes, byte by byte, and in one push; all results must be equal.
fn cut_every_way(file: &[u8], limits: Limits, options: &ReadOptions) -> Result<Cut, CutError> {
    let whole = cut_whole(file, limits, options);
    for middle in 0..=file.len() {
        let (head, tail) = file.split_at(middle);
        assert_eq!(cut_in_pieces([head, tail].into_iter(), limits, options), whole, "split at {middle}");
    }
    assert_eq!(cut_in_pieces(file.chunks(1), limits, options), whole, "byte by byte");
    whole
}

fn one_record_a_part() -> Limits {
    Limits { part_records: 1, ..Limits::default() }
}
