//! The bodies of requests about a coupon.

use cuponera_core::book::{MAX_LOCK_TTL_SECONDS, MAX_METADATA_BYTES};
use poem_openapi::Object;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};

/// The longest reference a redemption may carry, in characters.
const MAX_REFERENCE_CHARS: usize = 200;

/// Who locks, and for how long.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct LockRequest {
    /// The holder. Users may leave it out: then it is they.
    pub(super) user_id: Option<String>,
    /// 1 to 86400; the book says if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
    pub(super) ttl_seconds: Option<i32>,
}

impl FromFields for LockRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (user_id, ttl_seconds) = (fields.optional_holder("userId"), fields.optional("ttlSeconds"));
        if ttl_seconds.is_some_and(|ttl| !(1..=MAX_LOCK_TTL_SECONDS).contains(&ttl)) {
            fields.fault("ttlSeconds", "must be from 1 to 86400");
        }
        Some(Self { user_id, ttl_seconds })
    }
}

/// Whose lock ends.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct UnlockRequest {
    /// The holder. Users may leave it out: then it is they.
    pub(super) user_id: Option<String>,
    /// Only this lock: refused with `lock_stale` if another is live.
    pub(super) lock_id: Option<Uuid>,
    /// ADMIN: whoever holds it.
    #[oai(default)]
    pub(super) force: bool,
}

impl FromFields for UnlockRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (user_id, lock_id) = (fields.optional_holder("userId"), fields.optional("lockId"));
        Some(Self { user_id, lock_id, force: fields.optional("force").unwrap_or(false) })
    }
}

/// A use of the code.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct RedeemRequest {
    /// The holder. Users may leave it out: then it is they.
    pub(super) user_id: Option<String>,
    /// The lock the caller believes in: refused if it is no longer the live one.
    pub(super) lock_id: Option<Uuid>,
    /// The caller's own name for the sale, up to 200 characters.
    #[oai(validator(max_length = 200))]
    pub(super) reference: Option<String>,
    /// Any object, up to 16 KiB.
    pub(super) metadata: Option<Value>,
}

impl FromFields for RedeemRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (user_id, lock_id) = (fields.optional_holder("userId"), fields.optional("lockId"));
        let reference = fields.optional::<String>("reference");
        if reference.as_ref().is_some_and(|text| text.chars().count() > MAX_REFERENCE_CHARS) {
            fields.fault("reference", "must have at most 200 characters");
        }
        let metadata = fields.optional::<Map<String, Value>>("metadata").map(Value::Object);
        if metadata.as_ref().is_some_and(|value| value.to_string().len() > MAX_METADATA_BYTES) {
            fields.fault("metadata", "must have at most 16384 bytes as JSON");
        }
        Some(Self { user_id, lock_id, reference, metadata })
    }
}

/// Who would use the code.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct ValidateRequest {
    /// The holder. Users may leave it out: then it is they.
    pub(super) user_id: Option<String>,
    /// The lock the caller believes in.
    pub(super) lock_id: Option<Uuid>,
}

impl FromFields for ValidateRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { user_id: fields.optional_holder("userId"), lock_id: fields.optional("lockId") })
    }
}
