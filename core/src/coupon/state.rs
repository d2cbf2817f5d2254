//! The states of a coupon, and what happens to it.
//!
//! ```text
//! AVAILABLE ──assign──▶ ASSIGNED ──lock──▶ LOCKED ──redeem (last use)──▶ REDEEMED
//!                        ▲  ▲             │  │
//!                        │  └──unlock─────┘  │   unlock, or the TTL runs out
//!                        └──redeem (not the last use)
//! ```
//! The database is the arbiter: each statement of `store` repeats its precondition and is the transition. A lock whose
//! time has passed counts as none, swept or not, so what is shown is [`effective`] and never the stored word alone.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{AssignmentId, BookId, EventId};

/// Where a coupon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[serde(rename_all = "UPPERCASE")]
#[sqlx(type_name = "coupon_status", rename_all = "UPPERCASE")]
pub enum CouponStatus {
    /// Free.
    Available,
    /// Held.
    Assigned,
    /// Held, and kept for its holder until a time.
    Locked,
    /// Used as often as allowed.
    Redeemed,
    /// Ended for good.
    Void,
}

impl CouponStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Available, Self::Assigned, Self::Locked, Self::Redeemed, Self::Void];

    /// As the API and the database spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Assigned => "ASSIGNED",
            Self::Locked => "LOCKED",
            Self::Redeemed => "REDEEMED",
            Self::Void => "VOID",
        }
    }

    /// The state of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// What a stored state means at a time: a lock that has run out is none.
pub fn effective(
    stored: CouponStatus,
    locked_until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> CouponStatus {
    match stored {
        CouponStatus::Locked if locked_until.is_none_or(|until| until <= now) => CouponStatus::Assigned,
        CouponStatus::Available
        | CouponStatus::Assigned
        | CouponStatus::Locked
        | CouponStatus::Redeemed
        | CouponStatus::Void => stored,
    }
}

/// A coupon as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Coupon {
    /// The code.
    pub code: String,
    /// Its book.
    pub book: BookId,
    /// Where it stands; see [`effective`].
    pub status: CouponStatus,
    /// Who holds it.
    pub holder: Option<String>,
    /// The giving it is held by.
    pub assignment: Option<AssignmentId>,
    /// How often it was used.
    pub redeem_count: i32,
    /// How often it may be used.
    pub max_redeems: i32,
    /// Since when it is held.
    pub assigned_at: Option<DateTime<Utc>>,
    /// Since when it is locked.
    pub locked_at: Option<DateTime<Utc>>,
    /// Until when.
    pub locked_until: Option<DateTime<Utc>>,
    /// When it was last used.
    pub redeemed_at: Option<DateTime<Utc>>,
    /// What the import kept with it.
    pub metadata: Option<Value>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// One line of the audit trail.
#[derive(Debug, Clone, PartialEq)]
pub struct CouponEvent {
    /// Its id.
    pub id: EventId,
    /// What happened: `ASSIGN LOCK UNLOCK EXPIRE REDEEM REVOKE ROLLBACK VOID`.
    pub action: String,
    /// From which state.
    pub from_status: CouponStatus,
    /// To which.
    pub to_status: CouponStatus,
    /// The holder it concerns.
    pub user: Option<String>,
    /// Who did it.
    pub actor: String,
    /// When, by the database's clock.
    pub at: DateTime<Utc>,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's name for itself.
    pub user_agent: Option<String>,
    /// The request that asked for it.
    pub request_id: Option<String>,
    /// Why, where somebody said.
    pub reason: Option<String>,
    /// How many uses there were then, for uses.
    pub redeem_count: Option<i32>,
    /// Its number among the coupon's events, gapless from 1.
    pub version: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_counts_until_its_time_and_not_a_moment_longer() {
        let now = Utc::now();
        let until = |seconds| Some(now + chrono::TimeDelta::seconds(seconds));
        assert_eq!(effective(CouponStatus::Locked, until(1), now), CouponStatus::Locked);
        assert_eq!(effective(CouponStatus::Locked, until(0), now), CouponStatus::Assigned);
        assert_eq!(effective(CouponStatus::Redeemed, until(-1), now), CouponStatus::Redeemed);
    }
}
