//! Things of core as the API shows them.

mod job;
mod warning;

use cuponera_core::book::{Book, Discount, DiscountKind};
use cuponera_core::coupon::state::{Coupon, CouponEvent};
use cuponera_core::page::Page;
use cuponera_core::store::{Account, ApiKey, Assigned, Locked, Membership, Redeemed};
use poem_openapi::types::{MaybeUndefined, ParseFromJSON, ToJSON, Type};
use poem_openapi::{Enum, Object};
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

pub(crate) use job::{JobView, RedriveView};

/// One page of a list.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(crate) struct List<T: Type + ToJSON + ParseFromJSON> {
    /// The items.
    data: Vec<T>,
    /// Send it as `cursor` for the next page; null at the end of the list, and only there.
    next_cursor: Option<String>,
    /// How many items there are on all pages, where that is cheap to know.
    #[oai(skip_serializing_if_is_none)]
    total: Option<i64>,
}

impl<T: Type + ToJSON + ParseFromJSON> List<T> {
    /// A page as a list.
    pub(crate) fn of<I>(page: Page<I>, view: impl FnMut(I) -> T) -> Self {
        let page = page.map(view);
        Self { data: page.items, next_cursor: page.next_cursor, total: page.total }
    }
}

/// How a discount counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "DiscountKind", rename_all = "UPPERCASE")]
pub(crate) enum DiscountKindView {
    /// A share of the price.
    Percent,
    /// An amount.
    Fixed,
}

/// What the shop gives for a code. It only informs: prices are the shop's.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Discount", skip_serializing_if_is_none)]
pub(crate) struct DiscountView {
    /// A share or an amount.
    #[oai(rename = "type")]
    pub(crate) kind: DiscountKindView,
    /// Percent (up to 100), or units of the currency.
    #[oai(validator(minimum(value = "0", exclusive)))]
    pub(crate) value: f64,
    /// ISO 4217; `FIXED` needs it.
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

/// A book's codes by state; they add up to `generatedCount`.
#[derive(Debug, Object)]
#[oai(rename = "Counts")]
struct CountsView {
    /// Free.
    available: i64,
    /// Held, not locked.
    assigned: i64,
    /// Held and locked.
    locked: i64,
    /// Used up.
    redeemed: i64,
    /// Ended for good.
    void: i64,
}

/// A coupon book.
///
/// A USER gets what the holder of a code needs. The fields that say how the campaign goes, or that its owner keeps for itself,
/// are absent.
#[derive(Debug, Object)]
#[oai(rename = "CouponBook", rename_all = "camelCase")]
pub(crate) struct BookView {
    pub(crate) id: Uuid,
    business_id: Uuid,
    name: String,
    description: Option<String>,
    /// `DRAFT`, `ACTIVE`, `PAUSED` or `CLOSED`.
    status: String,
    /// How many codes one user may hold or have redeemed; null: no limit.
    max_codes_per_user: Option<i32>,
    /// How often a code may be redeemed.
    max_redeems_per_user: i32,
    /// How many codes the owner means to make; it only informs. Absent for a USER: it is the owner's plan.
    total_codes_expected: MaybeUndefined<i64>,
    starts_at: Option<Time>,
    expires_at: Option<Time>,
    /// How long a lock holds if the call does not say.
    lock_ttl_seconds: i32,
    /// Whether redeeming needs a live lock.
    require_lock: bool,
    discount: Option<DiscountView>,
    /// Absent for a USER: it is the owner's own data.
    metadata: MaybeUndefined<Value>,
    /// All codes of the book. Absent for a USER: it says how the campaign goes.
    #[oai(skip_serializing_if_is_none)]
    generated_count: Option<i64>,
    /// Absent for a USER: they say how the campaign goes.
    #[oai(skip_serializing_if_is_none)]
    counts: Option<CountsView>,
    /// Whether codes can be given out and redeemed right now.
    is_active: bool,
    /// Whether `expiresAt` has passed.
    is_expired: bool,
    created_at: Time,
    updated_at: Time,
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
            max_codes_per_user: rules.max_codes_per_user,
            max_redeems_per_user: rules.max_redeems_per_user,
            total_codes_expected: MaybeUndefined::from_opt_null(rules.total_codes_expected),
            starts_at: rules.starts_at.map(Time::from),
            expires_at: rules.expires_at.map(Time::from),
            lock_ttl_seconds: rules.lock_ttl_seconds,
            require_lock: rules.require_lock,
            discount: rules.discount.map(DiscountView::from),
            metadata: MaybeUndefined::from_opt_null(rules.metadata),
            generated_count: Some(counts.all()),
            counts: Some(CountsView {
                available: counts.available,
                assigned: counts.assigned,
                locked: counts.locked,
                redeemed: counts.redeemed,
                void: counts.void,
            }),
            is_active: book.is_active,
            is_expired: book.is_expired,
            created_at: book.created_at.into(),
            updated_at: book.updated_at.into(),
        }
    }
}

