//! The bodies of requests that assign codes.

use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};

/// Maximum length of the key of a recipient, in characters.
const MAX_RECIPIENT_KEY_CHARS: usize = 200;

/// The book and the user of a random assignment.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct RandomAssignment {
    pub(super) coupon_book_id: Uuid,
    /// A USER may omit it.
    pub(super) user_id: Option<String>,
    /// Your own key of the recipient, unique in the book, such as the id of an email: a request with the same key returns the same code, at
    /// any time.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(super) recipient_key: Option<String>,
}

impl FromFields for RandomAssignment {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (book, user_id) = (fields.required("couponBookId"), fields.optional_holder("userId"));
        let recipient_key = fields.optional::<String>("recipientKey");
        let is_allowed =
            |key: &String| !key.trim().is_empty() && key.chars().count() <= MAX_RECIPIENT_KEY_CHARS;
        if !recipient_key.as_ref().is_none_or(is_allowed) {
            fields.fault("recipientKey", "must have 1 to 200 characters, and not only blanks");
        }
        Some(Self { coupon_book_id: book?, user_id, recipient_key })
    }
}

/// The user of an assignment.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NamedAssignment {
    pub(super) user_id: String,
}

impl FromFields for NamedAssignment {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { user_id: fields.holder("userId")? })
    }
}
