//! The states of a coupon, and its events.
//!
//! ```text
//! AVAILABLE ──assign──▶ ASSIGNED ──lock──▶ LOCKED ──redeem (last use)──▶ REDEEMED
//!     ▲                  │  ▲  ▲             │  │                          │
//!     └────revoke────────┘  │  └──unlock─────┘  │   unlock, or the TTL     │
//!                           │                   │   expires                │
//!                           ├──redeem (not the last use)                   │
//!                           └──rollback────────────────────────────────────┘
//! AVAILABLE, ASSIGNED, LOCKED ──void──▶ VOID
//! ```
//! In a book of kind [`CodeKind::Bearer`], lock and redeem also assign a free code, as the step before their own.
//! A code is also redeemed from ASSIGNED, without a lock.
//! A code of kind [`CodeKind::Shared`] is AVAILABLE, REDEEMED when all its uses are, or VOID: see [`super::shared`].
//! The database decides: each statement of `store` repeats its precondition and is the transition. An
//! expired lock counts as absent, whether or not the sweep has ended it. Therefore answers show
//! [`effective`] instead of the stored status.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::book::CodeKind;
use crate::id::{AssignmentId, BookId, EventId};

/// The status of a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CouponStatus {
    /// Free.
    Available,
    /// Assigned to a holder.
    Assigned,
    /// Assigned, and locked for its holder until a time.
    Locked,
    /// Redeemed as often as allowed.
    Redeemed,
    /// Void permanently.
    Void,
}

impl CouponStatus {
    /// All statuses.
    pub const ALL: [Self; 5] = [Self::Available, Self::Assigned, Self::Locked, Self::Redeemed, Self::Void];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "AVAILABLE",
            Self::Assigned => "ASSIGNED",
            Self::Locked => "LOCKED",
            Self::Redeemed => "REDEEMED",
            Self::Void => "VOID",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// The effective status at a time: an expired lock counts as absent.
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

/// A coupon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coupon {
    /// The code.
    pub code: String,
    /// Its book.
    pub book: BookId,
    /// The kind of the codes of its book.
    pub kind: CodeKind,
    /// Its status; see [`effective`].
    pub status: CouponStatus,
    /// The user id of the holder.
    pub holder: Option<String>,
    /// The assignment to the holder.
    pub assignment: Option<AssignmentId>,
    /// Number of redemptions.
    pub redeem_count: i32,
    /// Maximum number of redemptions.
    pub max_redeems: i32,
    /// Time of the assignment.
    pub assigned_at: Option<DateTime<Utc>>,
    /// Time of the lock.
    pub locked_at: Option<DateTime<Utc>>,
    /// Expiry of the lock.
    pub locked_until: Option<DateTime<Utc>>,
    /// Time of the last redemption.
    pub redeemed_at: Option<DateTime<Utc>>,
    /// When it expires for its holder.
    pub expires_at: Option<DateTime<Utc>>,
    /// Metadata from the import.
    pub metadata: Option<Value>,
    /// Creation time.
    pub created_at: DateTime<Utc>,
    /// Since when it is suspended.
    pub suspended_at: Option<DateTime<Utc>>,
    /// The limits and locks of a SHARED code.
    pub shared: Option<SharedPart>,
}

/// What only a SHARED code has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPart {
    /// Number of uses in total; no limit if absent.
    pub max_redemptions: Option<i32>,
    /// Number of uses of each user: its own, or that of its book.
    pub max_redeems_per_user: i32,
    /// The code cannot be locked and redeemed before. `expires_at` of the coupon is the end.
    pub starts_at: Option<DateTime<Utc>>,
    /// Number of live locks.
    pub locked_count: i32,
}

/// The uses of a SHARED code by one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsesOfUser {
    /// Number of redemptions that stand.
    pub redeem_count: i32,
    /// The end of the user's live lock.
    pub locked_until: Option<DateTime<Utc>>,
}

impl Coupon {
    /// Whether any user may lock and redeem the code, and becomes its holder.
    pub fn is_open_to_bearers(&self) -> bool {
        match self.kind {
            CodeKind::Bearer => self.status == CouponStatus::Available,
            CodeKind::Unique | CodeKind::Shared => false,
        }
    }

    /// Whether each user of the business sees the code, although no user holds it.
    pub fn is_visible_to_all(&self) -> bool {
        self.kind == CodeKind::Shared || self.is_open_to_bearers()
    }
}

/// The actions of events. `UPDATE` is a change of the limits of a code, or of its suspension.
pub const ACTIONS: [&str; 9] =
    ["ASSIGN", "LOCK", "UNLOCK", "EXPIRE", "REDEEM", "REVOKE", "ROLLBACK", "VOID", "UPDATE"];

/// An event in the history of a coupon.
#[derive(Debug, Clone, PartialEq)]
pub struct CouponEvent {
    /// Its id.
    pub id: EventId,
    /// The action, one of [`ACTIONS`].
    pub action: String,
    /// The status before.
    pub from_status: CouponStatus,
    /// The status after.
    pub to_status: CouponStatus,
    /// The holder concerned.
    pub user: Option<String>,
    /// The actor, for example an account or an API key.
    pub actor: String,
    /// Time, by the database's clock.
    pub at: DateTime<Utc>,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's User-Agent.
    pub user_agent: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The reason, if one was given.
    pub reason: Option<String>,
    /// The number of redemptions after it, for redemptions.
    pub redeem_count: Option<i32>,
    /// Its number among the coupon's events, from 1 without gaps.
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
