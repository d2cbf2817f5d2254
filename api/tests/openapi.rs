//! The OpenAPI document: current, served, complete, and valid by its own schemas. Every answer in the API's tests is
//! checked against it: see `support::contract`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Server, document, operations, resolved, validator};

#[test]
fn what_stands_in_docs_is_what_the_code_makes() {
    let made = [
        ("openapi.json", cuponera_api::openapi_document()),
        ("cuponera.http", cuponera_api::http_file()),
        ("errors.md", cuponera_api::error_page()),
    ];
    for (name, made) in made {
        let path = format!("{}/../docs/{name}", env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(written == made, "docs/{name} is not current: run `make openapi`");
    }
}

#[test]
fn the_tables_behind_the_document_fit_the_operations() {
    assert_eq!(cuponera_api::openapi_faults(), &[] as &[String]);
}

#[test]
fn every_operation_has_an_id_of_its_own_a_tag_and_a_summary() {
    let document = document();
    let tags = document["tags"].as_array().expect("tags");
    for tag in tags {
        assert!(tag["description"].as_str().is_some_and(|text| !text.is_empty()), "{tag}");
    }
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        for field in ["operationId", "summary"] {
            let text = operation[field].as_str().unwrap_or_default();
            assert!(!text.is_empty(), "{method} {path} has no {field}");
        }
        let is_tagged = tags.iter().any(|tag| operation["tags"] == json!([tag["name"]]));
        assert!(is_tagged, "{method} {path} does not have exactly one known tag");
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{method} {path} has the id of another operation"
        );
    }
}

#[test]
fn every_operation_that_needs_credentials_says_so() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let is_open =
            path.starts_with("/health") || path.ends_with("/auth/login") || path.ends_with("/auth/refresh");
        let ways =
            operation["security"].as_array().unwrap_or_else(|| panic!("{method} {path} has no security"));
        assert_eq!(ways.is_empty(), is_open, "{method} {path}");
    }
}

#[test]
fn every_body_and_answer_has_an_example_that_its_schema_allows() {
    let document = document();
    let mut seen = 0;
    for (path, method, operation) in operations(&document) {
        let mut all = vec![("its body".to_owned(), &operation["requestBody"])];
        for (status, response) in operation["responses"].as_object().expect("an operation has responses") {
            all.push((status.clone(), resolved(&document, response)));
        }
        for (what, of) in all {
            for (media, described) in of["content"].as_object().into_iter().flatten() {
                seen += assert_examples(&document, &format!("{method} {path}, {what} as {media}"), described);
            }
        }
    }
    assert!(seen > 300, "only {seen} examples were tested");
}

/// Validates the examples; returns their number.
fn assert_examples(document: &Value, place: &str, described: &Value) -> usize {
    let several = described["examples"].as_object().into_iter().flat_map(serde_json::Map::values);
    let mut examples: Vec<_> = several.map(|example| &resolved(document, example)["value"]).collect();
    examples.extend(described.get("example"));
    assert!(!examples.is_empty(), "{place} has no example");
    let validator = validator(document, &described["schema"]);
    for example in &examples {
        let faults: Vec<_> = validator.iter_errors(example).map(|fault| fault.to_string()).collect();
        assert!(faults.is_empty(), "the example of {place} breaks its schema: {faults:?}\n{example}");
    }
    examples.len()
}

#[test]
fn every_example_of_a_parameter_is_one_that_its_schema_allows() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let (name, example) = (&parameter["name"], parameter.get("example"));
            assert!(parameter["in"] != "path" || example.is_some(), "{method} {path}: {name} has no example");
            assert!(parameter["description"].is_string(), "{method} {path}: {name} has no description");
            let validator = validator(&document, &parameter["schema"]);
            assert!(example.is_none_or(|example| validator.is_valid(example)), "{method} {path}: {name}");
        }
    }
}

#[test]
fn every_problem_says_which_codes_it_may_have_and_every_answer_has_the_request_s_id() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("an operation has responses") {
            let (place, response) = (format!("{method} {path} {status}"), resolved(&document, response));
            assert!(response["headers"].get("X-Request-Id").is_some(), "{place}");
            assert!(!response["description"].as_str().unwrap_or_default().is_empty(), "{place}");
            let Some(problem) = response["content"].get("application/problem+json") else { continue };
            let mut codes: Vec<_> = problem["examples"].as_object().expect("examples").keys().collect();
            codes.sort_unstable();
            assert_eq!(json!(codes), problem["schema"]["allOf"][1]["properties"]["code"]["enum"], "{place}");
        }
    }
}

#[test]
fn the_http_file_has_every_operation_once() {
    let (document, file) = (document(), cuponera_api::http_file());
    for (path, method, operation) in operations(&document) {
        let name = format!("# @name {}\n", operation["operationId"].as_str().expect("an id"));
        assert_eq!(file.matches(&name).count(), 1, "{method} {path}");
    }
    assert!(!file.contains("correct horse"), "the file contains a password");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_pages_about_it_need_no_credentials() {
    let server = Server::start().await;
    let anonymous = server.anonymous();
    let reply = anonymous.get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.text, cuponera_api::openapi_document());
    for path in ["/docs", "/docs/"] {
        let docs = anonymous.get(path).await;
        assert!(
            docs.status == 200 && docs.header("content-type").starts_with("text/html"),
            "{}",
            docs.status
        );
        assert!(
            docs.text.contains("<title>Cuponera API</title>") && docs.text.contains("\"RateLimit-Policy\"")
        );
    }
    let errors = anonymous.get("/docs/errors").await;
    assert_eq!((errors.status, errors.text), (200, cuponera_api::error_page()));
}
