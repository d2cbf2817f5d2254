//! Reads: a coupon, its history, lists and counts.

use super::hold::{coupon, is_presentable};
use super::{Operation, always, nothing};
use crate::history::About;

/// The default page size.
const PAGE: i64 = 50;

pub(super) const COUPON: Operation = Operation {
    name: "coupon",
    weight: 8,
    ask: |client_state| {
        let about = coupon(client_state);
        client_state.get(format!("coupons/{}", about.code.as_deref().unwrap_or_default()), about)
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        let before = observation.before;
        if let Some(user) = entry.ask.caller.user()
            && before.holder != Some(user)
            && !is_presentable(entry, observation)
        {
            return answer.status == 404;
        }
        let status = answer.body["status"].as_str();
        let is_shown = match status {
            Some("LOCKED") => observation.may_be_locked(),
            Some("ASSIGNED") if before.is_locked() => observation.may_be_unlocked(),
            _ => status == Some(before.status.as_str()),
        };
        answer.status == 200
            && is_shown
            && answer.body["redeemCount"] == before.redeem_count
            && answer.body["userId"].as_str() == before.holder.as_deref()
    },
};

pub(super) const HISTORY: Operation = Operation {
    name: "history",
    weight: 3,
    ask: |client_state| {
        let about = coupon(client_state);
        client_state
            .get(format!("coupons/{}/history", about.code.as_deref().unwrap_or_default()), about)
            .by_service()
    },
    learns: nothing,
    agrees: |_, answer, observation| {
        let data = answer.body["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        let newest = data.first().and_then(|event| event["toStatus"].as_str()).unwrap_or("AVAILABLE");
        answer.status == 200
            && i64::try_from(data.len()) == Ok(observation.before.version.min(PAGE))
            && newest == observation.before.status
    },
};

pub(super) const HELD_BY_USER: Operation = Operation {
    name: "held_by_user",
    weight: 2,
    ask: |client_state| {
        let user = client_state.caller.user().unwrap_or_else(|| "u2".to_owned());
        client_state.get(format!("assignments/user/{user}"), About::default())
    },
    learns: nothing,
    agrees: always,
};

pub(super) const CODES: Operation = Operation {
    name: "codes",
    weight: 2,
    ask: |client_state| {
        let book = &client_state.world.tenants[client_state.tenant()].held;
        client_state.get(format!("coupon-codes/book/{book}?status=LOCKED"), About::default()).by_service()
    },
    learns: nothing,
    agrees: always,
};

pub(super) const BOOK: Operation = Operation {
    name: "book",
    weight: 2,
    ask: |client_state| {
        let book = &client_state.world.tenants[client_state.tenant()].free;
        client_state.get(format!("coupon-books/{book}"), About::default())
    },
    learns: nothing,
    agrees: always,
};
