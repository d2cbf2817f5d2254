//! SHARED codes: a code without a holder, which many users lock and redeem. The transitions of a code and of one of its users.
//!
//! A lock is a hold of one use for one user. Live locks count as uses in all limits, so no limit rejects the redemption of a locked use. An
//! expired lock counts as absent, whether or not the sweep has ended it; the next transition of its user ends it with `EXPIRE`.
//!
//! The functions are total: they change the state and return the events, or return the rejection and change nothing. `store` reads the state
//! under the lock of the code's row, and writes the result only at the version that was read. The calls of a batch are decided one after the
//! other on the same state, so a call that one limit rejects takes nothing from another limit.

use chrono::{DateTime, TimeDelta, Utc};

use super::state::CouponStatus;
use crate::id::LockId;
use crate::rejection::Rejection;

/// The reason in the event of a renewed lock: the statuses of a SHARED code do not show the lock of a user.
pub const RENEWED: &str = "renewed";

/// What a code and its book allow.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedRules {
    /// The rejection of each lock and redemption now, because of the status or time of the code, or of its book.
    pub rejection: Option<Rejection>,
    /// Number of uses in total; no limit if absent.
    pub max_redemptions: Option<i32>,
    /// Number of uses of each user.
    pub max_redeems_per_user: i32,
    /// Number of codes of the book that a user may use; no limit if absent.
    pub max_codes_per_user: Option<i32>,
    /// Whether a redemption requires a live lock.
    pub require_lock: bool,
    /// TTL of a lock if the call sets none.
    pub lock_ttl_seconds: i32,
    /// When the code expires. No lock ends later.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A SHARED code.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedCode {
    /// What it allows.
    pub rules: SharedRules,
    /// The time of the decisions.
    pub now: DateTime<Utc>,
    /// The time of the next event. The events of a code have different times, so a redemption and its event are found by their time.
    pub next_at: DateTime<Utc>,
    /// `AVAILABLE`, `REDEEMED` or `VOID`.
    pub status: CouponStatus,
    /// Number of its events.
    pub version: i32,
    /// Number of redemptions that stand.
    pub redeem_count: i32,
    /// Number of the last redemption. Numbers are not given again.
    pub last_use: i32,
    /// Number of locks of its users, including expired ones.
    pub lock_count: i32,
    /// Number of expired locks among them.
    pub expired_count: i32,
    /// The first end of a live lock.
    pub first_end: Option<DateTime<Utc>>,
    /// Time of the last redemption. A rollback leaves it, unless no redemption stands.
    pub redeemed_at: Option<DateTime<Utc>>,
    /// Whether it was ever locked.
    pub was_locked: bool,
}

/// The uses of a code by one user.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SharedUser {
    /// Number of redemptions that stand.
    pub used: i32,
    /// The user's lock, live or expired.
    pub lock: Option<SharedLock>,
    /// The end of the last lock, if it expired and was ended since.
    pub expired_at: Option<DateTime<Utc>>,
    /// When the user first locked or redeemed the code.
    pub first_at: Option<DateTime<Utc>>,
}

/// A lock of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedLock {
    /// Its id.
    pub id: LockId,
    /// When it was taken.
    pub at: DateTime<Utc>,
    /// When it expires.
    pub until: DateTime<Utc>,
}

/// An event of a code.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedEvent {
    /// The action, one of [`ACTIONS`](super::state::ACTIONS).
    pub action: &'static str,
    /// Its time.
    pub at: DateTime<Utc>,
    /// Its number among the events of the code.
    pub version: i32,
    /// The status of the code before.
    pub from: CouponStatus,
    /// The status of the code after.
    pub to: CouponStatus,
    /// The number of redemptions after it, for redemptions and rollbacks.
    pub redeem_count: Option<i32>,
    /// [`RENEWED`], for the renewal of a lock.
    pub reason: Option<&'static str>,
}

/// The events of a transition.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedEvents {
    /// The end of an expired lock of the user, before the own event.
    pub expired: Option<SharedEvent>,
    /// The event of the transition.
    pub own: SharedEvent,
}

