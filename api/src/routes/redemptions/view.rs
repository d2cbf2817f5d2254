//! Redemptions and their rollback in responses.

use cuponera_domain::coupon::redemption::Redemption;
use cuponera_store::RolledBack;
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;
use crate::routes::coupons::limit_shown;

/// A redemption that was rolled back, and what is left of its code.
#[derive(Debug, Object)]
#[oai(rename = "Rollback", rename_all = "camelCase")]
pub(crate) struct RollbackView {
    redemption_id: Uuid,
    code: String,
    /// `ASSIGNED`, `LOCKED` or `VOID`; `AVAILABLE` for a `SHARED` code.
    status: String,
    redeem_count: i32,
    /// Absent for a `SHARED` code without a limit in total.
    #[oai(skip_serializing_if_is_none)]
    max_redeems: Option<i32>,
    rolled_back_at: Time,
}

impl From<RolledBack> for RollbackView {
    fn from(done: RolledBack) -> Self {
        Self {
            redemption_id: done.id.0,
            code: done.code,
            status: done.status.as_str().into(),
            redeem_count: done.redeem_count,
            max_redeems: limit_shown(done.max_redeems),
            rolled_back_at: done.rolled_back_at.into(),
        }
    }
}

/// A use of a code, as it is kept.
#[derive(Debug, Object)]
#[oai(rename = "PastRedemption", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct PastRedemptionView {
    id: Uuid,
    code: String,
    coupon_book_id: Uuid,
    user_id: String,
    /// Its number among the uses of the code, from 1. The number of a use that was rolled back is not given again.
    use_number: i32,
    /// The caller's reference for the sale.
    reference: Option<String>,
    /// Data that the caller stored with it. Absent for a USER.
    metadata: Option<Value>,
    redeemed_at: Time,
    /// When it was rolled back; absent if it stands.
    rolled_back_at: Option<Time>,
}

impl From<Redemption> for PastRedemptionView {
    fn from(redemption: Redemption) -> Self {
        Self {
            id: redemption.id.0,
            code: redemption.code,
            coupon_book_id: redemption.book.0,
            user_id: redemption.user,
            use_number: redemption.use_number,
            reference: redemption.reference,
            metadata: redemption.metadata,
            redeemed_at: redemption.redeemed_at.into(),
            rolled_back_at: redemption.rolled_back_at.map(Time::from),
        }
    }
}

impl PastRedemptionView {
    /// The redemption as a USER may see it: without the metadata of the shop.
    pub(crate) fn for_user(self) -> Self {
        Self { metadata: None, ..self }
    }
}
