//! Coupons, their changes and their history in responses.

use cuponera_domain::coupon::state::{Coupon, CouponEvent};
use cuponera_domain::money::Amounts;
use cuponera_store::{Locked, Redeemed};
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;
use crate::routes::amounts::{DiscountOnAmount, text};

/// A coupon: a code with its assignment and lock.
#[derive(Debug, Object)]
#[oai(rename = "Coupon", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct CouponView {
    /// The id of the assignment, while the code is assigned.
    id: Option<Uuid>,
    code: String,
    coupon_book_id: Uuid,
    /// `codeKind` of the book.
    kind: String,
    /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
    status: String,
    user_id: Option<String>,
    redeem_count: i32,
    max_redeems: i32,
    assigned_at: Option<Time>,
    locked_at: Option<Time>,
    locked_until: Option<Time>,
    redeemed_at: Option<Time>,
    /// When the code expires for its holder; absent if it expires with its book.
    expires_at: Option<Time>,
    metadata: Option<Value>,
    created_at: Time,
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        Self {
            id: coupon.assignment.map(|id| id.0),
            code: coupon.code,
            coupon_book_id: coupon.book.0,
            kind: coupon.kind.as_str().into(),
            status: coupon.status.as_str().into(),
            user_id: coupon.holder,
            redeem_count: coupon.redeem_count,
            max_redeems: coupon.max_redeems,
            assigned_at: coupon.assigned_at.map(Time::from),
            locked_at: coupon.locked_at.map(Time::from),
            locked_until: coupon.locked_until.map(Time::from),
            redeemed_at: coupon.redeemed_at.map(Time::from),
            expires_at: coupon.expires_at.map(Time::from),
            metadata: coupon.metadata,
            created_at: coupon.created_at.into(),
        }
    }
}

/// An event of a coupon's history.
#[derive(Debug, Object)]
#[oai(rename = "CouponEvent", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct EventView {
    id: Uuid,
    /// `ASSIGN`, `LOCK`, `UNLOCK`, `EXPIRE`, `REDEEM`, `REVOKE`, `ROLLBACK` or `VOID`.
    action: String,
    from_status: String,
    to_status: String,
    user_id: Option<String>,
    /// The actor: `admin:…`, `service:…`, `user:…`, `job:…` or `sweep`.
    actor: String,
    at: Time,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
    reason: Option<String>,
    redeem_count: Option<i32>,
}

impl From<CouponEvent> for EventView {
    fn from(event: CouponEvent) -> Self {
        Self {
            id: event.id.0,
            action: event.action,
            from_status: event.from_status.as_str().into(),
            to_status: event.to_status.as_str().into(),
            user_id: event.user,
            actor: event.actor,
            at: event.at.into(),
            ip: event.ip,
            user_agent: event.user_agent,
            request_id: event.request_id,
            reason: event.reason,
            redeem_count: event.redeem_count,
        }
    }
}

/// A lock.
#[derive(Debug, Object)]
#[oai(rename = "Lock", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct LockView {
    code: String,
    /// `LOCKED`.
    status: String,
    /// If a redeem or unlock request names it, the request is rejected once another lock exists.
    lock_id: Uuid,
    locked_at: Time,
    locked_until: Time,
    /// The discount on the amount of the request; absent without one.
    discount: Option<DiscountOnAmount>,
}

impl From<Locked> for LockView {
    fn from(locked: Locked) -> Self {
        Self {
            code: locked.code,
            status: "LOCKED".into(),
            lock_id: locked.lock.0,
            locked_at: locked.locked_at.into(),
            locked_until: locked.locked_until.into(),
            discount: locked.amounts.map(DiscountOnAmount::from),
        }
    }
}

/// A code that is not locked.
#[derive(Debug, Object)]
#[oai(rename = "Unlock")]
pub(crate) struct UnlockView {
    pub(crate) code: String,
    /// `ASSIGNED`.
    pub(crate) status: String,
}

/// A redemption of a code.
#[derive(Debug, Object)]
#[oai(rename = "Redemption", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct RedemptionView {
    code: String,
    /// `REDEEMED` after the last allowed redemption, otherwise `ASSIGNED`.
    status: String,
    redemption_id: Uuid,
    redeem_count: i32,
    max_redeems: i32,
    is_final_redeem: bool,
    redeemed_at: Time,
    /// Whether an earlier request with the same `reference` made this redemption.
    replayed: bool,
    /// The amount before the discount, of the request that made the redemption. Absent with the three others if it had none.
    amount: Option<String>,
    /// The discount of the book on the amount.
    discount: Option<String>,
    /// The amount minus the discount.
    total: Option<String>,
    currency: Option<String>,
}

impl From<Redeemed> for RedemptionView {
    fn from(redeemed: Redeemed) -> Self {
        let is_final_redeem = redeemed.is_final();
        Self {
            code: redeemed.code,
            status: if is_final_redeem { "REDEEMED" } else { "ASSIGNED" }.into(),
            redemption_id: redeemed.redemption.0,
            redeem_count: redeemed.redeem_count,
            max_redeems: redeemed.max_redeems,
            is_final_redeem,
            redeemed_at: redeemed.redeemed_at.into(),
            replayed: redeemed.replayed,
            amount: text(redeemed.amounts.map(Amounts::amount)),
            discount: text(redeemed.amounts.map(Amounts::discount)),
            total: text(redeemed.amounts.map(Amounts::total)),
            currency: text(redeemed.amounts.map(Amounts::currency)),
        }
    }
}

/// A redemption would be allowed now.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct Validation {
    /// Always true: otherwise the response is the problem that redeem would return.
    pub(super) valid: bool,
    pub(super) coupon: CouponView,
    /// The discount on the amount of the request; absent without one.
    pub(super) discount: Option<DiscountOnAmount>,
}

/// A code that has ended permanently.
#[derive(Debug, Object)]
#[oai(rename = "VoidedCode")]
pub(super) struct VoidView {
    pub(super) code: String,
    /// `VOID`.
    pub(super) status: String,
}