impl IntoIterator for SharedEvents {
    type Item = SharedEvent;
    type IntoIter = std::iter::Chain<std::option::IntoIter<SharedEvent>, std::iter::Once<SharedEvent>>;

    /// In the order of their versions.
    fn into_iter(self) -> Self::IntoIter {
        self.expired.into_iter().chain(std::iter::once(self.own))
    }
}

/// A code, one of its users, and the number of codes of the book that the user has locked or redeemed.
#[derive(Debug)]
pub struct SharedUse<'s> {
    /// The code.
    pub code: &'s mut SharedCode,
    /// The user.
    pub user: &'s mut SharedUser,
    /// The user's codes of the book.
    pub codes_of_user: &'s mut i32,
}

impl SharedCode {
    /// Number of live locks.
    pub fn live_locks(&self) -> i32 {
        self.lock_count - self.expired_count
    }

    /// Whether all uses are redeemed.
    pub fn is_used_up(&self) -> bool {
        self.rules.max_redemptions.is_some_and(|most| self.redeem_count >= most)
    }

    fn record(&mut self, action: &'static str, to: CouponStatus) -> SharedEvent {
        self.version += 1;
        let at = self.next_at;
        self.next_at = at + TimeDelta::microseconds(1);
        let from = std::mem::replace(&mut self.status, to);
        SharedEvent { action, at, version: self.version, from, to, redeem_count: None, reason: None }
    }
}

impl SharedUser {
    /// The user's lock, if it is live.
    pub fn live_lock(&self, now: DateTime<Utc>) -> Option<SharedLock> {
        self.lock.filter(|lock| lock.until > now)
    }

    /// Whether the code is one of those that count in `max_codes_per_user`.
    fn is_using(&self, now: DateTime<Utc>) -> bool {
        self.used > 0 || self.live_lock(now).is_some()
    }
}

