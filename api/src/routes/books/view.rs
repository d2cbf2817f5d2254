//! Coupon books in responses.

use cuponera_domain::book::{Book, Counts, Discount, DiscountKind};
use poem_openapi::types::MaybeUndefined;
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

/// The kind of a discount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "DiscountKind", rename_all = "UPPERCASE")]
pub(crate) enum DiscountKindView {
    /// A share of the price.
    Percent,
    /// An amount.
    Fixed,
}

/// The discount that the shop gives for a code. For information only: the shop calculates prices.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Discount", skip_serializing_if_is_none)]
pub(crate) struct DiscountView {
    /// A share or an amount.
    #[oai(rename = "type")]
    pub(crate) kind: DiscountKindView,
    /// Percent (up to 100), or units of the currency.
    #[oai(validator(minimum(value = "0", exclusive)))]
    pub(crate) value: f64,
    /// ISO 4217; required for `FIXED`.
    #[oai(validator(pattern = "^[A-Z]{3}$"))]
    pub(crate) currency: Option<String>,
}

impl From<Discount> for DiscountView {
    fn from(discount: Discount) -> Self {
        let kind = match discount.kind {
            DiscountKind::Percent => DiscountKindView::Percent,
            DiscountKind::Fixed => DiscountKindView::Fixed,
        };
        Self { kind, value: discount.value, currency: discount.currency }
    }
}

/// The number of codes in each status. Their sum is `generatedCount`.
#[derive(Debug, Object)]
#[oai(rename = "Counts")]
pub(in crate::routes) struct CountsView {
    /// Not assigned.
    available: i64,
    /// Assigned, not locked.
    assigned: i64,
    /// Assigned and locked.
    locked: i64,
    /// Redeemed as often as allowed.
    redeemed: i64,
    /// Invalidated permanently.
    void: i64,
}

/// A coupon book.
///
/// A USER gets what the holder of a code needs. Fields about the progress of the campaign and private fields of its owner are
/// absent.
#[derive(Debug, Object)]
#[oai(rename = "CouponBook", rename_all = "camelCase")]
pub(crate) struct BookView {
    pub(crate) id: Uuid,
    business_id: Uuid,
    name: String,
    description: Option<String>,
    /// `DRAFT`, `ACTIVE`, `PAUSED` or `CLOSED`.
    status: String,
    /// `UNIQUE`: a code is assigned before it is locked or redeemed. `BEARER`: the user who locks or redeems a free code becomes its holder.
    /// `SHARED`: a code has no holder, and many users redeem it.
    code_kind: String,
    /// The number of codes that a user may hold or have redeemed; no limit if null.
    max_codes_per_user: Option<i32>,
    /// The number of times that a code may be redeemed.
    max_redeems_per_user: i32,
    /// The planned number of codes; for information only. Absent for a USER.
    total_codes_expected: MaybeUndefined<i64>,
    starts_at: Option<Time>,
    expires_at: Option<Time>,
    /// The number of days, of 24 hours, that a code is valid after its assignment; as long as the book if null.
    code_valid_days: Option<i32>,
    /// The duration of a lock whose request does not state one.
    lock_ttl_seconds: i32,
    /// Whether a redemption requires a lock that has not expired.
    require_lock: bool,
    discount: Option<DiscountView>,
    /// Absent for a USER.
    metadata: MaybeUndefined<Value>,
    /// The number of codes of the book. Absent for a USER.
    #[oai(skip_serializing_if_is_none)]
    generated_count: Option<i64>,
    /// Absent for a USER.
    #[oai(skip_serializing_if_is_none)]
    counts: Option<CountsView>,
    /// Whether codes can be assigned and redeemed now.
    is_active: bool,
    /// Whether `expiresAt` has passed.
    is_expired: bool,
    created_at: Time,
    updated_at: Time,
}

impl From<Counts> for CountsView {
    fn from(counts: Counts) -> Self {
        Self {
            available: counts.available,
            assigned: counts.assigned,
            locked: counts.locked,
            redeemed: counts.redeemed,
            void: counts.void,
        }
    }
}

impl From<Book> for BookView {
    fn from(book: Book) -> Self {
        let (rules, counts) = (book.rules, book.counts);
        Self {
            id: book.id.0,
            business_id: book.business.0,
            name: rules.name,
            description: rules.description,
            status: book.status.as_str().into(),
            code_kind: rules.code_kind.as_str().into(),
            max_codes_per_user: rules.max_codes_per_user,
            max_redeems_per_user: rules.max_redeems_per_user,
            total_codes_expected: MaybeUndefined::from_opt_null(rules.total_codes_expected),
            starts_at: rules.starts_at.map(Time::from),
            expires_at: rules.expires_at.map(Time::from),
            code_valid_days: rules.code_valid_days,
            lock_ttl_seconds: rules.lock_ttl_seconds,
            require_lock: rules.require_lock,
            discount: rules.discount.map(DiscountView::from),
            metadata: MaybeUndefined::from_opt_null(rules.metadata),
            generated_count: Some(counts.all()),
            counts: Some(counts.into()),
            is_active: book.is_active,
            is_expired: book.is_expired,
            created_at: book.created_at.into(),
            updated_at: book.updated_at.into(),
        }
    }
}

impl BookView {
    /// The book without the fields that a USER must not see.
    pub(crate) fn for_user(self) -> Self {
        Self {
            total_codes_expected: MaybeUndefined::Undefined,
            metadata: MaybeUndefined::Undefined,
            generated_count: None,
            counts: None,
            ..self
        }
    }
}
