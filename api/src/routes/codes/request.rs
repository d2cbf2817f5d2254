//! The body of a request for generated codes.

use cuponera_domain::coupon::pattern::Pattern;
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};

/// A request for generated codes.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Generation {
    pub(super) coupon_book_id: Uuid,
    /// 1 to 100000000.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000000")))]
    pub(super) quantity: i64,
    /// Literal text with groups in braces: `X` is one of 32 letters and digits that are not mistaken for each other,
    /// `9` a digit, `A` a letter. Example: `SUMMER-{XXXX}-{9999}`. `{XXXXXXXXXXXX}` if absent. The codes must have 3
    /// to 64 characters, and a pattern at most 2^127 codes.
    #[oai(validator(max_length = 192))]
    pub(super) pattern: Option<String>,
}

impl FromFields for Generation {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (book, quantity) = (fields.required("couponBookId"), fields.required::<i64>("quantity"));
        if quantity.is_some_and(|quantity| !(1..=100_000_000).contains(&quantity)) {
            fields.fault("quantity", "must be from 1 to 100000000");
        }
        let pattern = fields.optional::<String>("pattern");
        if let Some(Err(error)) = pattern.as_deref().map(Pattern::parse) {
            fields.fault("pattern", error.to_string());
        }
        Some(Self { coupon_book_id: book?, quantity: quantity?, pattern })
    }
}
