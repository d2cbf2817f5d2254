//! Tests of the limits: length of a record, size of a part, amount of buffered data.

use super::super::{CutError, Cutter, Limits, MAX_RECORD_BYTES, ReadOptions};
use super::{cut_in_pieces, cut_whole, explicit_options, one_record_a_part, records_of};

/// Piece sizes around the boundaries of pieces outside and inside the cutter.
const PUSH_SIZES: [usize; 7] = [1, 2, 7, 1000, MAX_RECORD_BYTES - 1, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1];

fn cut_in_sizes(file: &str, limits: Limits) -> Result<super::Cut, CutError> {
    let whole = cut_whole(file.as_bytes(), limits, &explicit_options());
    for size in PUSH_SIZES {
        assert_eq!(
            cut_in_pieces(file.as_bytes().chunks(size), limits, &explicit_options()),
            whole,
            "pushes of {size}"
        );
    }
    whole
}

#[test]
fn the_longest_record_passes_with_every_line_break() {
    let longest = "x".repeat(MAX_RECORD_BYTES);
    for line_break in ["\n", "\r\n", "\r"] {
        let file = format!("A{line_break}{longest}{line_break}{longest}");
        let found = records_of(&cut_in_sizes(&file, one_record_a_part()).unwrap());
        assert_eq!(
            found.iter().map(|(line, raw)| (*line, raw.len())).collect::<Vec<_>>(),
            [(1, 1), (2, MAX_RECORD_BYTES), (3, MAX_RECORD_BYTES)]
        );
    }
}

#[test]
fn a_record_one_byte_longer_is_refused() {
    let too_long = "x".repeat(MAX_RECORD_BYTES + 1);
    for (file, line, inside_quotes) in [
        (format!("{too_long}\n"), 1, false),
        (format!("\n\n{too_long}"), 3, false),
        (format!("A\r\n\r\n{too_long}\r\n"), 3, false),
        (format!("code\n\"{}", "y\n".repeat(MAX_RECORD_BYTES)), 2, true),
        (format!("\"{}", "A\r\n".repeat(MAX_RECORD_BYTES)), 1, true),
        (format!("A\n\"{}\"\"\n", &too_long[3..]), 2, true),
        (format!("A\n{}\n", " ".repeat(MAX_RECORD_BYTES + 1)), 2, false),
        (" ".repeat(MAX_RECORD_BYTES + 1), 1, false),
    ] {
        let error = cut_in_sizes(&file, Limits::default()).unwrap_err();
        assert_eq!(error, CutError::RecordTooLong { line, inside_quotes });
        assert_eq!(error.to_string().contains("never closed"), inside_quotes);
    }
}

#[test]
fn an_unclosed_quote_is_noticed_before_the_file_ends() {
    for before in ["", "A\n", "code,x\n"] {
        let mut cutter = Cutter::new(Limits::default(), ReadOptions::default());
        cutter.push(before.as_bytes()).unwrap();
        cutter.push(b"\"").unwrap();
        // Until the layout is decided, up to twice the maximum record length is buffered.
        let error = (0..3).find_map(|_| cutter.push(&vec![b'x'; MAX_RECORD_BYTES]).err());
        assert!(matches!(error, Some(CutError::RecordTooLong { inside_quotes: true, .. })), "{error:?}");
    }
}

#[test]
fn a_part_is_closed_by_the_record_that_fills_it() {
    let file = "\nAAA\n\nBBB\nCCC\n\nDDD";
    let sizes = |part_bytes, part_records| {
        let cut = cut_in_sizes(file, Limits { part_bytes, part_records }).unwrap();
        records_of(&cut);
        cut.parts.iter().map(|part| (part.first_line, part.records, part.bytes.len())).collect::<Vec<_>>()
    };
    assert_eq!(sizes(1000, 2), [(2, 2, 9), (5, 2, 8)]);
    assert_eq!(sizes(9, 1000), [(2, 2, 9), (5, 2, 8)]);
    assert_eq!(sizes(10, 1000), [(2, 3, 13), (7, 1, 3)]);
    assert_eq!(sizes(0, 0), [(2, 1, 4), (4, 1, 4), (5, 1, 4), (7, 1, 3)]);
    assert_eq!(sizes(1000, 1000), [(2, 4, 17)]);
}

#[test]
fn a_great_many_blank_lines_are_not_held() {
    let mut cutter = Cutter::new(Limits::default(), ReadOptions::default());
    let blank = "\r\n".repeat(500_000);
    for _ in 0..10 {
        cutter.push(blank.as_bytes()).unwrap();
        assert!(cutter.take_part().is_none());
    }
    cutter.push(b"code\n").unwrap();
    for _ in 0..10 {
        cutter.push(blank.as_bytes()).unwrap();
        assert!(cutter.take_part().is_none());
    }
    cutter.push(b"A").unwrap();
    let cut = cutter.finish().unwrap();
    assert_eq!(records_of(&cut), [(10_000_002, "A".to_owned())]);
    assert_eq!(cut.summary.lines, 10_000_002);
}

#[test]
fn one_long_push_gives_every_part_at_once() {
    let file = "A1B2,userX,foo\n".repeat(200_000);
    let mut cutter = Cutter::new(Limits::default(), ReadOptions::default());
    cutter.push(file.as_bytes()).unwrap();
    let parts: Vec<_> = std::iter::from_fn(|| cutter.take_part()).collect();
    assert_eq!(parts.iter().map(|part| part.records).collect::<Vec<_>>(), [50_000; 4]);
    let cut = cutter.finish().unwrap();
    assert_eq!((cut.parts.len(), cut.summary.records, cut.summary.lines), (0, 200_000, 200_000));
    assert_eq!(parts.iter().flat_map(|part| part.bytes.iter().copied()).collect::<Vec<_>>(), file.as_bytes());
}
