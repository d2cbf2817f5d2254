//! Logging in, users and API keys.

use serde_json::{Value, json};

use super::Operation;
use crate::document::examples::{ACCOUNT, BOOK, BUSINESS, LATER, USER, api_key, page, session, user};

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("login")
            .body(json!({"email": "ana@example.com", "password": "correct horse battery"}))
            .answers(200, "The tokens of a new login.", session_with_businesses())
            .refuses(&["invalid_credentials", "choose_business"]),
        Operation::of("refresh")
            .body(json!({"refreshToken": "9f86d081884c7d65"}))
            .answers(200, "New tokens; the old refresh token is used up.", session())
            .refuses(&["forbidden", "invalid_refresh_token"]),
        Operation::of("logout")
            .body(json!({"refreshToken": "9f86d081884c7d65"}))
            .answers_nothing(200, "The login has ended, or had before.")
            .refuses(&["forbidden"]),
        Operation::of("changePassword")
            .body(json!({"currentPassword": "correct horse battery", "newPassword": "another horse battery"}))
            .answers_nothing(204, "The new password holds; all other logins of the account have ended.")
            .refuses(&["forbidden"]),
        Operation::of("switchBusiness")
            .body(json!({"businessId": BUSINESS}))
            .answers(200, "The tokens of a new login to that business.", session_with_businesses())
            .refuses(&["forbidden", "not_found"]),
        Operation::of("getMe").answers(200, "The account or API key that calls.", me()),
        Operation::of("createUser")
            .body(json!({
                "email": "ana@example.com", "password": "correct horse battery", "role": "USER", "userId": USER,
            }))
            .answers(201, "The account.", user())
            .refuses(&["forbidden", "email_taken", "user_id_taken"]),
        Operation::of("listUsers").answers(200, "A page of accounts.", page(&user())).refuses(&["forbidden"]),
        Operation::of("updateUser")
            .body(json!({"disabled": false}))
            .answers(200, "The account as it is now.", user())
            .refuses(&["forbidden", "account_shared", "last_admin"]),
        Operation::of("createApiKey")
            .body(json!({
                "name": "till 1", "role": "SERVICE", "permissions": ["coupons:use"], "couponBookIds": [BOOK], "expiresAt": LATER,
            }))
            .answers(201, "The key, shown this once.", shown_key())
            .refuses(&["forbidden", "not_found"]),
        Operation::of("listApiKeys")
            .answers(200, "A page of keys, without their secrets.", page(&api_key()))
            .refuses(&["forbidden"]),
        Operation::of("revokeApiKey").answers_nothing(204, "It is no longer valid.").refuses(&["forbidden"]),
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

fn shown_key() -> Value {
    let mut key = api_key();
    key["key"] = json!("cup_9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08");
    key
}
