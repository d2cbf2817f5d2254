//! The document of the operations on user pools: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{NOW, USER, counted_page, job, pool};

/// A file may be rejected as a whole.
const OF_THE_FILE: &[&str] = &[
    "storage_quota_exceeded",
    "empty_file",
    "not_utf8",
    "record_too_long",
    "unclear_header",
    "unclosed_quote",
    "unknown_delimiter",
];

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let mut operations = pools();
    operations.extend(users());
    operations
}

fn pools() -> Vec<Operation> {
    vec![
        Operation::of("createUserPool")
            .body(json!({"name": "Newsletter", "description": "Subscribers of the newsletter"}))
            .answers(201, "The pool.", pool())
            .located()
            .refuses(&["forbidden", "name_taken"]),
        Operation::of("listUserPools")
            .answers(200, "A page of pools.", counted_page(&pool()))
            .refuses(&["forbidden"]),
        Operation::of("getUserPool").answers(200, "The pool.", pool()).refuses(&["forbidden"]),
        Operation::of("updateUserPool")
            .body(json!({"name": "Newsletter"}))
            .answers(200, "The changed pool.", pool())
            .refuses(&["forbidden", "name_taken"]),
        Operation::of("deleteUserPool").answers_nothing(204, "The pool is deleted.").refuses(&["forbidden"]),
    ]
}

fn users() -> Vec<Operation> {
    vec![
        Operation::of("addPoolUsers")
            .body(json!({"userIds": [USER, "eva"]}))
            .body_as("text/csv", json!("userId\nana\neva\n"))
            .body_as("multipart/form-data", json!({"file": "userId\nana\neva\n", "header": true}))
            .answers(
                200,
                "How many users were added.",
                json!({"added": 1, "alreadyMembers": 1, "invalid": 0}),
            )
            .answers(202, "The job that adds the users of a file.", job("IMPORT_MEMBERS"))
            .located()
            .refuses(&["forbidden"])
            .refuses(OF_THE_FILE),
        Operation::of("listPoolUsers")
            .answers(200, "A page of users.", counted_page(&json!({"userId": USER, "addedAt": NOW})))
            .refuses(&["forbidden"]),
        Operation::of("removePoolUsers")
            .body(json!({"userIds": [USER]}))
            .answers(200, "How many users were removed.", json!({"removed": 1}))
            .refuses(&["forbidden"]),
        Operation::of("removePoolUser").answers_nothing(204, "The user is removed.").refuses(&["forbidden"]),
    ]
}
