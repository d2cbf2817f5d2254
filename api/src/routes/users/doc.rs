//! The document of the operations on accounts: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{USER, page, user};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("createUser")
            .body(json!({
                "email": "ana@example.com", "password": "correct horse battery", "role": "USER", "userId": USER,
            }))
            .answers(201, "The account.", user())
            .refuses(&["forbidden", "email_taken", "user_id_taken"]),
        Operation::of("listUsers").answers(200, "A page of accounts.", page(&user())).refuses(&["forbidden"]),
        Operation::of("updateUser")
            .body(json!({"disabled": false}))
            .answers(200, "The changed account.", user())
            .refuses(&["forbidden", "account_shared", "last_admin"]),
    ]
}
