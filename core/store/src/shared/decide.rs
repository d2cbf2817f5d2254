//! The decisions of a batch, one call after the other.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use cuponera_domain::coupon::shared::SharedEvent;
use cuponera_domain::id::{LockId, RedemptionId};
use cuponera_domain::rejection::Rejection;

use super::state::{BatchState, Found, FoundRedemption, Item};
use super::write::Writes;
use super::{SharedAsk, SharedEffect};
use crate::GenerateId;
use crate::lock::{LockOwner, Locked, Unlocked};
use crate::redeem::Redeemed;
use crate::rollback::RolledBack;

/// The `max_redeems` of a code without a limit: the stored answers of earlier versions have a number.
const UNLIMITED: i32 = i32::MAX;

/// The decision about a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decision {
    /// It has its effect, which is to be written.
    Done(SharedEffect),
    /// It has no effect: the earlier redemption with its reference.
    Already(SharedEffect),
    /// A rule rejects it.
    Rejected(Rejection),
    /// The request must be corrected. The answer is not stored under its key.
    Incomplete(Rejection),
    /// The answer that is stored under its key.
    Replayed(Value),
    /// Its key was used for another request.
    KeyReused,
}

/// The calls of a batch, while they are decided.
pub(super) struct Batch {
    state: BatchState,
    /// The redemptions that calls of the batch have rolled back.
    rolled_back: HashMap<RedemptionId, DateTime<Utc>>,
    pub(super) writes: Writes,
}

impl Batch {
    pub(super) fn of(state: BatchState) -> Self {
        Self { state, rolled_back: HashMap::new(), writes: Writes::default() }
    }

    /// The end state of the codes and users.
    pub(super) fn into_parts(self) -> (BatchState, Writes) {
        (self.state, self.writes)
    }

    /// Decides a call, and collects its events and rows.
    pub(super) fn decide<T>(&mut self, item: &Item<'_, T>, found: &Found) -> Decision {
        if let (Some(key), Some((fingerprint, answer))) = (&item.call.key, &found.stored) {
            let is_same = *fingerprint == key.fingerprint;
            return if is_same { Decision::Replayed(answer.clone()) } else { Decision::KeyReused };
        }
        match &item.ask {
            SharedAsk::Lock { ttl_seconds, .. } => self.lock(item, found, *ttl_seconds),
            SharedAsk::Unlock { owner, lock } => self.unlock(item, found, owner, *lock),
            SharedAsk::Redeem { lock, .. } => self.redeem(item, found, *lock),
            SharedAsk::RollBack { reason, .. } => self.roll_back(item, found, reason),
        }
    }

    fn lock<T>(&mut self, item: &Item<'_, T>, found: &Found, ttl_seconds: Option<i32>) -> Decision {
        let Some(user) = found.user else { return Decision::Incomplete(user_required()) };
        match self.state.use_of(found.code, user).lock(ttl_seconds, LockId::generate()) {
            Err(rejection) => Decision::Rejected(rejection),
            Ok((lock, events)) => {
                self.note(item, found, user, events, None);
                Decision::Done(SharedEffect::Locked(Locked {
                    code: item.code.to_owned(),
                    lock: lock.id,
                    locked_at: lock.at,
                    locked_until: lock.until,
                    version: 0,
                }))
            }
        }
    }

    fn unlock<T>(
        &mut self,
        item: &Item<'_, T>,
        found: &Found,
        owner: &LockOwner,
        lock: Option<LockId>,
    ) -> Decision {
        if matches!(owner, LockOwner::Anyone) && lock.is_none() {
            let rejection = Rejection::invalid(
                "lockId",
                "is required with force: the users of a SHARED code have locks of their own",
            );
            return Decision::Incomplete(rejection);
        }
        if let Some(user) = found.user {
            match self.state.use_of(found.code, user).unlock(lock) {
                Err(rejection) => return Decision::Rejected(rejection),
                Ok(event) => self.note(item, found, user, event, None),
            }
        }
        let code = item.code.to_owned();
        Decision::Done(SharedEffect::Unlocked(Unlocked { code, version: 0, is_shared: true }))
    }

