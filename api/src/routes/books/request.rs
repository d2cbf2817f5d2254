//! The bodies of requests about coupon books.

use chrono::{DateTime, Utc};
use cuponera_domain::book::{
    BookPatch, BookRules, BookStatus, Change, CodeKind, DEFAULT_LOCK_TTL_SECONDS, Discount, DiscountKind,
    MAX_NAME_CHARS,
};
use cuponera_domain::rejection::Rejection;
use poem_openapi::Object;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::view::{DiscountKindView, DiscountView};
use super::{CODE_KINDS, STATUSES};
use crate::http::body::{Fields, FromFields};
use crate::routes::undo::reason;

/// A new book.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct NewBook {
    /// 1 to 200 characters after trimming.
    #[oai(validator(min_length = 1, max_length = 200))]
    name: String,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    /// `UNIQUE` if absent: a code is assigned before it is locked or redeemed. `BEARER`: the user who locks or redeems a free code becomes
    /// its holder. `SHARED`: a code has no holder, and many users redeem it.
    code_kind: Option<String>,
    /// The number of codes that a user may hold or have redeemed, or lock and redeem in a `SHARED` book; no limit if absent.
    #[oai(validator(minimum(value = "1")))]
    max_codes_per_user: Option<i32>,
    /// The number of times that a code may be redeemed; 1 if absent.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    /// For information only.
    #[oai(validator(minimum(value = "0")))]
    total_codes_expected: Option<i64>,
    /// The time from which codes are assigned and redeemed; immediately if absent.
    starts_at: Option<DateTime<Utc>>,
    /// The time until which codes are assigned and redeemed. Must be in the future and after `startsAt`; no end if
    /// absent.
    expires_at: Option<DateTime<Utc>>,
    /// The number of days, of 24 hours, that a code is valid after its assignment; as long as the book if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "36500")))]
    code_valid_days: Option<i32>,
    /// The duration of a lock whose request does not state one; 300 if absent.
    #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
    lock_ttl_seconds: Option<i32>,
    /// Whether a redemption requires a lock that has not expired; false if absent.
    require_lock: Option<bool>,
    discount: Option<DiscountView>,
    /// Any object of up to 16 KiB.
    metadata: Option<Value>,
    /// The caller's own business; others are rejected.
    business_id: Option<Uuid>,
}

/// The parsed body with the schema [`NewBook`].
#[derive(Debug)]
pub(super) struct BookToCreate {
    pub(super) rules: BookRules,
    pub(super) business_id: Option<Uuid>,
}

impl FromFields for BookToCreate {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.required::<String>("name");
        let code_kind = fields.optional::<String>("codeKind");
        let code_kind =
            code_kind.and_then(|name| fields.word("codeKind", &name, CodeKind::parse, CODE_KINDS));
        let rules = BookRules {
            // A missing name has its fault already.
            name: name.clone().unwrap_or_else(|| "-".into()),
            description: fields.optional("description"),
            code_kind: code_kind.unwrap_or_default(),
            max_codes_per_user: fields.optional("maxCodesPerUser"),
            max_redeems_per_user: fields.optional("maxRedeemsPerUser").unwrap_or(1),
            total_codes_expected: fields.optional("totalCodesExpected"),
            starts_at: fields.optional("startsAt"),
            expires_at: fields.optional("expiresAt"),
            code_valid_days: fields.optional("codeValidDays"),
            lock_ttl_seconds: fields.optional("lockTtlSeconds").unwrap_or(DEFAULT_LOCK_TTL_SECONDS),
            require_lock: fields.optional("requireLock").unwrap_or(false),
            discount: discount(fields).map(Discount::from),
            metadata: fields.optional::<Map<String, Value>>("metadata").map(Value::Object),
        };
        let business_id = fields.optional("businessId");
        if let Err(Rejection::Invalid { faults }) = rules.check() {
            for fault in faults {
                fields.fault(&fault.field, fault.message);
            }
        }
        if rules.expires_at.is_some_and(|end| end <= Utc::now()) {
            fields.likely_fault("expiresAt", "must be in the future");
        }
        name.map(|_| Self { rules, business_id })
    }
}

fn discount(fields: &mut Fields) -> Option<DiscountView> {
    let object = fields.optional::<Map<String, Value>>("discount")?;
    fields.nested("discount", object)
}

impl FromFields for DiscountView {
    fn read(fields: &mut Fields) -> Option<Self> {
        let kind = fields.required::<String>("type");
        let kind = kind.and_then(|kind| fields.word("type", &kind, discount_kind, "PERCENT, FIXED"));
        let (value, currency) = (fields.required("value"), fields.optional("currency"));
        Some(Self { kind: kind?, value: value?, currency })
    }
}

fn discount_kind(name: &str) -> Option<DiscountKindView> {
    match name {
        "PERCENT" => Some(DiscountKindView::Percent),
        "FIXED" => Some(DiscountKindView::Fixed),
        _ => None,
    }
}

