//! What each kind of file becomes: its records with their lines, its columns, its faults.

use super::super::{Columns, CutError, Delimiter, Limits, MetadataColumn};
use super::{cut_every_way, one_record_a_part, records_of};

/// A name, a file, its physical lines, its records and the lines they start on.
type Case = (&'static str, &'static str, u64, &'static [(u64, &'static str)]);

const HEADERLESS: &[Case] = &[
    ("lf", "A\nB\nC\n", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("crlf", "A\r\nB\r\nC\r\n", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("lone cr", "A\rB\rC\r", 3, &[(1, "A"), (2, "B"), (3, "C")]),
    ("mixed breaks", "A\rB\nC\r\nD", 4, &[(1, "A"), (2, "B"), (3, "C"), (4, "D")]),
    ("lf cr is two breaks", "A\n\rB", 3, &[(1, "A"), (3, "B")]),
    ("no break at the end", "A\nB", 2, &[(1, "A"), (2, "B")]),
    ("byte order mark", "\u{feff}A\nB\n", 2, &[(1, "A"), (2, "B")]),
    (
        "only the first mark is one",
        "\u{feff}\u{feff}A\n\u{feff}B\n",
        2,
        &[(1, "\u{feff}A"), (2, "\u{feff}B")],
    ),
    ("mark, then a quote", "\u{feff}\"A\nB\"\nC", 3, &[(1, "\"A\nB\""), (3, "C")]),
    ("short of a mark", "A", 1, &[(1, "A")]),
    ("quoted lf", "\"A\nB\",x\nC\n", 3, &[(1, "\"A\nB\",x"), (3, "C")]),
    ("quoted crlf", "\"A\r\n\r\nB\",x\r\nC\r\n", 4, &[(1, "\"A\r\n\r\nB\",x"), (4, "C")]),
    ("quoted cr", "\"A\r\rB\"\rC\r", 4, &[(1, "\"A\r\rB\""), (4, "C")]),
    ("quote between cr and lf", "\"A\r\"\nB", 3, &[(1, "\"A\r\""), (3, "B")]),
    ("quoted delimiter", "A,\",\"\nB,\"\n\"\n", 3, &[(1, "A,\",\""), (2, "B,\"\n\"")]),
    ("doubled quotes", "\"A\"\"\nB\"\"\"\nC\n", 3, &[(1, "\"A\"\"\nB\"\"\""), (3, "C")]),
    ("empty quotes", "\"\"\n\"\",\"\"\nA\n", 3, &[(1, "\"\""), (2, "\"\",\"\""), (3, "A")]),
    ("quote inside an unquoted cell", "A\"B\nC,5\" x\nD\n", 3, &[(1, "A\"B"), (2, "C,5\" x"), (3, "D")]),
    ("space before a quote", "A, \"x\nB\n", 2, &[(1, "A, \"x"), (2, "B")]),
    ("text after a closing quote", "\"A\"B\"\nC\n", 2, &[(1, "\"A\"B\""), (2, "C")]),
    ("quote after a closing quote and text", "\"A\"x,\"\n\"\nC", 3, &[(1, "\"A\"x,\"\n\""), (3, "C")]),
    ("blank lines", "\n\nA\n\n \t\nB\n\n", 7, &[(3, "A"), (6, "B")]),
    ("blank lines with crlf", "\r\nA\r\n\r\n  \r\nB\r\n\r\n", 6, &[(2, "A"), (5, "B")]),
    ("blank lines with cr", "\r\rA\r\rB", 5, &[(3, "A"), (5, "B")]),
    ("blank last line without a break", "A\n  ", 2, &[(1, "A")]),
    ("a delimiter makes it a record", "A\n,\n ,\n", 3, &[(1, "A"), (2, ","), (3, " ,")]),
    ("quotes make it a record", "A\n\" \"\n", 2, &[(1, "A"), (2, "\" \"")]),
    ("wide characters", "é,日本\n\"ß\n𝄞\"\n", 3, &[(1, "é,日本"), (2, "\"ß\n𝄞\"")]),
];

#[test]
fn records_stand_on_their_physical_lines() {
    for &(name, file, lines, expected) in HEADERLESS {
        for limits in [Limits::default(), one_record_a_part()] {
            let cut =
                cut_every_way(file.as_bytes(), limits).unwrap_or_else(|error| panic!("{name}: {error}"));
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
fn the_delimiter_is_the_commoner_one_of_the_first_record() {
    let cases = [
        ("A;x\nB,,,\n", Delimiter::Semicolon),
        ("A,x\nB;;;\n", Delimiter::Comma),
        ("A,x;y\n", Delimiter::Comma),
        ("A;x,y;z\n", Delimiter::Semicolon),
        ("A\nB;x;y\n", Delimiter::Comma),
        ("\n  \nA;x\n", Delimiter::Semicolon),
        ("A;\",,,\"\n", Delimiter::Semicolon),
        ("A;\",\n,\"\"\";x\n", Delimiter::Semicolon),
        ("A,\";;;\"\n", Delimiter::Comma),
        ("A\r,;;\n", Delimiter::Comma),
        ("A;x", Delimiter::Semicolon),
    ];
    for (file, expected) in cases {
        let cut = cut_every_way(file.as_bytes(), Limits::default()).unwrap();
        assert_eq!(cut.summary.delimiter, expected, "{file:?}");
    }
}

#[test]
fn a_quote_opens_only_after_the_delimiter_in_use() {
    let cut = cut_every_way(b"A;x\nB;1,\"2\nC;\"3\n4\"\n", one_record_a_part()).unwrap();
    let expected = [(1, "A;x"), (2, "B;1,\"2"), (3, "C;\"3\n4\"")].map(|(line, raw)| (line, raw.to_owned()));
    assert_eq!(records_of(&cut), expected);
    // Told apart with a quote after either; then read with one.
    let cut = cut_every_way(b"A,b,c;\"x\nB,y,z;\"\n", one_record_a_part()).unwrap();
    let expected = [(1, "A,b,c;\"x"), (2, "B,y,z;\"")].map(|(line, raw)| (line, raw.to_owned()));
    assert_eq!(records_of(&cut), expected);
}

#[test]
fn a_header_has_a_cell_that_says_code() {
    let metadata = |index, name: &str| MetadataColumn { index, name: name.to_owned() };
    let first = Columns { code: 0, ..Columns::default() };
    let cases = [
        ("code\nA\n", first.clone()),
        ("\u{feff}code\nA\n", first.clone()),
        ("  CoDe \nA\n", first.clone()),
        ("\"code\"\r\nA\r\n", first.clone()),
        ("\u{feff}\"CODE\"\rA\r", first.clone()),
        ("\n\ncode\n\nA", first),
        ("userId,code\nu,A\n", Columns { code: 1, user_id: Some(0), metadata: vec![] }),
        ("USER_ID;Code\nu;A\n", Columns { code: 1, user_id: Some(0), metadata: vec![] }),
        (
            "Name , code,,user_id,code,userid,Name,name\nn,A\n",
            Columns { code: 1, user_id: Some(3), metadata: vec![metadata(0, "Name"), metadata(7, "name")] },
        ),
        (
            "\"two\nlines\",code\n,A\n",
            Columns { code: 1, user_id: None, metadata: vec![metadata(0, "two\nlines")] },
        ),
    ];
    for (file, expected) in cases {
        let cut = cut_every_way(file.as_bytes(), Limits::default()).unwrap();
        assert_eq!(cut.summary.columns, expected, "{file:?}");
        let found = records_of(&cut);
        assert_eq!(found.len(), 1, "{file:?}");
        assert!(found[0].1.contains('A'), "{file:?}");
        assert_eq!(found[0].0, cut.summary.lines, "{file:?}");
    }
}

#[test]
fn a_header_alone_is_a_file_without_records() {
    for file in ["code", "code\n", "\u{feff}code,userId\r\n\r\n \r\n"] {
        let cut = cut_every_way(file.as_bytes(), Limits::default()).unwrap();
        assert_eq!((cut.parts.len(), cut.summary.records), (0, 0), "{file:?}");
    }
}

#[test]
fn faults_name_the_line_they_are_on() {
    let not_utf8 = |line| CutError::NotUtf8 { line };
    let cases: &[(&[u8], CutError)] = &[
        (b"", CutError::Empty),
        (b"\xEF\xBB\xBF", CutError::Empty),
        (b"\n\r\n \t\r  ", CutError::Empty),
        (b"\xFF\xFEA\0\n\0", CutError::Utf16),
        (b"\xFE\xFF\0A\0\n", CutError::Utf16),
        (b"\xFE\xFF", CutError::Utf16),
        (b"\xFF", not_utf8(1)),
        (b"\xEF\xBB", not_utf8(1)),
        (b"\xEF\xBBA", not_utf8(1)),
        (b"A\nB\xFF\n", not_utf8(2)),
        (b"A\r\xFF", not_utf8(2)),
        (b"A\r\n\xE6\x97\n", not_utf8(2)),
        (b"A\n\"x\r\n\xF0\x9D\x84", not_utf8(3)),
        (b"A\n\xED\xA0\x80", not_utf8(2)),
        (b"\n \n\xC0\x80", not_utf8(3)),
        (b"A\nB\0\n\xFF", CutError::ZeroByte { line: 2 }),
        (b"A\0\n\0", CutError::ZeroByte { line: 1 }),
        (b"A\n\xFF\0", not_utf8(2)),
        (b"\"A", CutError::UnclosedQuote { line: 1 }),
        (b"A\n\nB,\"x\ny\n", CutError::UnclosedQuote { line: 3 }),
        (b"A\r\n\"x\"\"\r\n", CutError::UnclosedQuote { line: 2 }),
        (b"code\n\"", CutError::UnclosedQuote { line: 2 }),
    ];
    for (file, expected) in cases {
        let error = cut_every_way(file, Limits::default()).unwrap_err();
        assert_eq!(&error, expected, "{}", file.escape_ascii());
    }
}
