//! The document of the operations on logins: examples and rejections.

use serde_json::{Value, json};

use crate::document::Operation;
use crate::document::examples::{ACCOUNT, BUSINESS, USER, session};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("login")
            .body(json!({"email": "ana@example.com", "password": "correct horse battery"}))
            .answers(200, "The tokens of a new login.", session_with_businesses())
            .refuses(&["invalid_credentials", "choose_business"]),
        Operation::of("refresh")
            .body(json!({"refreshToken": "9f86d081884c7d65"}))
            .answers(200, "New tokens. The old refresh token is no longer valid.", session())
            .refuses(&["forbidden", "invalid_refresh_token"]),
        Operation::of("logout")
            .body(json!({"refreshToken": "9f86d081884c7d65"}))
            .answers_nothing(200, "The login is ended.")
            .refuses(&["forbidden"]),
        Operation::of("changePassword")
            .body(json!({"currentPassword": "correct horse battery", "newPassword": "another horse battery"}))
            .answers_nothing(204, "The password is changed. All other logins of the account are ended.")
            .refuses(&["forbidden"]),
        Operation::of("switchBusiness")
            .body(json!({"businessId": BUSINESS}))
            .answers(200, "The tokens of a new login to the business.", session_with_businesses())
            .refuses(&["forbidden", "not_found"]),
        Operation::of("getMe").answers(200, "The account or API key of the caller.", me()),
    ]
}

fn session_with_businesses() -> Value {
    let mut session = session();
    session["businesses"] = json!([{"id": BUSINESS, "name": "My shop", "role": "USER"}]);
    session
}

fn me() -> Value {
    json!({"id": ACCOUNT, "businessId": BUSINESS, "role": "USER", "userId": USER, "email": "ana@example.com"})
}