impl BookView {
    /// The book as a USER may see it: without the owner's plan, metadata and counts.
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

/// A code of a book.
#[derive(Debug, Object)]
#[oai(rename = "Code", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct CodeView {
    code: String,
    /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
    status: String,
    user_id: Option<String>,
    redeem_count: i32,
    locked_until: Option<Time>,
    metadata: Option<Value>,
    created_at: Time,
}

impl From<Coupon> for CodeView {
    fn from(coupon: Coupon) -> Self {
        Self {
            code: coupon.code,
            status: coupon.status.as_str().into(),
            user_id: coupon.holder,
            redeem_count: coupon.redeem_count,
            locked_until: coupon.locked_until.map(Time::from),
            metadata: coupon.metadata,
            created_at: coupon.created_at.into(),
        }
    }
}

/// A coupon: a code and everything about it.
#[derive(Debug, Object)]
#[oai(rename = "Coupon", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct CouponView {
    /// The assignment, while somebody holds it.
    id: Option<Uuid>,
    code: String,
    coupon_book_id: Uuid,
    /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
    status: String,
    user_id: Option<String>,
    redeem_count: i32,
    max_redeems: i32,
    assigned_at: Option<Time>,
    locked_at: Option<Time>,
    locked_until: Option<Time>,
    redeemed_at: Option<Time>,
    metadata: Option<Value>,
    created_at: Time,
}

impl From<Coupon> for CouponView {
    fn from(coupon: Coupon) -> Self {
        Self {
            id: coupon.assignment.map(|id| id.0),
            code: coupon.code,
            coupon_book_id: coupon.book.0,
            status: coupon.status.as_str().into(),
            user_id: coupon.holder,
            redeem_count: coupon.redeem_count,
            max_redeems: coupon.max_redeems,
            assigned_at: coupon.assigned_at.map(Time::from),
            locked_at: coupon.locked_at.map(Time::from),
            locked_until: coupon.locked_until.map(Time::from),
            redeemed_at: coupon.redeemed_at.map(Time::from),
            metadata: coupon.metadata,
            created_at: coupon.created_at.into(),
        }
    }
}

/// A line of a coupon's history.
#[derive(Debug, Object)]
#[oai(rename = "CouponEvent", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct EventView {
    id: Uuid,
    /// `ASSIGN`, `LOCK`, `UNLOCK`, `EXPIRE`, `REDEEM`, `REVOKE`, `ROLLBACK` or `VOID`.
    action: String,
    from_status: String,
    to_status: String,
    user_id: Option<String>,
    /// Who did it: `admin:…`, `service:…`, `user:…`, `job:…` or `sweep`.
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

