//! Checks every answer in the API's tests against the OpenAPI document: an undocumented status, code, header or field
//! fails the test.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// The OpenAPI document.
pub(crate) fn document() -> Value {
    serde_json::from_str(&cuponera_api::openapi_document()).expect("the document is JSON")
}

/// All operations of the document, with path and method.
pub(crate) fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().expect("the document has paths");
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("a path has methods");
        methods.iter().map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// The target of a `$ref`, or the value itself.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(path) => document
            .pointer(path.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("unknown reference {path}")),
        None => value,
    }
}

/// A validator for a schema of the document.
pub(crate) fn validator(document: &Value, schema: &Value) -> Validator {
    let whole = json!({"allOf": [schema], "components": document["components"]});
    let made = jsonschema::draft202012::options().should_validate_formats(true).build(&whole);
    made.unwrap_or_else(|error| panic!("{schema} is not a JSON schema: {error}"))
}

/// Fails unless the document has this answer. Ignores paths and methods that the document does not have.
pub(crate) fn assert_documented(method: &str, path: &str, status: u16, headers: &HeaderMap, text: &str) {
    let Some((template, operation)) = operation_of(&DOCUMENT, &method.to_lowercase(), path) else { return };
    let place = format!("{method} {template} {status}");
    let Some(response) = operation["responses"].get(status.to_string()) else {
        panic!("{place} is not in the OpenAPI document: {text}");
    };
    let response = resolved(&DOCUMENT, response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let is_there = headers.contains_key(name.as_str());
        assert!(is_there || resolved(&DOCUMENT, header)["required"] != true, "{place} has no {name}");
    }
    assert_body(&place, response, headers, text);
}

fn assert_body(place: &str, response: &Value, headers: &HeaderMap, text: &str) {
    let media = headers.get("content-type").and_then(|media| media.to_str().ok()).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default();
    let content = response["content"].as_object();
    let of_media = |(name, _): &(&String, &Value)| name.split(';').next() == Some(media);
    match content.and_then(|content| content.iter().find(of_media)) {
        Some((name, described)) if name.ends_with("json") => {
            let body: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}"));
            let faults: Vec<_> = validator_of(place, &described["schema"])
                .iter_errors(&body)
                .map(|fault| format!("{} {fault}", fault.instance_path()))
                .collect();
            assert!(faults.is_empty(), "the answer of {place} violates its schema: {faults:?}\n{body}");
        }
        Some(_) => {}
        None => {
            assert!(content.is_none() && text.is_empty(), "{place} does not document {media:?}: {text}");
        }
    }
}

fn validator_of(place: &str, schema: &Value) -> Arc<Validator> {
    static MADE: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let known = MADE.lock().expect("the mutex is not poisoned").get(place).cloned();
    known.unwrap_or_else(|| {
        let made = Arc::new(validator(&DOCUMENT, schema));
        MADE.lock().expect("the mutex is not poisoned").insert(place.to_owned(), made.clone());
        made
    })
}

/// The operation of a path. Literal segments of a template take precedence over parameters.
fn operation_of<'a>(document: &'a Value, method: &str, path: &str) -> Option<(&'a str, &'a Value)> {
    let said: Vec<_> = path.split('/').collect();
    let fits = |template: &str| {
        let parts: Vec<_> = template.split('/').collect();
        parts.len() == said.len()
            && parts.iter().zip(&said).all(|(part, said)| part.starts_with('{') || part == said)
    };
    operations(document)
        .filter(|(template, of_method, _)| *of_method == method && fits(template))
        .min_by_key(|(template, ..)| template.matches('{').count())
        .map(|(template, _, operation)| (template, operation))
}
