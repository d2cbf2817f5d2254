//! A coupon as derived from its events, and what may be true of it at a given time.

use chrono::{DateTime, Utc};

/// The state of a coupon between two events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coupon {
    /// The number of its events.
    pub(crate) version: i64,
    pub(crate) status: String,
    pub(crate) holder: Option<String>,
    pub(crate) redeem_count: i64,
    /// The redemptions that were rolled back.
    pub(crate) rolled_back: Vec<String>,
    /// The lock, while the status is LOCKED.
    pub(crate) lock: Option<Lock>,
}

/// A lock as described by its answer. Fields are `None` if no client received the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lock {
    pub(crate) id: Option<String>,
    pub(crate) until: Option<DateTime<Utc>>,
}

/// A state, and the period in which it was read or changed. Clients and the database share a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observation<'a> {
    pub(crate) before: &'a Coupon,
    /// The state after the effect of the request; `None` if it had no effect.
    pub(crate) after: Option<&'a Coupon>,
    pub(crate) from: DateTime<Utc>,
    pub(crate) to: DateTime<Utc>,
}

impl Coupon {
    pub(crate) fn is_free(&self) -> bool {
        self.status == "AVAILABLE"
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.status == "LOCKED"
    }

    pub(crate) fn is_redeemed(&self) -> bool {
        self.status == "REDEEMED"
    }

    pub(crate) fn is_void(&self) -> bool {
        self.status == "VOID"
    }

    /// Whether its holder may lock and redeem it.
    pub(crate) fn may_be_used(&self) -> bool {
        matches!(self.status.as_str(), "ASSIGNED" | "LOCKED")
    }

    /// Whether it was ever redeemed, even if all redemptions were rolled back.
    pub(crate) fn was_used(&self) -> bool {
        self.redeem_count > 0 || !self.rolled_back.is_empty()
    }
}

impl Observation<'_> {
    /// Whether the coupon may have had a live lock.
    pub(crate) fn may_be_locked(&self) -> bool {
        self.before.lock.as_ref().is_some_and(|lock| lock.until.is_none_or(|until| until > self.from))
    }

    /// Whether the coupon may have had no lock. An expired lock counts as none.
    pub(crate) fn may_be_unlocked(&self) -> bool {
        self.before.lock.as_ref().is_none_or(|lock| lock.until.is_none_or(|until| until <= self.to))
    }

    pub(crate) fn may_be_locked_by(&self, id: &str) -> bool {
        self.may_be_locked() && self.lock_id().is_none_or(|lock| lock == id)
    }

    pub(crate) fn may_be_locked_by_another_than(&self, id: &str) -> bool {
        self.may_be_locked() && self.lock_id().is_none_or(|lock| lock != id)
    }

    fn lock_id(&self) -> Option<&str> {
        self.before.lock.as_ref()?.id.as_deref()
    }
}
