//! The bodies of requests that assign codes.

use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};

/// The book and the user of a random assignment.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct RandomAssignment {
    pub(super) coupon_book_id: Uuid,
    /// A USER may omit it.
    pub(super) user_id: Option<String>,
}

impl FromFields for RandomAssignment {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (book, user_id) = (fields.required("couponBookId"), fields.optional_holder("userId"));
        Some(Self { coupon_book_id: book?, user_id })
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
