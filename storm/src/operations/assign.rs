//! Assigning free codes: a random code of a book, or a code by name.

use rand::RngExt;
use serde_json::json;

use super::{Operation, nothing};
use crate::history::About;
use crate::world::{free_code, held_code, taker};

pub(super) const ASSIGN_RANDOM: Operation = Operation {
    name: "assign_random",
    weight: 12,
    ask: |hand| {
        let user = hand.caller.user().unwrap_or_else(|| taker(&mut hand.random));
        let book = &hand.world.tenants[hand.tenant()].free;
        let body = json!({"couponBookId": book, "userId": user});
        hand.post("assignments/random".to_owned(), body, About { user: Some(user), ..About::default() })
    },
    learns: nothing,
    agrees: |entry, answer, moment| {
        // A rejected request has no coupon; the oracle `limits` checks it.
        let Some(after) = moment.after else { return false };
        answer.status == 201 && moment.before.is_free() && after.holder == entry.ask.about.user
    },
};

pub(super) const ASSIGN_NAMED: Operation = Operation {
    name: "assign_named",
    weight: 8,
    ask: |hand| {
        let code = if hand.random.random_bool(0.8) {
            free_code(&mut hand.random)
        } else {
            held_code(&mut hand.random)
        };
        let user = taker(&mut hand.random);
        let about = About { code: Some(code.clone()), user: Some(user.clone()), ..About::default() };
        hand.post(format!("assignments/{code}"), json!({"userId": user}), about).by_service()
    },
    learns: nothing,
    agrees: |entry, answer, moment| {
        let user = &entry.ask.about.user;
        match (answer.status, answer.code(), moment.after) {
            (201, _, Some(after)) => moment.before.is_free() && after.holder == *user,
            (200, _, None) => moment.before.holder == *user,
            (409, "already_assigned", None) => !moment.before.is_free() && moment.before.holder != *user,
            (409, "user_limit_reached", None) => moment.before.is_free(),
            _ => false,
        }
    },
};
