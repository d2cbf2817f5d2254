//! Redeeming a code, and validating a redemption.

use super::hold::{believed_lock, coupon, to_a_stranger, with_lock};
use super::{Hand, Operation, nothing};
use crate::history::{Answer, Ask, Entry};
use crate::oracles::model::Moment;

pub(super) const REDEEM: Operation = Operation {
    name: "redeem",
    weight: 18,
    ask: |hand| ask(hand, "redeem"),
    learns: nothing,
    agrees: |entry, answer, moment| {
        let Some(after) = moment.after else { return refuses(entry, answer, moment) };
        answer.status == 200
            && moment.before.holder == entry.ask.about.user
            && !moment.before.is_redeemed()
            && answer.body["redeemCount"] == after.redeem_count
            && answer.body["isFinalRedeem"] == after.is_redeemed()
            && is_fenced(entry, moment)
    },
};

pub(super) const VALIDATE: Operation = Operation {
    name: "validate",
    weight: 4,
    ask: |hand| {
        let ask = ask(hand, "validate");
        Ask { key: None, ..ask }
    },
    learns: nothing,
    agrees: |entry, answer, moment| {
        let is_allowed = answer.status == 200
            && moment.before.holder == entry.ask.about.user
            && !moment.before.is_redeemed()
            && is_fenced(entry, moment);
        moment.after.is_none() && (is_allowed || refuses(entry, answer, moment))
    },
};

fn ask(hand: &mut Hand, verb: &str) -> Ask {
    let mut about = coupon(hand);
    about.lock = believed_lock(hand, &about, 0.6);
    let path = format!("coupons/{}/{verb}", about.code.as_deref().unwrap_or_default());
    hand.post(path, with_lock(&about), about)
}

/// Whether the named lock, or the lock that the book requires, may be the live lock.
fn is_fenced(entry: &Entry, moment: &Moment) -> bool {
    match &entry.ask.about.lock {
        Some(lock) => moment.may_be_locked_by(lock),
        None => !requires_lock(entry) || moment.may_be_locked(),
    }
}

/// Whether this is the correct rejection.
fn refuses(entry: &Entry, answer: &Answer, moment: &Moment) -> bool {
    if let Some(is_right) = to_a_stranger(entry, answer, moment) {
        return is_right;
    }
    let believed = entry.ask.about.lock.as_deref();
    match (answer.status, answer.code()) {
        (409, "coupon_already_redeemed") => moment.before.is_redeemed(),
        (409, "lock_stale") => believed.is_some_and(|lock| moment.may_be_locked_by_another_than(lock)),
        (410, "lock_expired") => (believed.is_some() || requires_lock(entry)) && moment.may_be_unlocked(),
        (409, "lock_required") => requires_lock(entry) && moment.may_be_unlocked(),
        _ => false,
    }
}

/// Codes of the book that requires a lock start with "ONCE".
fn requires_lock(entry: &Entry) -> bool {
    entry.ask.about.code.as_ref().is_some_and(|code| code.starts_with("ONCE"))
}
