//! Coupons, their changes and their history in responses.

use cuponera_domain::coupon::state::{Coupon, CouponEvent, UsesOfUser};
use cuponera_store::{CouponOfUser, Locked, Redeemed, Unlocked, Visibility};
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

/// A coupon: a code with its assignment and lock, or a code that many users use.
#[derive(Debug, Object)]
#[oai(rename = "Coupon", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct CouponView {
    /// The id of the assignment, while the code is assigned.
    id: Option<Uuid>,
    code: String,
    coupon_book_id: Uuid,
    /// `codeKind` of the book.
    kind: String,
    /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`; of a `SHARED` code `AVAILABLE`, `REDEEMED` or `VOID`.
    status: String,
    /// Whether the code is suspended: it can be neither locked nor redeemed.
    suspended: bool,
    user_id: Option<String>,
    /// The number of redemptions; of a `SHARED` code those of all users.
    redeem_count: i32,
    /// The maximum number of redemptions. Absent for a `SHARED` code.
    max_redeems: Option<i32>,
    /// The maximum number of redemptions of a `SHARED` code in total; absent if there is none.
    max_redemptions: Option<i32>,
    /// The maximum number of redemptions of a `SHARED` code by each user: its own, or that of its book.
    max_redeems_per_user: Option<i32>,
    /// The number of uses of a `SHARED` code that users have locked.
    locked_count: Option<i32>,
    /// The uses of a `SHARED` code by the user that the request names.
    user: Option<UserUsesView>,
    assigned_at: Option<Time>,
    locked_at: Option<Time>,
    locked_until: Option<Time>,
    redeemed_at: Option<Time>,
    /// When a `SHARED` code starts; absent if it starts with its book.
    starts_at: Option<Time>,
    /// When the code expires: for its holder, or if it is `SHARED`; absent if it expires with its book.
    expires_at: Option<Time>,
    /// Absent for a USER if the code is `SHARED`.
    metadata: Option<Value>,
    created_at: Time,
}

/// The uses of a `SHARED` code by a user.
#[derive(Debug, Object)]
#[oai(rename = "UserUses", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct UserUsesView {
    /// The number of redemptions of the user.
    redeem_count: i32,
    /// The maximum number of redemptions of the user.
    max_redeems: i32,
    /// The end of the user's lock.
    locked_until: Option<Time>,
}

impl CouponView {
    /// With the uses by a user, if the code is SHARED.
    pub(crate) fn with_uses(mut self, uses: Option<UsesOfUser>) -> Self {
        self.user = uses.zip(self.max_redeems_per_user).map(|(uses, max_redeems)| UserUsesView {
            redeem_count: uses.redeem_count,
            max_redeems,
            locked_until: uses.locked_until.map(Time::from),
        });
        self
    }
}

impl CouponView {
    /// As the caller may see it. The data of the shop with a code of all users is not for each of them.
    pub(crate) fn seen_by(mut self, visibility: Visibility) -> Self {
        if visibility == Visibility::OwnOnly && self.locked_count.is_some() {
            self.metadata = None;
        }
        self
    }
}

impl From<CouponOfUser> for CouponView {
    fn from(of_user: CouponOfUser) -> Self {
        Self::from(of_user.coupon).with_uses(of_user.uses)
    }
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        let shared = coupon.shared.as_ref();
        Self {
            id: coupon.assignment.map(|id| id.0),
            code: coupon.code,
            coupon_book_id: coupon.book.0,
            kind: coupon.kind.as_str().into(),
            status: coupon.status.as_str().into(),
            suspended: coupon.suspended_at.is_some(),
            user_id: coupon.holder,
            redeem_count: coupon.redeem_count,
            max_redeems: shared.is_none().then_some(coupon.max_redeems),
            max_redemptions: shared.and_then(|shared| shared.max_redemptions),
            max_redeems_per_user: shared.map(|shared| shared.max_redeems_per_user),
            locked_count: shared.map(|shared| shared.locked_count),
            user: None,
            starts_at: shared.and_then(|shared| shared.starts_at).map(Time::from),
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
    /// `ASSIGN`, `LOCK`, `UNLOCK`, `EXPIRE`, `REDEEM`, `REVOKE`, `ROLLBACK`, `VOID` or `UPDATE`.
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
    /// The reason that was given. Of an `UPDATE`, the changes. `renewed` if a `LOCK` renewed the lock of a `SHARED` code.
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
#[oai(rename = "Lock", rename_all = "camelCase")]
pub(crate) struct LockView {
    code: String,
    /// `LOCKED`.
    status: String,
    /// If a redeem or unlock request names it, the request is rejected once another lock exists.
    lock_id: Uuid,
    locked_at: Time,
    locked_until: Time,
}

impl From<Locked> for LockView {
    fn from(locked: Locked) -> Self {
        Self {
            code: locked.code,
            status: "LOCKED".into(),
            lock_id: locked.lock.0,
            locked_at: locked.locked_at.into(),
            locked_until: locked.locked_until.into(),
        }
    }
}

/// A code that is not locked.
#[derive(Debug, Object)]
#[oai(rename = "Unlock")]
pub(crate) struct UnlockView {
    code: String,
    /// `ASSIGNED`; `AVAILABLE` for a `SHARED` code.
    status: String,
}

impl From<Unlocked> for UnlockView {
    fn from(unlocked: Unlocked) -> Self {
        Self { code: unlocked.code, status: without_lock(unlocked.is_shared).into() }
    }
}

/// The status of a code with uses left and without a lock.
fn without_lock(is_shared: bool) -> &'static str {
    if is_shared { "AVAILABLE" } else { "ASSIGNED" }
}

/// A redemption of a code.
#[derive(Debug, Object)]
#[oai(rename = "Redemption", rename_all = "camelCase")]
pub(crate) struct RedemptionView {
    code: String,
    /// `REDEEMED` after the last allowed redemption, otherwise `ASSIGNED`, or `AVAILABLE` for a `SHARED` code.
    status: String,
    redemption_id: Uuid,
    /// The number of redemptions, this one included; of a `SHARED` code those of all users.
    redeem_count: i32,
    /// The maximum number of redemptions; of a `SHARED` code in total, absent if there is none.
    #[oai(skip_serializing_if_is_none)]
    max_redeems: Option<i32>,
    is_final_redeem: bool,
    redeemed_at: Time,
    /// Whether an earlier request with the same `reference` made this redemption.
    replayed: bool,
}

impl From<Redeemed> for RedemptionView {
    fn from(redeemed: Redeemed) -> Self {
        let is_final_redeem = redeemed.is_final();
        Self {
            code: redeemed.code,
            status: if is_final_redeem { "REDEEMED" } else { without_lock(redeemed.is_shared) }.into(),
            redemption_id: redeemed.redemption.0,
            redeem_count: redeemed.redeem_count,
            max_redeems: limit_shown(redeemed.max_redeems),
            is_final_redeem,
            redeemed_at: redeemed.redeemed_at.into(),
            replayed: redeemed.replayed,
        }
    }
}

/// A limit of a code; `None` for a SHARED code without a limit in total.
pub(crate) fn limit_shown(limit: i32) -> Option<i32> {
    (limit != i32::MAX).then_some(limit)
}

/// A redemption would be allowed now.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Validation {
    /// Always true: otherwise the response is the problem that redeem would return.
    pub(super) valid: bool,
    pub(super) coupon: CouponView,
}

/// A code that has ended permanently.
#[derive(Debug, Object)]
#[oai(rename = "VoidedCode")]
pub(super) struct VoidView {
    pub(super) code: String,
    /// `VOID`.
    pub(super) status: String,
}
