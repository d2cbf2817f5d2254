//! The document of the operations on API keys: examples and rejections.

use serde_json::{Value, json};

use crate::document::Operation;
use crate::document::examples::{BOOK, LATER, api_key, page};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("createApiKey")
            .body(json!({
                "name": "till 1", "role": "SERVICE", "permissions": ["coupons:use"], "couponBookIds": [BOOK], "expiresAt": LATER,
            }))
            .answers(201, "The key. Only this response contains it.", shown_key())
            .refuses(&["forbidden", "not_found"]),
        Operation::of("listApiKeys")
            .answers(200, "A page of keys, without their secrets.", page(&api_key()))
            .refuses(&["forbidden"]),
        Operation::of("revokeApiKey").answers_nothing(204, "The key is revoked.").refuses(&["forbidden"]),
    ]
}

fn shown_key() -> Value {
    let mut key = api_key();
    key["key"] = json!("cup_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    key
}
