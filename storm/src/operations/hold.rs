//! Locking a code for its holder, and unlocking it.

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{ClientState, Operation, nothing};
use crate::history::{About, Entry, Response};
use crate::oracles::model::Observation;
use crate::world::{Caller, flyer, held_by, held_number, holder, once_number, presenter};

/// Maximum TTL in requests, in seconds. It is short, so that many locks expire within a storm.
const MAX_TTL: u32 = 3;

pub(super) const LOCK: Operation = Operation {
    name: "lock",
    weight: 20,
    ask: |client_state| {
        let about = coupon(client_state);
        let mut body = json!({"userId": about.user});
        if client_state.chance(0.5) {
            body["ttlSeconds"] = client_state.random.random_range(1..=MAX_TTL).into();
        }
        let path = format!("coupons/{}/lock", about.code.as_deref().unwrap_or_default());
        client_state.post(path, body, about)
    },
    learns: |ask, answer, known| {
        let (Some(code), Some(lock)) = (&ask.about.code, answer.body["lockId"].as_str()) else { return };
        let locks = known.locks.entry((ask.caller.tenant(), code.clone())).or_default();
        if !locks.iter().any(|one| one == lock) {
            locks.push(lock.to_owned());
        }
    },
    agrees: |entry, answer, observation| {
        // A lock that assigns a code begins after its assignment. The oracle `limits` checks the limit.
        if is_presentable(entry, observation) {
            return (answer.status, answer.code(), observation.after) == (409, "user_limit_reached", None);
        }
        if let Some(is_right) = to_a_stranger(entry, answer, observation) {
            return is_right;
        }
        match (answer.status, answer.code(), observation.after) {
            (200, _, Some(after)) => observation.before.may_be_used() && after.is_locked(),
            (409, "coupon_void", None) => observation.before.is_void(),
            (409, "coupon_already_redeemed", None) => observation.before.is_redeemed(),
            _ => false,
        }
    },
};

pub(super) const UNLOCK: Operation = Operation {
    name: "unlock",
    weight: 8,
    ask: |client_state| {
        let mut about = coupon(client_state);
        about.lock = believed_lock(client_state, &about, 0.6);
        let path = format!("coupons/{}/unlock", about.code.as_deref().unwrap_or_default());
        client_state.post(path, with_lock(&about), about)
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        if is_presentable(entry, observation) {
            return (answer.status, answer.code(), observation.after) == (409, "not_assigned", None);
        }
        if let Some(is_right) = to_a_stranger(entry, answer, observation) {
            return is_right;
        }
        let believed = entry.ask.about.lock.as_deref();
        match (answer.status, answer.code(), observation.after) {
            (200, _, Some(after)) => {
                observation.before.is_locked()
                    && !after.is_locked()
                    && believed.is_none_or(|lock| {
                        observation.may_be_locked_by(lock) || observation.may_be_unlocked()
                    })
            }
            (200, _, None) => !observation.before.is_locked() && observation.before.may_be_used(),
            (409, "coupon_void", None) => observation.before.is_void(),
            (409, "lock_stale", None) => {
                believed.is_some_and(|lock| observation.may_be_locked_by_another_than(lock))
            }
            (409, "coupon_already_redeemed", None) => observation.before.is_redeemed(),
            _ => false,
        }
    },
};

/// A code with a holder, and a user, usually the holder; or a flyer, and a user who presents it. End users name themselves.
pub(super) fn coupon(client_state: &mut ClientState) -> About {
    // A flyer that another user holds counts as a guess of an end user, and guesses are limited.
    let flyers = if client_state.caller.user().is_some() { 0.01 } else { 0.2 };
    let has_flyers = client_state.world.tenants[client_state.tenant()].flyers.is_some();
    if client_state.chance(flyers) && has_flyers {
        return presented(client_state);
    }
    let (prefix, number) = if client_state.chance(0.7) {
        ("HELD", held_number(&mut client_state.random))
    } else {
        ("ONCE", once_number(&mut client_state.random))
    };
    let (number, user) = match client_state.caller.clone() {
        // A code that the end user does not hold counts as a guess, and guesses are limited.
        Caller::User(_, user) => {
            (if client_state.chance(0.98) { held_by(user, number) } else { number }, holder(user))
        }
        Caller::Service(_) => (number, holder(if client_state.chance(0.9) { number } else { number + 1 })),
    };
    About { code: Some(format!("{prefix}-{number:04}")), user: Some(user), ..About::default() }
}

/// A flyer, and a user who presents it. The holder of a flyer that is redeemed without a user is `bearer:<code>`.
fn presented(client_state: &mut ClientState) -> About {
    let code = flyer(&mut client_state.random);
    let user = client_state.caller.user().unwrap_or_else(|| match client_state.random.random_range(0..4) {
        0 => format!("bearer:{code}"),
        1 => holder(client_state.random.random_range(0..2)),
        _ => presenter(&mut client_state.random),
    });
    About { code: Some(code), user: Some(user), ..About::default() }
}

/// Whether a lock or a redemption would assign the coupon: a free flyer.
pub(super) fn is_presentable(entry: &Entry, observation: &Observation) -> bool {
    observation.before.is_free() && entry.ask.about.code.as_ref().is_some_and(|code| code.starts_with("FLYR"))
}

/// With this probability, a lock that was granted on the code: usually the newest, otherwise any.
pub(super) fn believed_lock(client_state: &mut ClientState, about: &About, share: f64) -> Option<String> {
    if !client_state.chance(share) {
        return None;
    }
    let is_newest = client_state.chance(0.75);
    let known = client_state.world.known();
    let locks = known.locks.get(&(client_state.caller.tenant(), about.code.clone()?))?;
    if is_newest { locks.last().cloned() } else { locks.choose(&mut client_state.random).cloned() }
}

pub(super) fn with_lock(about: &About) -> Value {
    let mut body = json!({"userId": about.user});
    if let Some(lock) = &about.lock {
        body["lockId"] = lock.as_str().into();
    }
    body
}

/// Whether the answer is correct if the user does not hold the coupon; `None` if the user holds it.
pub(super) fn to_a_stranger(entry: &Entry, answer: &Response, observation: &Observation) -> Option<bool> {
    let Observation { before, after, .. } = observation;
    if before.holder == entry.ask.about.user {
        return None;
    }
    let is_refused = after.is_none();
    Some(match (answer.status, answer.code()) {
        (404, _) => is_refused && entry.ask.caller.user().is_some(),
        (409, "coupon_void") => is_refused && before.is_void(),
        (409, "not_assigned") => is_refused && before.is_free(),
        (409, "coupon_locked") => is_refused && observation.may_be_locked(),
        (409, "not_holder") => is_refused && before.holder.is_some() && observation.may_be_unlocked(),
        _ => false,
    })
}
