//! Tests of parsed rows, and of stored columns.

use super::super::{Columns, CutError, Delimiter, Limits, ReadOptions, Record, RowError, RowParser};
use super::cut_whole;

/// The columns of a file with this header.
fn columns(header: &str) -> Columns {
    let options =
        ReadOptions { delimiter: Some(Delimiter::Comma), header: Some(true), ..ReadOptions::default() };
    cut_whole(format!("{header}\nA").as_bytes(), Limits::default(), &options).unwrap().summary.columns
}

/// Code, user and metadata of a record.
fn row(columns: &Columns, delimiter: Delimiter, raw: &str) -> (String, Option<String>, Option<String>) {
    let mut parser = RowParser::new(columns, delimiter);
    let row = parser.parse(&Record { line: 1, raw });
    (row.code.to_owned(), row.user.map(str::to_owned), row.metadata.map(str::to_owned))
}

#[test]
fn a_row_has_what_its_columns_say() {
    let columns = columns("userId,code,shop,\"note \"\"x\"\"\"");
    let cases: [(&str, &str, Option<&str>, Option<&str>); 12] = [
        ("u,A,s,n", "A", Some("u"), Some(r#"{"shop":"s","note \"x\"":"n"}"#)),
        (" u , a ,,", "a", Some("u"), None),
        (",A, ,n", "A", None, Some(r#"{"note \"x\"":"n"}"#)),
        ("\"\",\"A\",\" s \",", "A", None, Some(r#"{"shop":" s "}"#)),
        ("u", "", Some("u"), None),
        ("", "", None, None),
        ("u,A,s,n,more,and more", "A", Some("u"), Some(r#"{"shop":"s","note \"x\"":"n"}"#)),
        ("u,\"A\"\"B\",\"x\r\ny\",\t", "A\"B", Some("u"), Some(r#"{"shop":"x\r\ny"}"#)),
        ("\u{feff}u,\u{feff}A,日本", "\u{feff}A", Some("u"), Some(r#"{"shop":"日本"}"#)),
        ("'+34,'-A1,'=1+1,'x", "-A1", Some("+34"), Some(r#"{"shop":"=1+1","note \"x\"":"'x"}"#)),
        (" \"u\", \"A\",\t\"s, t\"", "A", Some("u"), Some(r#"{"shop":"s, t"}"#)),
        ("u,\"A\"b,s", "Ab", Some("u"), Some(r#"{"shop":"s"}"#)),
    ];
    for (raw, code, user, metadata) in cases {
        let expected = (code.to_owned(), user.map(str::to_owned), metadata.map(str::to_owned));
        assert_eq!(row(&columns, Delimiter::Comma, raw), expected, "{raw:?}");
    }
}

#[test]
fn a_semicolon_parts_cells_where_it_is_the_delimiter() {
    assert_eq!(row(&Columns::default(), Delimiter::Semicolon, "A,1;x"), ("A,1".to_owned(), None, None));
}

#[test]
fn nothing_of_a_broken_record_reaches_the_next() {
    let mut parser = RowParser::new(&columns("code,userId,shop"), Delimiter::Comma);
    for broken in ["\"A,u,s", "A,\"u", "A\nB,u\n", "\n", "\r\nA\"", "A,u,s,"] {
        parser.parse(&Record { line: 1, raw: broken });
        let row = parser.parse(&Record { line: 2, raw: "B,v" });
        assert_eq!((row.code, row.user, row.metadata), ("B", Some("v"), None), "after {broken:?}");
    }
}

#[test]
fn a_row_may_have_very_many_cells() {
    let names: Vec<_> = (0..5000).map(|number| format!("n{number}")).collect();
    let columns = columns(&format!("{},code", names.join(",")));
    let (code, _, metadata) = row(&columns, Delimiter::Comma, &format!("{},A", names.join(",")));
    let metadata: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&metadata.unwrap()).unwrap();
    assert_eq!((code.as_str(), metadata.len()), ("A", 5000));
    assert!(metadata.iter().all(|(name, value)| name == value));
}

#[test]
fn columns_come_back_from_json() {
    let all = columns("code,shop,user_id");
    let json = serde_json::to_string(&all).unwrap();
    assert_eq!(
        json,
        r#"{"code":0,"userId":2,"metadata":[{"index":1,"name":"shop"}],"header":["code","shop","userid"]}"#
    );
    assert_eq!(serde_json::from_str::<Columns>(&json).unwrap(), all);
    // As stored by earlier versions.
    let old = serde_json::from_str::<Columns>(r#"{"code":0,"userId":2}"#).unwrap();
    assert_eq!(old, Columns { user_id: Some(2), ..Columns::default() });
    assert_eq!(serde_json::to_string(&Columns::default()).unwrap(), r#"{"code":0}"#);
    assert_eq!(serde_json::from_str::<Columns>(r#"{"code":0}"#).unwrap(), Columns::default());
    assert_eq!(serde_json::to_string(&Delimiter::Semicolon).unwrap(), "\";\"");
}

#[test]
fn errors_say_where_and_what_to_do() {
    let cases = [
        (CutError::NotUtf8 { line: 7, byte: 3, value: 0xF3 }, "not_utf8", Some(7)),
        (CutError::Utf16, "not_utf8", Some(1)),
        (CutError::ZeroByte { line: 7 }, "not_utf8", Some(7)),
        (CutError::Empty { has_header: true }, "empty_file", None),
        (CutError::UnknownDelimiter { named: ':' }, "unknown_delimiter", Some(1)),
        (
            CutError::UnclearHeader { line: 7, why: "it may be a row".into(), first_record: vec![] },
            "unclear_header",
            Some(7),
        ),
        (CutError::RecordTooLong { line: 7, inside_quotes: true }, "record_too_long", Some(7)),
        (CutError::UnclosedQuote { line: 7 }, "unclosed_quote", Some(7)),
    ];
    for (error, code, line) in cases {
        assert_eq!((error.code(), error.line()), (code, line));
        assert_eq!(error.to_string().contains("line 7"), line == Some(7), "{error}");
    }
    assert!(CutError::Utf16.to_string().contains("UTF-16"));
    let not_utf8 = CutError::NotUtf8 { line: 7, byte: 3, value: 0xF3 }.to_string();
    assert!(
        ["byte 3", "0xF3", "Excel", "LibreOffice"].iter().all(|said| not_utf8.contains(said)),
        "{not_utf8}"
    );
}

#[test]
fn a_record_that_does_not_suit_the_header_says_why() {
    let columns = columns("userId,code,,nota");
    let too_many = Some(RowError::TooManyCells { cells: 5, columns: 4 });
    let repeated = Some(RowError::RepeatedHeader);
    let cases = [
        ("u,A1B", None),
        ("u,A1B,,n,, ,\"\"", None),
        ("u,A1B,,n,x", too_many),
        (",A1B,,,x", too_many),
        ("userId,code,,nota", repeated),
        ("USER_ID, Código ,x", repeated),
        ("\u{feff}User-Id,CODE", repeated),
        ("code,userId", repeated),
        ("código,usuario,", repeated),
        (",code", repeated),
        // The header of a second file.
        ("u,code", repeated),
        ("importe,vale,,7", repeated),
        ("User ID,Serial", repeated),
        ("\u{feff}\"userId\",code", repeated),
        ("usuario,A1B", None),
        ("code,A1B", None),
        (",", None),
    ];
    for (raw, fault) in cases {
        let mut parser = RowParser::new(&columns, Delimiter::Comma);
        assert_eq!(parser.parse(&Record { line: 2, raw }).fault, fault, "{raw:?}");
    }
    // A column without a name can be selected by number for codes or users.
    let nameless = Columns { user_id: Some(2), ..columns.clone() };
    let mut parser = RowParser::new(&nameless, Delimiter::Comma);
    assert_eq!(parser.parse(&Record { line: 2, raw: "u,A1B,,x" }).fault, None);
    let mut parser =
        RowParser::new(&Columns { creates_nothing: true, ..Columns::default() }, Delimiter::Comma);
    assert_eq!(parser.parse(&Record { line: 1, raw: "A1B" }).fault, Some(RowError::NoCodeAtStart));
    let mut parser = RowParser::new(&Columns::default(), Delimiter::Comma);
    assert_eq!(parser.parse(&Record { line: 1, raw: "code,userId,x" }).fault, None);
    // Beyond the records that detection examined.
    let detected = Columns { refuses_names: true, ..Columns::default() };
    let mut parser = RowParser::new(&detected, Delimiter::Comma);
    assert_eq!(parser.parse(&Record { line: 900, raw: "Código,x" }).fault, repeated);
    assert_eq!(parser.parse(&Record { line: 901, raw: "A1B,code" }).fault, None);
}