impl SharedUse<'_> {
    /// Locks a use for the user, or renews the user's live lock. `new` is the id of a new lock.
    pub fn lock(
        &mut self,
        ttl_seconds: Option<i32>,
        new: LockId,
    ) -> Result<(SharedLock, SharedEvents), Rejection> {
        self.check_rules()?;
        let live = self.user.live_lock(self.code.now);
        if live.is_none() {
            self.check_limits()?;
        }
        let expired = self.end_expired_lock();
        let mut event = self.code.record("LOCK", self.code.status);
        let ttl = ttl_seconds.unwrap_or(self.code.rules.lock_ttl_seconds);
        let end = event.at + TimeDelta::seconds(ttl.into());
        let until = self.code.rules.expires_at.map_or(end, |expiry| end.min(expiry));
        let lock = match live {
            Some(live) => {
                event.reason = Some(RENEWED);
                SharedLock { until, ..live }
            }
            None => SharedLock { id: new, at: event.at, until },
        };
        self.change_user(|code, user| {
            user.lock = Some(lock);
            user.expired_at = None;
            user.first_at.get_or_insert(lock.at);
            code.lock_count += i32::from(live.is_none());
            code.first_end = Some(code.first_end.map_or(until, |first| first.min(until)));
            code.was_locked = true;
        });
        Ok((lock, SharedEvents { expired, own: event }))
    }

    /// Redeems one use. A live lock of the user is that use, whether `named` names it or not.
    pub fn redeem(&mut self, named: Option<LockId>) -> Result<SharedEvents, Rejection> {
        self.check_rules()?;
        let live = self.user.live_lock(self.code.now);
        match (named, live) {
            (Some(named), Some(live)) if named != live.id => return Err(Rejection::LockStale),
            (Some(_), None) => return Err(Rejection::LockExpired),
            (None, None) if self.code.rules.require_lock => {
                let has_expired = self.user.lock.is_some() || self.user.expired_at.is_some();
                return Err(if has_expired { Rejection::LockExpired } else { Rejection::LockRequired });
            }
            (None, None) => self.check_limits()?,
            (_, Some(_)) => {}
        }
        let expired = self.end_expired_lock();
        self.code.redeem_count += 1;
        self.code.last_use += 1;
        let to = if self.code.is_used_up() { CouponStatus::Redeemed } else { CouponStatus::Available };
        let own =
            SharedEvent { redeem_count: Some(self.code.redeem_count), ..self.code.record("REDEEM", to) };
        self.code.redeemed_at = Some(own.at);
        self.change_user(|code, user| {
            code.lock_count -= i32::from(user.lock.take().is_some());
            user.expired_at = None;
            user.used += 1;
            user.first_at.get_or_insert(own.at);
        });
        Ok(SharedEvents { expired, own })
    }

    /// Releases the user's lock; without an event if the user has none. `named` must be the live lock, if there is one.
    pub fn unlock(&mut self, named: Option<LockId>) -> Result<Option<SharedEvent>, Rejection> {
        if self.code.status == CouponStatus::Void {
            return Err(Rejection::CouponVoid);
        }
        let Some(live) = self.user.live_lock(self.code.now) else { return Ok(self.end_expired_lock()) };
        if named.is_some_and(|named| named != live.id) {
            return Err(Rejection::LockStale);
        }
        let event = self.code.record("UNLOCK", self.code.status);
        self.change_user(|code, user| {
            user.lock = None;
            user.expired_at = None;
            code.lock_count -= 1;
        });
        Ok(Some(event))
    }

    /// Gives the use of a redemption of the user back. The caller has checked that the redemption stands.
    pub fn roll_back(&mut self) -> SharedEvent {
        self.code.redeem_count -= 1;
        if self.code.redeem_count == 0 {
            self.code.redeemed_at = None;
        }
        let to = match self.code.status {
            CouponStatus::Redeemed => CouponStatus::Available,
            status => status,
        };
        self.change_user(|_, user| user.used -= 1);
        SharedEvent { redeem_count: Some(self.code.redeem_count), ..self.code.record("ROLLBACK", to) }
    }

    /// Ends the user's lock if it has expired. Its end is kept.
    fn end_expired_lock(&mut self) -> Option<SharedEvent> {
        let lock = self.user.lock.filter(|lock| lock.until <= self.code.now)?;
        self.user.lock = None;
        self.user.expired_at = Some(lock.until);
        self.code.lock_count -= 1;
        self.code.expired_count -= 1;
        Some(self.code.record("EXPIRE", self.code.status))
    }

    /// Changes the user, and counts whether the user begins or ceases to use the code.
    fn change_user(&mut self, change: impl FnOnce(&mut SharedCode, &mut SharedUser)) {
        let before = self.user.is_using(self.code.now);
        change(self.code, self.user);
        let after = self.user.is_using(self.code.now);
        *self.codes_of_user += i32::from(after) - i32::from(before);
    }

    /// The rules that concern all users.
    fn check_rules(&self) -> Result<(), Rejection> {
        match &self.code.rules.rejection {
            Some(rejection) => Err(rejection.clone()),
            // The last use may have been redeemed since the state was read.
            None if self.code.is_used_up() => Err(Rejection::CouponAlreadyRedeemed),
            None => Ok(()),
        }
    }

    /// The limits on a further use: of the user, of the user's codes in the book, of the code.
    fn check_limits(&self) -> Result<(), Rejection> {
        let (code, rules) = (&*self.code, &self.code.rules);
        if self.user.used >= rules.max_redeems_per_user {
            return Err(Rejection::RedeemLimitReached { limit: rules.max_redeems_per_user });
        }
        if let Some(limit) = rules.max_codes_per_user
            && !self.user.is_using(code.now)
            && *self.codes_of_user >= limit
        {
            return Err(Rejection::UserLimitReached { limit });
        }
        match rules.max_redemptions {
            Some(most) if code.redeem_count + code.live_locks() >= most => {
                Err(Rejection::CouponLocked { locked_until: code.first_end.unwrap_or(code.now) })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
