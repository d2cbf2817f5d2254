//! The OpenAPI document: written down, served, and complete.

use serde_json::Value;

use crate::support::Server;

fn document() -> Value {
    serde_json::from_str(&cuponera_api::openapi_document()).expect("the document is JSON")
}

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == cuponera_api::openapi_document(),
        "docs/openapi.json is not up to date: run `make openapi`"
    );
}

#[test]
fn every_operation_has_an_id_a_tag_and_a_summary() {
    let document = document();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            for field in ["operationId", "summary"] {
                let text = operation[field].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{method} {path} has no {field}");
            }
            assert!(
                operation["tags"].as_array().is_some_and(|tags| !tags.is_empty()),
                "{method} {path} has no tag"
            );
        }
    }
}

#[test]
fn every_operation_that_needs_credentials_says_so() {
    let document = document();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let is_open = path.starts_with("/health")
                || path.ends_with("/auth/login")
                || path.ends_with("/auth/refresh");
            let says = operation["security"].as_array().is_some_and(|ways| !ways.is_empty());
            assert_eq!(says, !is_open, "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_and_the_pages_about_it_need_no_credentials() {
    let server = Server::start().await;
    let reply = server.nobody().get("/openapi.json").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "application/json"));
    assert_eq!(reply.text, cuponera_api::openapi_document());
    let docs = server.nobody().get("/docs").await;
    assert!(docs.status == 200 && docs.header("content-type").starts_with("text/html"), "{}", docs.status);
}
