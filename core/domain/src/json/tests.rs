//! Tests which faults are found, under which path, and that the scan agrees with `serde_json` on any text.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

#[track_caller]
fn assert_faults(text: &str, expected: &[(&str, &str)]) {
    let found = faults(text, 100);
    let found: Vec<_> = found.iter().map(|fault| (fault.field.as_str(), fault.message.as_str())).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_name_given_twice_is_found_at_any_depth_and_however_it_is_written() {
    assert_faults(r#"{"a": 1, "a": 1}"#, &[("a", REPEATED)]);
    assert_faults(r#"{"a": {"b": [0, {"c": 1, "c": {}}]}}"#, &[("a.b.1.c", REPEATED)]);
    assert_faults(r#"{"\u0061": 1, "a": 2, "é": 1, "\u00e9": 2}"#, &[("a", REPEATED), ("é", REPEATED)]);
    assert_faults(r#"{"a": 1, "a": 2, "a": 3}"#, &[("a", REPEATED)]);
    assert_faults(r#"{"": 1, "": 2}"#, &[("", REPEATED)]);
    assert_faults(r#"{"a\"": 1, "a": 2, "a\\": 3, "A": 4}"#, &[]);
    assert_faults(r#"{"a": {"x": 1}, "b": {"x": 1}, "c": [{"x": 1}, {"x": 1}], "x": "x"}"#, &[]);
}

#[test]
fn numbers_that_would_be_rounded_are_found_at_any_depth() {
    assert_faults(r#"{"a": 0.1234567890123456789, "b": 1.10}"#, &[("a", ROUNDED)]);
    assert_faults(
        r#"{"a": [1, [2, 12345678901234567890123]], "b": 1e400}"#,
        &[("a.1.1", ROUNDED), ("b", ROUNDED)],
    );
    assert_faults("[1e2,5.0,-0,1e308,5e-324,18446744073709551615]", &[]);
    assert_faults(r#"{"a": "0.1234567890123456789"}"#, &[]);
}

#[test]
fn only_the_character_u_0000_is_found_and_not_the_text_that_names_it() {
    assert_faults(r#"{"a": "x\u0000", "b": {"k\u0000": 1}}"#, &[("a", ZERO), ("b.k\0", ZERO)]);
    assert_faults(r#"{"a": ["\\\u0000"]}"#, &[("a.0", ZERO)]);
    assert_faults(r#"{"a": "\\u0000", "\\u0000": "\\\\u0000", "b": "\u00000"}"#, &[("b", ZERO)]);
}

#[test]
fn the_scan_goes_as_deep_as_the_parser() {
    let nested = |depth: usize| format!("{}1e-999{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 126, 127] {
        assert!(serde_json::from_str::<Value>(&nested(depth)).is_ok(), "{depth}");
        assert_eq!(faults(&nested(depth), 100).len(), 1, "{depth}");
    }
    assert!(serde_json::from_str::<Value>(&nested(200)).is_err());
    assert_eq!(faults(&nested(200), 100), []);
}

#[test]
fn a_path_and_the_number_of_faults_are_bounded() {
    let (long, deep) = ("n".repeat(100_000), "[".repeat(100));
    let found = faults(&format!(r#"{{"{long}": {deep}1e999"#), 100);
    assert_eq!((found.len(), found[0].field.chars().count()), (1, MAX_PATH_CHARS + 1));
    let many = (0..200).map(|n| format!(r#""{n}":1e999"#)).collect::<Vec<_>>().join(",");
    assert_eq!(faults(&format!("{{{many}}}"), 100).len(), 100);
}

/// JSON text of a value, written in one of several ways.
fn text() -> impl Strategy<Value = String> {
    let string = || {
        vec(
            prop_oneof![
                "[ab]",
                Just(r"\\".to_owned()),
                Just(r#"\""#.to_owned()),
                Just(r"\u0061".to_owned()),
                Just(r"\u0000".to_owned()),
                Just("é".to_owned()),
                Just(r"\ud83d\ude00".to_owned())
            ],
            0..3,
        )
        .prop_map(|parts| format!("\"{}\"", parts.concat()))
    };
    let number = "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,20})?([eE][-+]?[0-9]{1,2})?";
    let leaf = prop_oneof![string(), number, Just("null".to_owned()), Just("true".to_owned())];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        let member = (string(), inner.clone()).prop_map(|(name, value)| format!("{name} : {value}"));
        prop_oneof![
            vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(" ,"))),
            vec(member, 0..6).prop_map(|members| format!("{{\n{}}}", members.join(","))),
        ]
    })
}

/// The same check on parsed values, which keep repeated names in order.
fn has_faults(value: &Members) -> bool {
    match value {
        Members::Object(members) => {
            let names: HashSet<_> = members.iter().map(|(name, _)| name).collect();
            names.len() < members.len()
                || members.iter().any(|(name, value)| name.contains('\0') || has_faults(value))
        }
        Members::Array(items) => items.iter().any(has_faults),
        Members::String(text) => text.contains('\0'),
        Members::Other => false,
    }
}

/// A JSON value that keeps repeated names.
enum Members {
    Object(Vec<(String, Members)>),
    Array(Vec<Members>),
    String(String),
    Other,
}

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> serde::de::Visitor<'de> for Reader {
    type Value = Members;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members::Object(members))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Members, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Members::Array(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Members, E> {
        Ok(Members::String(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Members, E> {
        Ok(Members::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Members, E> {
        Ok(Members::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Members, E> {
        Ok(Members::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Members, E> {
        Ok(Members::Other)
    }

    fn visit_unit<E>(self) -> Result<Members, E> {
        Ok(Members::Other)
    }
}

/// The value at a path.
fn at_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        Value::Object(members) => members.get(step),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scan_finds_repeats_and_zeros_exactly_where_a_parser_does(text in text()) {
        let members: Members = serde_json::from_str(&text).unwrap();
        let found = faults(&text, usize::MAX);
        prop_assert_eq!(found.iter().any(|fault| fault.message != ROUNDED), has_faults(&members), "{}", text);
    }

    #[test]
    fn what_serde_json_writes_has_no_faults_but_zeros(text in text()) {
        let written = serde_json::from_str::<Value>(&text).unwrap().to_string();
        let found = faults(&written, usize::MAX);
        prop_assert!(found.iter().all(|fault| fault.message == ZERO), "{found:?} in {written}");
    }

    #[test]
    fn a_path_leads_to_the_value_at_fault(text in text()) {
        let value: Value = serde_json::from_str(&text).unwrap();
        let found = faults(&text, usize::MAX);
        // The last value of a repeated name is kept, but the fault may be in another.
        let has_paths = value.is_object() && found.iter().all(|fault| fault.message != REPEATED);
        for fault in found.into_iter().filter(|_| has_paths) {
            let named = at_path(&value, &fault.field);
            let fits = if fault.message == ROUNDED { named.is_some_and(Value::is_number) } else { named.is_some() };
            prop_assert!(fits, "{} in {text}", fault.field);
        }
    }

    #[test]
    fn no_text_panics(text in r#"[-{}\[\]",:\\u0a1.eé ]{0,40}"#) {
        let _ = faults(&text, 100);
    }
}

#[test]
fn a_mebibyte_of_brackets_names_digits_or_faults_is_scanned_in_one_pass() {
    let names: Map<String, Value> = (0..60_000).map(|n| (format!("name{n}"), json!(1.5))).collect();
    for text in [
        "[".repeat(1 << 20),
        Value::Object(names).to_string(),
        format!("[{}]", "9".repeat(1 << 20)),
        format!("{{{}}}", r#""a":1e999,"#.repeat(1 << 17)),
    ] {
        assert!(faults(&text, 100).len() <= 2);
    }
}