    fn redeem<T>(&mut self, item: &Item<'_, T>, found: &Found, lock: Option<LockId>) -> Decision {
        let Some(user) = found.user else { return Decision::Incomplete(user_required()) };
        if let Some(first) = &found.redemption {
            return self.first_redemption(item, found, user, first);
        }
        match self.state.use_of(found.code, user).redeem(lock) {
            Err(rejection) => Decision::Rejected(rejection),
            Ok(events) => {
                let (redemption, redeemed_at) = (RedemptionId::generate(), events.own.at);
                self.note(item, found, user, events, None);
                let (code, user) = (&self.state.codes[found.code], &self.state.users[user]);
                self.writes.redemption(redemption, redeemed_at, code, user, &item.ask);
                Decision::Done(SharedEffect::Redeemed(Redeemed {
                    code: item.code.to_owned(),
                    redemption,
                    redeem_count: code.code.redeem_count,
                    max_redeems: code.code.rules.max_redemptions.unwrap_or(UNLIMITED),
                    redeemed_at,
                    version: 0,
                    replayed: false,
                    is_shared: true,
                }))
            }
        }
    }

    /// The answer to a reference that the code was redeemed with before.
    fn first_redemption<T>(
        &self,
        item: &Item<'_, T>,
        found: &Found,
        user: usize,
        first: &FoundRedemption,
    ) -> Decision {
        if self.state.users[user].id != first.user {
            return Decision::Rejected(Rejection::ReferenceUsed);
        }
        if first.rolled_back_at.is_some() {
            return Decision::Rejected(Rejection::AlreadyRolledBack);
        }
        Decision::Already(SharedEffect::Redeemed(Redeemed {
            code: item.code.to_owned(),
            redemption: first.id,
            // The uses at that time, if none was rolled back before. A code may have millions.
            redeem_count: first.use_number,
            max_redeems: self.state.codes[found.code].code.rules.max_redemptions.unwrap_or(UNLIMITED),
            redeemed_at: first.at,
            version: 0,
            replayed: true,
            is_shared: true,
        }))
    }

    fn roll_back<T>(&mut self, item: &Item<'_, T>, found: &Found, reason: &str) -> Decision {
        let (Some(redemption), Some(user)) = (&found.redemption, found.user) else {
            return Decision::Rejected(Rejection::not_found("redemption"));
        };
        if found.named_user.as_ref().is_some_and(|named| *named != redemption.user) {
            return Decision::Rejected(Rejection::NotHolder);
        }
        if redemption.rolled_back_at.is_some() || self.rolled_back.contains_key(&redemption.id) {
            return Decision::Rejected(Rejection::AlreadyRolledBack);
        }
        let event = self.state.use_of(found.code, user).roll_back();
        self.rolled_back.insert(redemption.id, event.at);
        self.writes.rollback(redemption.id, event.at);
        let (rolled_back_at, status) = (event.at, event.to);
        self.note(item, found, user, [event], Some(reason));
        let code = &self.state.codes[found.code].code;
        Decision::Done(SharedEffect::RolledBack(RolledBack {
            id: redemption.id,
            code: item.code.to_owned(),
            status,
            redeem_count: code.redeem_count,
            max_redeems: code.rules.max_redemptions.unwrap_or(UNLIMITED),
            rolled_back_at,
            version: code.version,
        }))
    }

    /// Collects the events of a call, and marks its user as changed if there are any.
    fn note<T>(
        &mut self,
        item: &Item<'_, T>,
        found: &Found,
        user: usize,
        events: impl IntoIterator<Item = SharedEvent>,
        reason: Option<&str>,
    ) {
        for event in events {
            self.state.users[user].is_changed = true;
            let (code, user) = (&self.state.codes[found.code], &self.state.users[user].id);
            self.writes.event(&item.call.audit, code, user, &event, reason);
        }
    }
}

fn user_required() -> Rejection {
    Rejection::invalid("userId", "is required: the code is not of a BEARER book")
}
