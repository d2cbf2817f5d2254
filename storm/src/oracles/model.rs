//! A coupon as its events tell it, and what may be said of it at a moment.

use chrono::{DateTime, Utc};

/// The state of a coupon between two events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Coupon {
    /// How many events it has had.
    pub(crate) version: i64,
    pub(crate) status: String,
    pub(crate) holder: Option<String>,
    pub(crate) redeem_count: i64,
    /// The lock, while it is LOCKED.
    pub(crate) lock: Option<Lock>,
}

/// A lock as the answer told it. What no client was told is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lock {
    pub(crate) id: Option<String>,
    pub(crate) until: Option<DateTime<Utc>>,
}

/// A state and the time in which it was looked at or changed. Clients and the database share a clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) before: &'a Coupon,
    /// The state after the effect of the request; none if it had no effect.
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
}

impl Moment<'_> {
    /// Whether there may have been a live lock.
    pub(crate) fn may_be_locked(&self) -> bool {
        self.before.lock.as_ref().is_some_and(|lock| lock.until.is_none_or(|until| until > self.from))
    }

    /// Whether there may have been none: a lock that has run out counts as none.
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
