//! The bodies of requests that create codes.

use chrono::{DateTime, Utc};
use cuponera_domain::book::MAX_METADATA_BYTES;
use cuponera_domain::coupon::code::Code;
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::NewSharedCode;
use poem_openapi::Object;
use serde_json::{Map, Value};
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
    /// Only for a `SHARED` book: the number of redemptions of each code in total; no limit if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redemptions: Option<i32>,
    /// Only for a `SHARED` book: the number of redemptions of a code by each user; that of the book if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    /// Only for a `SHARED` book: when the codes start; with their book if absent.
    starts_at: Option<DateTime<Utc>>,
    /// Only for a `SHARED` book: when the codes expire; with their book if absent. Must be in the future and after `startsAt`.
    expires_at: Option<DateTime<Utc>>,
}

impl Generation {
    /// The limits of each code.
    pub(super) fn limits(&self) -> SharedLimits {
        SharedLimits {
            max_redemptions: self.max_redemptions,
            max_redeems_per_user: self.max_redeems_per_user,
            starts_at: self.starts_at,
            expires_at: self.expires_at,
        }
    }
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
        let SharedLimits { max_redemptions, max_redeems_per_user, starts_at, expires_at } = shared_limits(fields);
        Some(Self {
            coupon_book_id: book?,
            quantity: quantity?,
            pattern,
            max_redemptions,
            max_redeems_per_user,
            starts_at,
            expires_at,
        })
    }
}

/// A code of a `SHARED` book.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewCode {
    coupon_book_id: Uuid,
    /// 3 to 64 letters, digits, `-` and `_`. Lower case becomes upper case.
    #[oai(validator(min_length = 3, max_length = 64))]
    code: String,
    /// The number of redemptions in total; no limit if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redemptions: Option<i32>,
    /// The number of redemptions of each user; that of the book if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    /// When the code starts; with its book if absent.
    starts_at: Option<DateTime<Utc>>,
    /// When the code expires; with its book if absent. Must be in the future and after `startsAt`.
    expires_at: Option<DateTime<Utc>>,
    /// Any object, up to 16 KiB.
    metadata: Option<Value>,
}

impl FromFields for NewSharedCode {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (book, code) = (fields.required::<Uuid>("couponBookId"), fields.required::<String>("code"));
        let code = code.and_then(|text| match Code::parse(&text) {
            Ok(code) => Some(code.into_string()),
            Err(error) => {
                fields.fault("code", error.to_string());
                None
            }
        });
        let limits = shared_limits(fields);
        let metadata = fields.optional::<Map<String, Value>>("metadata").map(Value::Object);
        if metadata.as_ref().is_some_and(|value| value.to_string().len() > MAX_METADATA_BYTES) {
            fields.fault("metadata", "must have at most 16384 bytes as JSON");
        }
        Some(Self { book: BookId(book?), code: code?, limits, metadata })
    }
}

/// The limits of SHARED codes.
fn shared_limits(fields: &mut Fields) -> SharedLimits {
    let limits = SharedLimits {
        max_redemptions: fields.optional("maxRedemptions"),
        max_redeems_per_user: fields.optional("maxRedeemsPerUser"),
        starts_at: fields.optional("startsAt"),
        expires_at: fields.optional("expiresAt"),
    };
    if let Err(Rejection::Invalid { faults }) = limits.check() {
        for fault in faults {
            fields.fault(&fault.field, fault.message);
        }
    }
    if limits.expires_at.is_some_and(|end| end <= Utc::now()) {
        fields.likely_fault("expiresAt", "must be in the future");
    }
    limits
}