/// A code given to a user.
#[derive(Debug, Object)]
#[oai(rename = "Assignment", rename_all = "camelCase")]
pub(crate) struct AssignmentView {
    id: Uuid,
    code: String,
    coupon_book_id: Uuid,
    user_id: String,
    /// `ASSIGNED`; if the user held it already, where it stands by now.
    status: String,
    assigned_at: Time,
    #[oai(skip)]
    pub(crate) repeated: bool,
}

impl From<Assigned> for AssignmentView {
    fn from(assigned: Assigned) -> Self {
        Self {
            id: assigned.id.0,
            code: assigned.code,
            coupon_book_id: assigned.book.0,
            user_id: assigned.user,
            status: assigned.status.as_str().into(),
            assigned_at: assigned.assigned_at.into(),
            repeated: assigned.repeated,
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
    /// Pass it to redeem or unlock to be refused if the lock is no longer this one.
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
    pub(crate) code: String,
    /// `ASSIGNED`.
    pub(crate) status: String,
}

/// A use of a code.
#[derive(Debug, Object)]
#[oai(rename = "Redemption", rename_all = "camelCase")]
pub(crate) struct RedemptionView {
    code: String,
    /// `REDEEMED` after the last use, else `ASSIGNED`.
    status: String,
    redemption_id: Uuid,
    redeem_count: i32,
    max_redeems: i32,
    is_final_redeem: bool,
    redeemed_at: Time,
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
        }
    }
}

/// An account.
#[derive(Debug, Object)]
#[oai(rename = "User", rename_all = "camelCase")]
pub(crate) struct UserView {
    pub(crate) id: Uuid,
    email: String,
    /// `ADMIN` or `USER`.
    role: String,
    /// The holder id in coupons.
    user_id: String,
    /// Whether it may not log in.
    disabled: bool,
    created_at: Time,
}

impl From<Account> for UserView {
    fn from(account: Account) -> Self {
        Self {
            id: account.id.0,
            email: account.email,
            role: account.role.as_str().into(),
            user_id: account.user_id,
            disabled: account.is_disabled,
            created_at: account.created_at.into(),
        }
    }
}

/// A business that an account belongs to.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Membership")]
pub(crate) struct MembershipView {
    id: Uuid,
    name: String,
    /// `ADMIN` or `USER` there.
    role: String,
}

impl From<Membership> for MembershipView {
    fn from(membership: Membership) -> Self {
        Self { id: membership.business.0, name: membership.name, role: membership.role.as_str().into() }
    }
}

/// An API key, without its secret.
#[derive(Debug, Object)]
#[oai(rename = "ApiKey", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct ApiKeyView {
    pub(crate) id: Uuid,
    name: String,
    /// `ADMIN` or `SERVICE`.
    role: String,
    /// How the key begins, to tell keys apart.
    hint: String,
    /// The permissions that the key is limited to; absent if it has all of its role.
    permissions: Option<Vec<String>>,
    /// The books that the key is limited to; absent if it may touch all of them.
    coupon_book_ids: Option<Vec<Uuid>>,
    /// The account that made it; absent for keys that earlier versions made.
    created_by: Option<Uuid>,
    created_at: Time,
    /// When it expires; absent if never.
    expires_at: Option<Time>,
    /// When it was last used, to the minute; absent if never.
    last_used_at: Option<Time>,
    /// The key itself: shown here once and never again.
    key: Option<String>,
}

impl ApiKeyView {
    /// The same with the key itself.
    pub(crate) fn showing(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.0,
            name: key.name,
            role: key.role.as_str().into(),
            hint: key.hint,
            permissions: key.scope.permissions.map(|permissions| {
                permissions.into_iter().map(|permission| permission.as_str().to_owned()).collect()
            }),
            coupon_book_ids: key.scope.books.map(|books| books.into_iter().map(|book| book.0).collect()),
            created_by: key.created_by.map(|account| account.0),
            created_at: key.created_at.into(),
            expires_at: key.expires_at.map(Time::from),
            last_used_at: key.last_used_at.map(Time::from),
            key: None,
        }
    }
}
