//! The bodies of requests about a coupon.

use chrono::{DateTime, Utc};
use cuponera_domain::book::{Change, MAX_LOCK_TTL_SECONDS, MAX_METADATA_BYTES};
use cuponera_domain::coupon::limits::CodePatch;
use poem_openapi::Object;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};

/// Maximum length of the reference of a redemption, in characters.
const MAX_REFERENCE_CHARS: usize = 200;

/// The user and the duration of a lock.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct LockRequest {
    /// The holder. A USER may omit it.
    pub(super) user_id: Option<String>,
    /// 1 to 86400; the book's `lockTtlSeconds` if absent.
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

/// The lock to release.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct UnlockRequest {
    /// The holder. A USER may omit it.
    pub(super) user_id: Option<String>,
    /// Release only this lock: `lock_stale` if the coupon has another. Required with `force` for a `SHARED` code.
    pub(super) lock_id: Option<Uuid>,
    /// ADMIN only: release the lock of any user.
    #[oai(default)]
    pub(super) force: bool,
}

impl FromFields for UnlockRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (user_id, lock_id) = (fields.optional_holder("userId"), fields.optional("lockId"));
        Some(Self { user_id, lock_id, force: fields.optional("force").unwrap_or(false) })
    }
}

/// A change of a code. Absent fields keep their values; null clears a limit.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct CodeChange {
    /// A suspended code, of any kind, can be neither locked nor redeemed nor assigned.
    suspended: Option<bool>,
    /// Only for a `SHARED` code: the number of redemptions in total, not below those that are made or locked. No limit if null.
    #[oai(validator(minimum(value = "1")))]
    max_redemptions: Option<i32>,
    /// Only for a `SHARED` code: the number of redemptions of each user, not below those that a user has made or locked. That of the book
    /// if null.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    /// Only for a `SHARED` code: when it starts.
    starts_at: Option<DateTime<Utc>>,
    /// Only for a `SHARED` code: when it expires. Must be after `startsAt`. A past time ends the code now.
    expires_at: Option<DateTime<Utc>>,
}

impl FromFields for CodePatch {
    fn read(fields: &mut Fields) -> Option<Self> {
        let patch = Self {
            suspended: fields.change("suspended"),
            max_redemptions: fields.change_or_clear("maxRedemptions"),
            max_redeems_per_user: fields.change_or_clear("maxRedeemsPerUser"),
            starts_at: fields.change_or_clear("startsAt"),
            expires_at: fields.change_or_clear("expiresAt"),
        };
        for (name, limit) in
            [("maxRedemptions", &patch.max_redemptions), ("maxRedeemsPerUser", &patch.max_redeems_per_user)]
        {
            if matches!(limit, Change::Set(Some(..=0))) {
                fields.fault(name, "must be at least 1");
            }
        }
        Some(patch)
    }
}

/// A redemption.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct RedeemRequest {
    /// The holder. A USER may omit it; a trusted caller may omit it for codes of `BEARER` books.
    pub(super) user_id: Option<String>,
    /// The caller's lock: the request is rejected if the coupon has another.
    pub(super) lock_id: Option<Uuid>,
    /// Your own reference of the sale, up to 200 characters, such as the id of an order. A code is redeemed once for each: a request with
    /// the same reference returns the first redemption, at any time. An empty text counts as absent.
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
        let reference = reference.filter(|text| !text.trim().is_empty());
        let metadata = fields.optional::<Map<String, Value>>("metadata").map(Value::Object);
        if metadata.as_ref().is_some_and(|value| value.to_string().len() > MAX_METADATA_BYTES) {
            fields.fault("metadata", "must have at most 16384 bytes as JSON");
        }
        Some(Self { user_id, lock_id, reference, metadata })
    }
}

/// The user who would redeem the code.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct ValidateRequest {
    /// The holder. A USER may omit it; a trusted caller may omit it for codes of `BEARER` books.
    pub(super) user_id: Option<String>,
    /// The caller's lock.
    pub(super) lock_id: Option<Uuid>,
}

impl FromFields for ValidateRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { user_id: fields.optional_holder("userId"), lock_id: fields.optional("lockId") })
    }
}
