//! Permissions: a table has every operation of the OpenAPI document, and each kind of caller calls each operation.

mod keys;
mod queries;
mod table;
mod world;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::Server;
use table::{PRESENTED, SHARED, TABLE};
use world::World;

/// The callers, in the order of the table's columns.
const WHO: [&str; 6] =
    ["no credentials", "a USER", "another USER", "a SERVICE", "an ADMIN", "another business's ADMIN"];

/// Method and path of each operation, by id.
fn operations() -> BTreeMap<String, (String, String)> {
    let document: Value =
        serde_json::from_str(&cuponera_api::openapi_document()).expect("the document is JSON");
    let paths = document["paths"].as_object().expect("the document has paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("a path has methods").clone();
        let path = path.clone();
        methods.into_iter().map(move |(method, operation)| {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no id"));
            (id.to_owned(), (method.to_uppercase(), path.clone()))
        })
    };
    paths.iter().flat_map(of_path).collect()
}

#[test]
fn every_operation_stands_in_the_table_once() {
    let mut documented: Vec<String> = operations().into_keys().collect();
    let mut listed: Vec<String> = TABLE.iter().map(|row| row.operation.to_owned()).collect();
    documented.sort();
    listed.sort();
    assert_eq!(listed, documented, "left: the table of permissions; right: the OpenAPI document");
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_may_do_what_the_table_says_and_nothing_else() {
    let world = World::new().await;
    let operations = operations();
    let mut wrong = Vec::new();
    for row in TABLE.iter().chain(PRESENTED).chain(SHARED) {
        let (method, path) = &operations[row.operation];
        for (place, client) in world.everybody().into_iter().enumerate() {
            let reply = world.ask(client, method, path, row).await;
            if reply.status != row.statuses[place] {
                let (expected, status) = (row.statuses[place], reply.status);
                wrong.push(format!(
                    "{} by {}: {status} instead of {expected}: {}",
                    row.operation, WHO[place], reply.text
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    world.server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_a_thing_is_decides_before_what_is_asked_of_it() {
    let server = Server::start().await;
    let (theirs, book) = (server.another_admin().await, server.book(serde_json::json!({})).await);
    // The body is invalid; the answer must not reveal that the book exists.
    let here = server.admin().get(&format!("coupon-books/{}", uuid::Uuid::now_v7())).await;
    let there = theirs.get(&format!("coupon-books/{book}")).await;
    assert_eq!((here.status, there.status), (404, 404));
    assert_eq!(
        here.text, there.text,
        "the answers for an unknown book and for a book of another business differ"
    );
}
