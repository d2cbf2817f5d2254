//! Tests of single files: the records with their lines, and the faults.

use super::super::{Columns, CutError, Delimiter, Limits, ReadOptions};
use super::{cut_every_way, explicit_options, one_record_a_part, records_of};

/// A name, a file, its physical lines, and its records with their start lines.
type Case = (&'static str, &'static str, u64, &'static [(u64, &'static str)]);

const HEADERLESS: &[Case] = &[
    ("lf", "A\nB\nC\n", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("crlf", "A\r\nB\r\nC\r\n", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("lone cr", "A\rB\rC\r", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("mixed breaks", "A\rB\nC\r\nD", 4, &[(1, "A"), (2, "B"), (3, "C"), (4, "D")]),
    ("lf cr is two breaks", "A\n\rB", 3, &[(1, "A"), (3, "B")]),
    ("no break at the end", "A\nB", 2, &[(1, "A"), (2, "B")]),
    ("byte order mark", "\u{feff}A\nB\n", 2, &[(1, "A"), (2, "B")]),
    ("two marks", "\u{feff}\u{feff}A\n\u{feff}B\n", 2, &[(1, "A"), (2, "\u{feff}B")]),
    ("mark, then a quote", "\u{feff}\"A\nB\"\nC", 3, &[(1, "\"A\nB\""), (3, "C")]),
    ("short of a mark", "A", 1, &[(1, "A")]),
    ("quoted lf", "\"A\nB\",x\nC\n", 3, &[(1, "\"A\nB\",x"), (3, "C")]),
    ("quoted crlf", "\"A\r\n\r\nB\",x\r\nC\r\n", 4, &[(1, "\"A\r\n\r\nB\",x"), (4, "C")]),
    ("quoted cr", "\"A\r\rB\"\rC\r", 4, &[(1, "\"A\r\rB\""), (4, "C")]),
    ("quote between cr and lf", "\"A\r\"\nB", 3, &[(1, "\"A\r\""), (3, "B")]),
    ("quoted delimiter", "A,\",\"\nB,\"\n\"\n", 3, &[(1, "A,\",\""), (2, "B,\"\n\"")]),
    ("doubled quotes", "\"A\"\"\nB\"\"\"\nC\n", 3, &[(1, "\"A\"\"\nB\"\"\""), (3, "C")]),
    ("a quoted quote is text", "\"\"\"\"\nA\n", 2, &[(1, "\"\"\"\""), (2, "A")]),
    ("quote inside an unquoted cell", "A\"B\nC,5\" x\nD\n", 3, &[(1, "A\"B"), (2, "C,5\" x"), (3, "D")]),
    ("blanks before a quote", "A, \"x\nB\" \n \t\"C\n\"\n", 4, &[(1, "A, \"x\nB\" "), (3, " \t\"C\n\"")]),
    ("text before a quote", "A,x \"y\nB\n", 2, &[(1, "A,x \"y"), (2, "B")]),
    ("a quote after a closing quote and blanks", "\"A\" \"\nB\n", 2, &[(1, "\"A\" \""), (2, "B")]),
    ("text after a closing quote", "\"A\"B\"\nC\n", 2, &[(1, "\"A\"B\""), (2, "C")]),
    ("quote after a closing quote and text", "\"A\"x,\"\n\"\nC", 3, &[(1, "\"A\"x,\"\n\""), (3, "C")]),
    ("blank lines", "\n\nA\n\n \t\nB\n\n", 7, &[(3, "A"), (6, "B")]),
    ("blank lines with crlf", "\r\nA\r\n\r\n  \r\nB\r\n\r\n", 6, &[(2, "A"), (5, "B")]),
    ("blank lines with cr", "\r\rA\r\rB", 5, &[(3, "A"), (5, "B")]),
    ("blank last line without a break", "A\n  ", 2, &[(1, "A")]),
    ("nothing but delimiters is a blank line", "A\n,\n , ,\t\nB", 4, &[(1, "A"), (4, "B")]),
    ("nothing but empty quotes is a blank line", "A\n\" \"\n\"\",\"\n\"\nB", 5, &[(1, "A"), (5, "B")]),
    ("a quoted delimiter is text", "A\n\",\"\n", 2, &[(1, "A"), (2, "\",\"")]),
    ("wide characters", "é,日本\n\"ß\n𝄞\"\n", 3, &[(1, "é,日本"), (2, "\"ß\n𝄞\"")]),
];

#[test]
fn records_stand_on_their_physical_lines() {
    for &(name, file, lines, expected) in HEADERLESS {
        for limits in [Limits::default(), one_record_a_part()] {
            let cut = cut_every_way(file.as_bytes(), limits, &explicit_options())
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let found = records_of(&cut);
            let found: Vec<_> = found.iter().map(|(line, raw)| (*line, raw.as_str())).collect();
            assert_eq!(found, expected, "{name}");
            assert_eq!(cut.summary.lines, lines, "{name}");
            assert_eq!(cut.summary.bytes, file.len() as u64, "{name}");
            assert_eq!(cut.summary.columns, Columns::default(), "{name}");
        }
    }
}

#[test]
fn a_quote_opens_only_after_the_delimiter_in_use() {
    let explicit_options = ReadOptions { delimiter: Some(Delimiter::Semicolon), ..explicit_options() };
    let cut = cut_every_way(b"A;x\nB;1,\"2\nC;\"3\n4\"\n", one_record_a_part(), &explicit_options).unwrap();
    let expected = [(1, "A;x"), (2, "B;1,\"2"), (3, "C;\"3\n4\"")].map(|(line, raw)| (line, raw.to_owned()));
    assert_eq!(records_of(&cut), expected);
}

#[test]
fn faults_name_the_line_they_are_on() {
    let not_utf8 = |line, byte, value| CutError::NotUtf8 { line, byte, value };
    let empty = CutError::Empty { has_header: false };
    let cases: &[(&[u8], CutError)] = &[
        (b"", empty.clone()),
        (b"\xEF\xBB\xBF", empty.clone()),
        (b"\n\r\n \t\r  ", empty.clone()),
        (b"sep=;\r\n", empty.clone()),
        (b";;\r\n\"\";\r\n", empty),
        (b"code", CutError::Empty { has_header: true }),
        (b"code,userId\r\n\r\n \r\n,\r\n", CutError::Empty { has_header: true }),
        (b"sep=:\ncode:user\nABC1:ana", CutError::UnknownDelimiter { named: ':' }),
        (b"\xFF\xFEA\0\n\0", CutError::Utf16),
        (b"\xFE\xFF\0A\0\n", CutError::Utf16),
        (b"\xFE\xFF", CutError::Utf16),
        (b"\xFF", not_utf8(1, 1, 0xFF)),
        (b"\xEF\xBB", not_utf8(1, 1, 0xEF)),
        (b"\xEF\xBBA", not_utf8(1, 1, 0xEF)),
        (b"A\nB\xFF\n", not_utf8(2, 2, 0xFF)),
        (b"A\r\xFF", not_utf8(2, 1, 0xFF)),
        (b"A\r\n\xE6\x97\n", not_utf8(2, 1, 0xE6)),
        (b"A\n\"x\r\n\xF0\x9D\x84", not_utf8(3, 1, 0xF0)),
        (b"A\n\xED\xA0\x80", not_utf8(2, 1, 0xED)),
        (b"\n \n  \xC0\x80", not_utf8(3, 3, 0xC0)),
        (b"A\nB\0\n\xFF", CutError::ZeroByte { line: 2 }),
        (b"A\0\n\0", CutError::ZeroByte { line: 1 }),
        (b"A\n\xC3\xA9\xFF\0", not_utf8(2, 3, 0xFF)),
        (b"\"A", CutError::UnclosedQuote { line: 1 }),
        (b"A\n\nB, \"x\ny\n", CutError::UnclosedQuote { line: 3 }),
        (b"A\r\n\"x\"\"\r\n", CutError::UnclosedQuote { line: 2 }),
        (b"code\n\"", CutError::UnclosedQuote { line: 2 }),
    ];
    for (file, expected) in cases {
        let error = cut_every_way(file, Limits::default(), &ReadOptions::default()).unwrap_err();
        assert_eq!(&error, expected, "{}", file.escape_ascii());
    }
}
