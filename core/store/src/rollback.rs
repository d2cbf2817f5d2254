//! Rollback of redemptions: the code gets one use back, once for each redemption.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;

use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::RedemptionId;

use super::batch::parameters::{BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Why};
use super::shared::{SharedAsk, SharedEffect};

/// Give the use of a redemption back.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// The redemption.
    pub redemption: RedemptionId,
    /// Its code, which never changes.
    pub code: String,
    /// The user that must have made it; any if absent.
    pub user: Option<String>,
    /// The reason, for the event.
    pub reason: String,
}

/// A redemption that was rolled back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolledBack {
    /// The redemption.
    pub id: RedemptionId,
    /// Its code.
    pub code: String,
    /// The effective status of the code.
    pub status: CouponStatus,
    /// The number of redemptions that the code still has.
    pub redeem_count: i32,
    /// The maximum number of redemptions; `i32::MAX` for a SHARED code without a limit.
    pub max_redeems: i32,
    /// When it was rolled back.
    pub rolled_back_at: DateTime<Utc>,
    /// The version of the coupon's row.
    pub version: i32,
}

impl Transition for Rollback {
    type Outcome = RolledBack;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.code
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        apply_batch!(
            pool,
            calls,
            "src/sql/rollback.sql",
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.redemption.0),
            &column(calls, |call| call.ask.user.clone()) as _,
            &column(calls, |call| call.ask.reason.clone()),
            waits,
        )
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_batch!(
            pool,
            calls,
            "src/sql/rollback_why.sql",
            |_| false,
            &column(calls, |call| call.ask.redemption.0),
            &column(calls, |call| call.ask.user.clone()) as _,
        )
    }

    fn of_shared(&self) -> Option<SharedAsk> {
        let (redemption, user, reason) = (self.redemption, self.user.clone(), self.reason.clone());
        Some(SharedAsk::RollBack { redemption, user, reason })
    }

    fn outcome_of_shared(effect: SharedEffect) -> Option<RolledBack> {
        match effect {
            SharedEffect::RolledBack(rolled_back) => Some(rolled_back),
            SharedEffect::Locked(_) | SharedEffect::Unlocked(_) | SharedEffect::Redeemed(_) => None,
        }
    }
}
