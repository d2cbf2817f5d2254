//! Tests of detection: the delimiter, the header and the meaning of the columns, detected or set by the
//! uploader.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::layout::names::{fold, is_code_name};
use super::super::{
    ColumnLabel, Cut, CutError, Delimiter, Limits, MetadataColumn, ReadOptions, RowParser, records,
};
use super::{config, cut_every_way, cut_whole};
use crate::coupon::code::Code;

/// A file, its delimiter, its columns of codes and users, the number of lines above its rows, and the
/// imported codes.
type Case = (&'static str, char, &'static str, Option<&'static str>, u64, &'static str);

/// The codes and users that an import of the file would take, in order.
fn taken(cut: &Cut) -> Vec<(String, Option<String>)> {
    let mut parser = RowParser::new(&cut.summary.columns, cut.summary.delimiter);
    let mut all = Vec::new();
    for part in &cut.parts {
        let text = str::from_utf8(&part.bytes).unwrap();
        for record in records(text, cut.summary.delimiter, part.first_line) {
            let row = parser.parse(&record);
            if let (Ok(code), None) = (Code::parse(row.code), row.fault) {
                all.push((code.into_string(), row.user.map(str::to_owned)));
            }
        }
    }
    all
}

fn cut(file: &str, options: &ReadOptions) -> Result<Cut, CutError> {
    cut_every_way(file.as_bytes(), Limits::default(), options)
}

