//! What a record says, and how columns are kept.

use super::super::{Columns, CutError, Delimiter, Record, RowParser};

fn columns(header: &str) -> Columns {
    Columns::from_header(header.split(',')).unwrap()
}

/// Code, user and metadata of one record.
fn row(columns: &Columns, delimiter: Delimiter, raw: &str) -> (String, Option<String>, Option<String>) {
    let mut parser = RowParser::new(columns, delimiter);
    let row = parser.parse(&Record { line: 1, raw });
    (row.code.to_owned(), row.user.map(str::to_owned), row.metadata.map(str::to_owned))
}

#[test]
fn a_row_has_what_its_columns_say() {
    let columns = columns("userId,code,shop,note \"x\"");
    let cases: [(&str, &str, Option<&str>, Option<&str>); 10] = [
        ("u,A,s,n", "A", Some("u"), Some(r#"{"shop":"s","note \"x\"":"n"}"#)),
        (" u , a ,,", " a ", Some("u"), None),
        (",A, ,n", "A", None, Some(r#"{"note \"x\"":"n"}"#)),
        ("\"\",\"A\",\" s \",", "A", None, Some(r#"{"shop":" s "}"#)),
        ("u", "", Some("u"), None),
        ("", "", None, None),
        ("u,A,s,n,more,and more", "A", Some("u"), Some(r#"{"shop":"s","note \"x\"":"n"}"#)),
        ("u,\"A\"\"B\",\"x\r\ny\",\t", "A\"B", Some("u"), Some(r#"{"shop":"x\r\ny"}"#)),
        ("\u{feff}u,\u{feff}A,日本", "\u{feff}A", Some("\u{feff}u"), Some(r#"{"shop":"日本"}"#)),
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
    assert_eq!(json, r#"{"code":0,"userId":2,"metadata":[{"index":1,"name":"shop"}]}"#);
    assert_eq!(serde_json::from_str::<Columns>(&json).unwrap(), all);
    assert_eq!(serde_json::to_string(&Columns::default()).unwrap(), r#"{"code":0}"#);
    assert_eq!(serde_json::from_str::<Columns>(r#"{"code":0}"#).unwrap(), Columns::default());
    assert_eq!(serde_json::to_string(&Delimiter::Semicolon).unwrap(), "\";\"");
}

#[test]
fn errors_say_where_and_what_to_do() {
    let cases = [
        (CutError::NotUtf8 { line: 7 }, "not_utf8", Some(7)),
        (CutError::Utf16, "not_utf8", Some(1)),
        (CutError::ZeroByte { line: 7 }, "not_utf8", Some(7)),
        (CutError::Empty, "empty_file", None),
        (CutError::RecordTooLong { line: 7, inside_quotes: true }, "record_too_long", Some(7)),
        (CutError::UnclosedQuote { line: 7 }, "unclosed_quote", Some(7)),
    ];
    for (error, code, line) in cases {
        assert_eq!((error.code(), error.line()), (code, line));
        assert_eq!(error.to_string().contains("line 7"), line == Some(7), "{error}");
    }
    assert!(CutError::Utf16.to_string().contains("UTF-16"));
}