impl From<DiscountView> for Discount {
    fn from(view: DiscountView) -> Self {
        let kind = match view.kind {
            DiscountKindView::Percent => DiscountKind::Percent,
            DiscountKindView::Fixed => DiscountKind::Fixed,
        };
        Self { kind, value: view.value, currency: view.currency }
    }
}

/// A change of a book. Absent fields keep their values; null clears a field that may be null.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct BookChange {
    /// `ACTIVE` activates the book, `PAUSED` pauses it, `CLOSED` ends it permanently.
    status: Option<String>,
    #[oai(validator(min_length = 1, max_length = 200))]
    name: Option<String>,
    #[oai(validator(max_length = 5000))]
    description: Option<String>,
    /// Cannot change once codes were added, or a job is to add them.
    code_kind: Option<String>,
    /// No limit if null.
    #[oai(validator(minimum(value = "1")))]
    max_codes_per_user: Option<i32>,
    /// Cannot be lowered once codes are assigned, or a `SHARED` book has codes.
    #[oai(validator(minimum(value = "1")))]
    max_redeems_per_user: Option<i32>,
    #[oai(validator(minimum(value = "0")))]
    total_codes_expected: Option<i64>,
    starts_at: Option<DateTime<Utc>>,
    /// Must be after `startsAt`. A past time ends the book now.
    expires_at: Option<DateTime<Utc>>,
    /// Concerns codes that are assigned later; as long as the book if null.
    #[oai(validator(minimum(value = "1"), maximum(value = "36500")))]
    code_valid_days: Option<i32>,
    #[oai(validator(minimum(value = "1"), maximum(value = "86400")))]
    lock_ttl_seconds: Option<i32>,
    require_lock: Option<bool>,
    discount: Option<DiscountView>,
    metadata: Option<Value>,
}

impl FromFields for BookPatch {
    fn read(fields: &mut Fields) -> Option<Self> {
        let status = match fields.change::<String>("status") {
            Change::Keep => Change::Keep,
            Change::Set(name) => {
                fields.word("status", &name, BookStatus::parse, STATUSES).map_or(Change::Keep, Change::Set)
            }
        };
        let code_kind = match fields.change::<String>("codeKind") {
            Change::Keep => Change::Keep,
            Change::Set(name) => {
                fields.word("codeKind", &name, CodeKind::parse, CODE_KINDS).map_or(Change::Keep, Change::Set)
            }
        };
        let discount = match fields.change_or_clear::<Map<String, Value>>("discount") {
            Change::Keep => Change::Keep,
            Change::Set(None) => Change::Set(None),
            Change::Set(Some(object)) => fields
                .nested::<DiscountView>("discount", object)
                .map_or(Change::Keep, |discount| Change::Set(Some(discount.into()))),
        };
        let metadata = match fields.change_or_clear::<Map<String, Value>>("metadata") {
            Change::Keep => Change::Keep,
            Change::Set(map) => Change::Set(map.map(Value::Object)),
        };
        Some(Self {
            status,
            name: fields.change("name"),
            description: fields.change_or_clear("description"),
            code_kind,
            max_codes_per_user: fields.change_or_clear("maxCodesPerUser"),
            max_redeems_per_user: fields.change("maxRedeemsPerUser"),
            total_codes_expected: fields.change_or_clear("totalCodesExpected"),
            starts_at: fields.change_or_clear("startsAt"),
            expires_at: fields.change_or_clear("expiresAt"),
            code_valid_days: fields.change_or_clear("codeValidDays"),
            lock_ttl_seconds: fields.change("lockTtlSeconds"),
            require_lock: fields.change("requireLock"),
            discount,
            metadata,
        })
    }
}

/// The name of a clone.
#[derive(Debug, Object)]
pub(super) struct CloneRequest {
    /// 1 to 200 characters after trimming; the name of the book with " (copy)" if absent.
    #[oai(validator(min_length = 1, max_length = 200))]
    pub(super) name: Option<String>,
}

impl FromFields for CloneRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let name = fields.optional::<String>("name");
        if name.as_ref().is_some_and(|name| !(1..=MAX_NAME_CHARS).contains(&name.trim().chars().count())) {
            fields.fault("name", "must have 1 to 200 characters");
        }
        Some(Self { name })
    }
}

/// Why the codes of a book are voided.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct BookVoid {
    /// 1 to 500 characters, for the history of each code.
    #[oai(validator(min_length = 1, max_length = 500))]
    pub(super) reason: String,
    /// Only count the codes.
    #[oai(default)]
    pub(super) dry_run: bool,
}

impl FromFields for BookVoid {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (reason, dry_run) = (reason(fields), fields.optional("dryRun").unwrap_or(false));
        Some(Self { reason: reason?, dry_run })
    }
}
