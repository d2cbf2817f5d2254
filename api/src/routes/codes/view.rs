//! Codes and patterns in responses.

use cuponera_domain::coupon::state::Coupon;
use poem_openapi::Object;
use serde_json::Value;

use crate::http::time::Time;

/// A code of a book.
#[derive(Debug, Object)]
#[oai(rename = "Code", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct CodeView {
    code: String,
    /// `AVAILABLE`, `ASSIGNED`, `LOCKED`, `REDEEMED` or `VOID`.
    status: String,
    /// Whether the code is suspended.
    suspended: bool,
    user_id: Option<String>,
    redeem_count: i32,
    /// The maximum number of redemptions of a `SHARED` code in total; absent if there is none.
    max_redemptions: Option<i32>,
    /// The maximum number of redemptions of a `SHARED` code by each user.
    max_redeems_per_user: Option<i32>,
    /// The number of uses of a `SHARED` code that users have locked.
    locked_count: Option<i32>,
    /// When a `SHARED` code starts; absent if it starts with its book.
    starts_at: Option<Time>,
    /// When it was assigned to its holder.
    assigned_at: Option<Time>,
    locked_until: Option<Time>,
    /// The last redemption.
    redeemed_at: Option<Time>,
    /// When the code expires: for its holder, or if it is `SHARED`; absent if it expires with its book.
    expires_at: Option<Time>,
    metadata: Option<Value>,
    created_at: Time,
}

impl From<Coupon> for CodeView {
    fn from(coupon: Coupon) -> Self {
        let shared = coupon.shared.as_ref();
        Self {
            code: coupon.code,
            status: coupon.status.as_str().into(),
            suspended: coupon.suspended_at.is_some(),
            max_redemptions: shared.and_then(|shared| shared.max_redemptions),
            max_redeems_per_user: shared.map(|shared| shared.max_redeems_per_user),
            locked_count: shared.map(|shared| shared.locked_count),
            starts_at: shared.and_then(|shared| shared.starts_at).map(Time::from),
            user_id: coupon.holder,
            redeem_count: coupon.redeem_count,
            assigned_at: coupon.assigned_at.map(Time::from),
            locked_until: coupon.locked_until.map(Time::from),
            redeemed_at: coupon.redeemed_at.map(Time::from),
            expires_at: coupon.expires_at.map(Time::from),
            metadata: coupon.metadata,
            created_at: coupon.created_at.into(),
        }
    }
}

/// The capacity of a pattern.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct Capacity {
    /// The pattern in its canonical form.
    pub(super) pattern: String,
    /// The number of codes of the pattern, up to 2^64 - 1.
    #[oai(rename = "capacity")]
    pub(super) codes: u64,
    /// The number of codes generated from it so far, in all books of the business.
    pub(super) used: u64,
    /// The number of codes that are left.
    pub(super) remaining: u64,
    /// The probability that one guess is a code generated from it.
    pub(super) chance_of_hit: f64,
    /// Examples of the format. They are not codes that are or will be generated.
    pub(super) samples: Vec<String>,
}
