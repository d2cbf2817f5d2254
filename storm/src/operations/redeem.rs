//! Redeeming a code, and validating a redemption.

use super::hold::{believed_lock, coupon, is_presentable, to_a_stranger, with_lock};
use super::{ClientState, Operation, nothing};
use crate::history::{Body, Entry, Request, Response};
use crate::oracles::model::Observation;

/// The reference of a part of the requests: many repeat it for a code.
const REFERENCE: &str = "sale 1";

pub(super) const REDEEM: Operation = Operation {
    name: "redeem",
    weight: 18,
    ask: |client_state| {
        let mut ask = ask(client_state, "redeem");
        if client_state.chance(0.6) {
            if let Body::Json(body) = &mut ask.body {
                body["reference"] = REFERENCE.into();
            }
            ask.about.natural_key = Some(REFERENCE.to_owned());
        }
        ask
    },
    learns: |ask, answer, known| {
        if let (Some(code), Some(id)) = (&ask.about.code, answer.body["redemptionId"].as_str()) {
            known.redemptions[ask.caller.tenant()].push((code.clone(), id.to_owned()));
        }
    },
    agrees: |entry, answer, observation| {
        let Some(after) = observation.after else {
            return is_known_reference(entry, answer, observation) || refuses(entry, answer, observation);
        };
        answer.status == 200
            && observation.before.holder == entry.ask.about.user
            && observation.before.may_be_used()
            && answer.body["redeemCount"] == after.redeem_count
            && answer.body["isFinalRedeem"] == after.is_redeemed()
            && is_fenced(entry, observation)
    },
};

pub(super) const VALIDATE: Operation = Operation {
    name: "validate",
    weight: 4,
    ask: |client_state| {
        let ask = ask(client_state, "validate");
        Request { key: None, ..ask }
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        let is_holder = observation.before.holder == entry.ask.about.user && observation.before.may_be_used();
        let is_allowed = answer.status == 200
            && (is_holder || is_presentable(entry, observation))
            && is_fenced(entry, observation);
        observation.after.is_none() && (is_allowed || refuses(entry, answer, observation))
    },
};

/// Whether the answer is that of a reference that was used before. The oracle `natural_keys` compares the redemptions.
fn is_known_reference(entry: &Entry, answer: &Response, observation: &Observation) -> bool {
    entry.ask.about.natural_key.is_some()
        && match (answer.status, answer.code()) {
            (200, _) => answer.body["replayed"] == true && observation.before.was_used(),
            (409, "already_rolled_back") => !observation.before.rolled_back.is_empty(),
            (409, "reference_used") => {
                observation.before.was_used() && observation.before.holder != entry.ask.about.user
            }
            _ => false,
        }
}

fn ask(client_state: &mut ClientState, verb: &str) -> Request {
    let mut about = coupon(client_state);
    about.lock = believed_lock(client_state, &about, 0.6);
    let path = format!("coupons/{}/{verb}", about.code.as_deref().unwrap_or_default());
    let mut body = with_lock(&about);
    if about.user.as_ref().is_some_and(|user| user.starts_with("bearer:"))
        && let Some(fields) = body.as_object_mut()
    {
        fields.remove("userId");
    }
    client_state.post(path, body, about)
}

/// Whether the named lock, or the lock that the book requires, may be the live lock.
fn is_fenced(entry: &Entry, observation: &Observation) -> bool {
    match &entry.ask.about.lock {
        Some(lock) => observation.may_be_locked_by(lock),
        None => !requires_lock(entry) || observation.may_be_locked(),
    }
}

/// Whether this is the correct rejection.
fn refuses(entry: &Entry, answer: &Response, observation: &Observation) -> bool {
    if is_presentable(entry, observation) {
        return match (answer.status, answer.code()) {
            // The oracle `limits` checks the limit.
            (409, "user_limit_reached") => true,
            (410, "lock_expired") => entry.ask.about.lock.is_some(),
            _ => false,
        };
    }
    if let Some(is_right) = to_a_stranger(entry, answer, observation) {
        return is_right;
    }
    let believed = entry.ask.about.lock.as_deref();
    match (answer.status, answer.code()) {
        (409, "coupon_void") => observation.before.is_void(),
        (409, "coupon_already_redeemed") => observation.before.is_redeemed(),
        (409, "lock_stale") => believed.is_some_and(|lock| observation.may_be_locked_by_another_than(lock)),
        (410, "lock_expired") => {
            (believed.is_some() || requires_lock(entry)) && observation.may_be_unlocked()
        }
        (409, "lock_required") => requires_lock(entry) && observation.may_be_unlocked(),
        _ => false,
    }
}

/// Codes of the book that requires a lock start with "ONCE".
fn requires_lock(entry: &Entry) -> bool {
    entry.ask.about.code.as_ref().is_some_and(|code| code.starts_with("ONCE"))
}