/// How a file is read without options: delimiter, column of codes and of users, skipped lines, codes.
fn read(file: &str) -> (char, String, Option<String>, u64, String) {
    let cut = cut(file, &ReadOptions::default()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let codes: Vec<String> = taken(&cut)
        .into_iter()
        .map(|(code, user)| format!("{code}{}", user.map_or_else(String::new, |user| format!("={user}"))))
        .collect();
    let read_as = cut.summary.read_as;
    let label = |label: &ColumnLabel| serde_json::to_value(label).unwrap().to_string();
    (
        char::from(read_as.delimiter.byte()),
        label(&read_as.code_column),
        read_as.user_column.as_ref().map(label),
        read_as.skipped_lines,
        codes.join(" "),
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn files_are_read_as_their_writers_meant_them() {
    let cases: &[Case] = &[
        // Files with a header.
        ("code\nA1B\n", ',', "\"code\"", None, 0, "A1B"),
        (
            "\u{feff}\u{feff}CÓDIGO;Usuario\r\nA1B;ana\r\n",
            ';',
            "\"CÓDIGO\"",
            Some("\"Usuario\""),
            0,
            "A1B=ana",
        ),
        ("shop,Coupon Code,couponCodeNote\nx,A1B,TYPE\n", ',', "\"Coupon Code\"", None, 0, "A1B"),
        ("couponCode\tTYPE\tFLAT\nA1B\tX1Y\tZ1Z\n", '\t', "\"couponCode\"", None, 0, "A1B"),
        ("#,code\n1,A1B\n", ',', "\"code\"", None, 0, "A1B"),
        (",code,userId\n0,A1B,ana\n1,A2B,\n", ',', "\"code\"", Some("\"userId\""), 0, "A1B=ana A2B"),
        ("cliente|clave\nana|A1B\n", '|', "\"clave\"", Some("\"cliente\""), 0, "A1B=ana"),
        ("\"VOUCHER\",\"HOLDER\"\n\"A1B\",\"ana\"\n", ',', "\"VOUCHER\"", Some("\"HOLDER\""), 0, "A1B=ana"),
        ("code;;\nA1B;;\n;;\n", ';', "\"code\"", None, 0, "A1B"),
        // The delimiter that yields codes is selected.
        ("code,nota; observaciones; más\nA1B,x\n", ',', "\"code\"", None, 0, "A1B"),
        ("code;nombre,apellido,alias\nA1B;x\n", ';', "\"code\"", None, 0, "A1B"),
        ("code|name,code\nA1B|x\nA2B|y\n", '|', "\"code\"", None, 0, "A1B A2B"),
        ("A1B;12,50\nA2B;9,95\n", ';', "1", None, 0, "A1B A2B"),
        ("A1B|Pérez, Ana; x\nA2B|López, Juan\n", '|', "1", None, 0, "A1B A2B"),
        ("A1B\tx, y\nA2B\tz\n", '\t', "1", None, 0, "A1B A2B"),
        ("A1B,\"x;\n;y\"\nA2B,z\n", ',', "1", None, 0, "A1B A2B"),
        // Lines above the header.
        ("sep=;\r\ncode;userId\r\nA1B;ana\r\n", ';', "\"code\"", Some("\"userId\""), 1, "A1B=ana"),
        ("\u{feff}SEP=\t\n\u{feff}name,x\tcode\nx\tA1B\n", '\t', "\"code\"", None, 1, "A1B"),
        ("\"sep=,\"\nA1B,x;y\n", ',', "1", None, 1, "A1B"),
        ("sep=;;;\nA1B;x,y\n", ';', "1", None, 1, "A1B"),
        (
            "Campaña de verano 2027;;\r\n;;\r\ncode;userId;nota\r\nA1B;ana;x\r\n",
            ';',
            "\"code\"",
            Some("\"userId\""),
            2,
            "A1B=ana",
        ),
        (
            "Cupón\n\nExportado;2027-01-01\nCódigo;Cliente;Nota\nA1B;ana;x\n",
            ';',
            "\"Código\"",
            Some("\"Cliente\""),
            3,
            "A1B=ana",
        ),
        ("Verano27,,\ncode,a,b\nA1B,x,y\n", ',', "\"code\"", None, 1, "A1B"),
        ("\n\n  \ncode\nA1B\n", ',', "\"code\"", None, 3, "A1B"),
        ("# made by a program\ncode,note\nA1B,x\n", ',', "\"code\"", None, 1, "A1B"),
        ("# made by: a, b, c\nCODE,NOTA\nABCD,WXYZ\n", ',', "\"CODE\"", None, 1, "ABCD"),
        // Files without a header.
        ("A1B,valid\nA2B,valid\n", ',', "1", None, 0, "A1B A2B"),
        ("ABCD,valid\nWXYZ,valid\n", ',', "1", None, 0, "ABCD WXYZ"),
        ("AB-CD\nWX-YZ\n", ',', "1", None, 0, "AB-CD WX-YZ"),
        ("SUMMER27\nVIP1\nWIN9\n", ',', "1", None, 0, "SUMMER27 VIP1 WIN9"),
        ("# comment\n#\n\" a1b\"\n\" a2b\"\n", ',', "1", None, 0, "A1B A2B"),
        ("ONLY\n", ',', "1", None, 0, "ONLY"),
        // Without any code nothing is imported, and each row is rejected.
        ("=1+1\nno code\n", ',', "1", None, 0, ""),
        // A repeated header is not a row.
        (
            "code,userId\nA1B,ana\ncode,userId\nA2B,ben\n",
            ',',
            "\"code\"",
            Some("\"userId\""),
            0,
            "A1B=ana A2B=ben",
        ),
        // Quotes after blanks.
        (
            "code, city, userId\nA1B, \"Madrid, Spain\", ana\n",
            ',',
            "\"code\"",
            Some("\"userId\""),
            0,
            "A1B=ana",
        ),
        (
            "code,city,userId\nA1B,Madrid, Spain,ana\nA2B,x,ben\n",
            ',',
            "\"code\"",
            Some("\"userId\""),
            0,
            "A2B=ben",
        ),
    ];
    for &(file, delimiter, code, user, skipped, codes) in cases {
        let expected = (delimiter, code.to_owned(), user.map(str::to_owned), skipped, codes.to_owned());
        assert_eq!(read(file), expected, "{file:?}");
    }
}

#[test]
fn what_is_not_certain_is_refused_with_what_was_seen() {
    let cases: &[(&str, u64, &[&str])] = &[
        ("Type,Amount\nA1B,10\n", 1, &["Type", "Amount"]),
        ("NOMBRE;importe\nA1B;10\n", 1, &["NOMBRE", "importe"]),
        ("FLAT\nA1B\nA2B\n", 1, &["FLAT"]),
        ("Lista de cupones\nA1B\n", 1, &["Lista de cupones"]),
        ("userId,nota\nana,A1B\n", 1, &["userId", "nota"]),
        ("Serial1\nABC-1\nAB-12\n", 1, &["Serial1"]),
        ("KEY1;amount\nAB-12;10\nCD13;20\n", 1, &["KEY1", "amount"]),
        ("2027\nAB1\n", 1, &["2027"]),
        // A name in the column of codes, below a record that is not a title line.
        ("ABCD,x,y\nCODE,USER\nWXYZ,x\n", 2, &["CODE", "USER"]),
        ("ABCD\nWXYZ\nVALE\n", 3, &["VALE"]),
        ("COL1\nABC-1\nABC-2\nABC-3\n", 1, &["COL1"]),
        ("2027\n2028\nAB1\nABC2\n", 1, &["2027"]),
        (
            "Summer-27,nota\nSummer-27,Coupon Code\nQ70000\nSummer-27,Coupon Code",
            2,
            &["Summer-27", "Coupon Code"],
        ),
        ("VALID,nota\nTOTAL,Coupon Code\nVALID,Q70000", 2, &["TOTAL", "Coupon Code"]),
        ("TYPE,nota,nota\nnota,importe,Coupon Code\nTYPE,Q70000", 2, &["nota", "importe", "Coupon Code"]),
        ("2027\nSummer-27\n2027,nota,nota\nQ70000", 1, &["2027"]),
        ("code,voucher\nA1B,x\n", 1, &["code", "voucher"]),
        ("code,nota,NOTA\nA1B,x,y\n", 1, &["code", "nota", "NOTA"]),
        ("code,user,cliente\nA1B,x,y\n", 1, &["code", "user", "cliente"]),
        // The first lines look like codes, a later line like a header.
        ("A1B\nA2B\ncode,user\nA3B,ana\n", 1, &["A1B"]),
        ("A;B;C\ncode;user;nota\nA1B;ana;x\n", 2, &["code", "user", "nota"]),
    ];
    for &(file, line, seen) in cases {
        match cut(file, &ReadOptions::default()) {
            Err(CutError::UnclearHeader { line: at, first_record, .. }) => {
                assert_eq!(
                    (at, first_record.iter().map(String::as_str).collect::<Vec<_>>()),
                    (line, seen.to_vec()),
                    "{file:?}"
                );
            }
            other => panic!("{file:?}: {other:?}"),
        }
    }
}

#[test]
fn the_uploader_settles_what_the_file_leaves_open() {
    let name = |name: &str| Some(ColumnLabel::Name(name.to_owned()));
    let number = |number| Some(ColumnLabel::Number(number));
    let none = ReadOptions::default;
    let header = |header| ReadOptions { header: Some(header), ..none() };
    let cases: Vec<(&str, ReadOptions, &str)> = vec![
        ("FLAT\nA1B\n", header(true), "A1B"),
        ("# of 2027\nSerial\nA1B\n", header(true), "A1B"),
        ("FLAT\nA1B\n", header(false), "FLAT A1B"),
        ("code\nA1B\n", header(false), "CODE A1B"),
        ("code,user\nA1B,ana\n", header(false), "CODE A1B"),
        ("no code\nA1B\n", header(false), "A1B"),
        ("Type,Serial\nx,A1B\n", ReadOptions { code_column: name("SERIAL"), ..none() }, "A1B"),
        ("Lista\nType,Serial\nx,A1B\n", ReadOptions { code_column: name("serial"), ..none() }, "A1B"),
        ("Type,Serial\nx,A1B\n", ReadOptions { code_column: number(2), ..header(true) }, "A1B"),
        ("x,A1B\ny,A2B\n", ReadOptions { code_column: number(2), ..none() }, "A1B A2B"),
        (
            "ana,A1B\nben,A2B\n",
            ReadOptions { code_column: number(2), user_column: number(1), ..none() },
            "A1B=ana A2B=ben",
        ),
        ("code,voucher\nA1B,x1y\n", ReadOptions { code_column: name("voucher"), ..none() }, "X1Y"),
        ("code,user,cliente\nA1B,x,y\n", ReadOptions { user_column: name("Cliente"), ..none() }, "A1B=y"),
        ("code,who\nA1B,x\n", ReadOptions { user_column: number(2), ..none() }, "A1B=x"),
        ("A1B;x|y\n", ReadOptions { delimiter: Some(Delimiter::Pipe), ..header(false) }, ""),
        ("sep=;\nA1B,x;y\n", ReadOptions { delimiter: Some(Delimiter::Comma), ..none() }, "A1B"),
        ("A1B\nA2B\ncode,user\nA3B,ana\n", header(true), "A3B=ana"),
    ];
    for (file, options, expected) in cases {
        let cut = cut(file, &options).unwrap_or_else(|error| panic!("{file:?}: {error}"));
        let codes: Vec<String> = taken(&cut)
            .into_iter()
            .map(|(code, user)| user.map_or(code.clone(), |user| format!("{code}={user}")))
            .collect();
        assert_eq!(codes.join(" "), expected, "{file:?} with {options:?}");
    }
}

#[test]
fn parameters_that_do_not_suit_the_file_are_refused() {
    let name = |name: &str| Some(ColumnLabel::Name(name.to_owned()));
    let number = |number| Some(ColumnLabel::Number(number));
    let none = ReadOptions::default;
    let cases = [
        ("code,x\nA1B,y\n", ReadOptions { code_column: name("serial"), ..none() }, "codeColumn"),
        ("code,x\nA1B,y\n", ReadOptions { code_column: number(3), ..none() }, "codeColumn is 3"),
        ("code,x\nA1B,y\n", ReadOptions { user_column: name("who"), ..none() }, "userColumn"),
        ("code,x\nA1B,y\n", ReadOptions { user_column: number(1), ..none() }, "same column"),
        ("A1B,y\nA2B,z\n", ReadOptions { user_column: number(1), ..none() }, "same column"),
        ("A1B,y\nA2B,z\n", ReadOptions { code_column: number(3), ..none() }, "codeColumn is 3"),
        (
            "A1B,y\n",
            ReadOptions { code_column: name("x"), header: Some(false), ..none() },
            "must be the column's number",
        ),
        (
            "Type,Serial\nx,A1B\n",
            ReadOptions { header: Some(true), ..none() },
            "no known name for a column of codes",
        ),
    ];
    for (file, options, expected) in cases {
        let error = cut(file, &options).unwrap_err();
        assert_eq!(error.code(), "unclear_header", "{file:?} with {options:?}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_header_may_be_as_long_as_a_record() {
    let names: Vec<String> = (0..5000).map(|number| format!("name{number}")).collect();
    let padding = "x".repeat(64 * 1024 - names.join(",").len() - ",code,".len());
    let header = format!("{},code,{padding}", names.join(","));
    assert_eq!(header.len(), 64 * 1024);
    for title in ["", "Campaña de verano 2027\r\n"] {
        let file = format!("{title}{header}\r\n,{}A1B\r\n", ",".repeat(4999));
        let cut = cut_whole(file.as_bytes(), Limits::default(), &ReadOptions::default()).unwrap();
        assert_eq!(taken(&cut), [("A1B".to_owned(), None)]);
        assert_eq!(cut.summary.columns.metadata.len(), 5001);
    }
}

#[test]
fn the_names_of_metadata_are_the_headers() {
    let cut = cut(" Nota (es)\u{200b} ,code,,Año-2\nx,A1B,y,z\n", &ReadOptions::default()).unwrap();
    let column = |index, name: &str| MetadataColumn { index, name: name.to_owned() };
    assert_eq!(cut.summary.columns.metadata, [column(0, "Nota (es)"), column(3, "Año-2")]);
    assert_eq!(cut.summary.read_as.metadata_columns, ["Nota (es)", "Año-2"]);
    let json = serde_json::to_value(&cut.summary.read_as).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"encoding": "UTF-8", "delimiter": ",", "header": true, "codeColumn": "code",
            "userColumn": null, "metadataColumns": ["Nota (es)", "Año-2"], "skippedLines": 0})
    );
}

#[test]
fn names_far_longer_than_the_rows_make_smaller_parts() {
    let file = format!("code,{}\n{}", "n".repeat(60_000), "A1B,x\n".repeat(3000));
    let cut = cut_whole(file.as_bytes(), Limits::default(), &ReadOptions::default()).unwrap();
    assert_eq!(cut.parts.iter().map(|part| part.records).collect::<Vec<_>>(), [1118, 1118, 764]);
}

/// Words of headers, titles and notes, which may look like codes.
const WORDS: &[&str] = &[
    "TYPE",
    "FLAT",
    "NOMBRE",
    "ANA",
    "Spain",
    "Coupon Code",
    "couponCode",
    "Código",
    "user",
    "usuario",
    "nota",
    "2027",
    "VALID",
    "Summer-27",
    "code 2",
    "Col1",
    "importe",
    "",
    "x",
    "Campaña de verano",
    "TOTAL",
    "name",
    "serial_no",
    "valid",
];

/// A file whose codes, and nothing else, begin with `Q7`: its rows, under any header.
fn any_messy_file() -> impl Strategy<Value = String> {
    let delimiter = select(&[",", ";", "\t", "|"][..]);
    let titles = vec(vec(select(WORDS), 1..4), 0..3);
    let header = option::of(vec(select(WORDS), 1..6));
    let rows = vec((vec(select(WORDS), 0..5), 0..1000_u32), 1..8);
    (delimiter, titles, header, rows, 0..4_usize, any::<bool>()).prop_map(
        |(delimiter, titles, header, rows, at, comes_again)| {
            let is_known = |header: &String| header.split(delimiter).any(|name| is_code_name(&fold(name)));
            // Without a header the first column has the codes.
            let at = if header.is_some() { at } else { 0 };
            let mut lines: Vec<String> = titles.into_iter().map(|cells| cells.join(delimiter)).collect();
            let header = header.map(|cells| cells.join(delimiter));
            lines.extend(header.clone());
            for (mut cells, number) in rows {
                let code = format!("Q7{number:04}");
                cells.resize(cells.len().max(at), "x");
                if !header.as_ref().is_some_and(is_known) {
                    // Words of one length in the first column of a file without known names count as codes.
                    cells[..at].fill("x");
                }
                cells.insert(at, &code);
                lines.push(cells.join(delimiter));
            }
            // A repeated header is recognized only if it is known.
            lines.extend(header.filter(|header| comes_again && is_known(header)));
            lines.join("\n")
        },
    )
}

proptest! {
    #![proptest_config(config(4000))]

    /// Titles, any header or none, and the repeated header: if the file is accepted, either all codes are
    /// from the rows' column of codes, or a header names the column that was read.
    /// Invariant I-23.
    #[test]
    fn no_word_of_a_header_or_of_another_column_becomes_a_code(file in any_messy_file()) {
        let Ok(cut) = cut_whole(file.as_bytes(), Limits::default(), &ReadOptions::default()) else { return Ok(()) };
        let read_as = &cut.summary.read_as;
        let codes: BTreeSet<String> = taken(&cut).into_iter().map(|(code, _)| code).collect();
        let foreign: Vec<_> = codes.iter().filter(|code| !code.starts_with("Q7")).collect();
        // If a header names a column for codes, the words in it are the codes.
        let is_named = read_as.header && matches!(read_as.code_column, ColumnLabel::Name(_));
        if !is_named {
            prop_assert!(foreign.is_empty(), "{:?} of {:?}, read as {:?}", foreign, file, read_as);
        }
    }
}
