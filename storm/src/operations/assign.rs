//! Assigning free codes: a random code of a book, or a code by name.

use rand::RngExt;
use serde_json::json;

use super::{Operation, nothing};
use crate::history::About;
use crate::world::{free_code, given_code, held_code, taker};

pub(super) const ASSIGN_RANDOM: Operation = Operation {
    name: "assign_random",
    weight: 12,
    ask: |client_state| {
        let user = client_state.caller.user().unwrap_or_else(|| taker(&mut client_state.random));
        let book = &client_state.world.tenants[client_state.tenant()].free;
        let mut body = json!({"couponBookId": book, "userId": user});
        // One key of each user: many requests repeat it.
        let key = format!("mail for {user}");
        let natural_key = client_state.chance(0.6).then_some(key);
        if let Some(key) = &natural_key {
            body["recipientKey"] = key.as_str().into();
        }
        let about = About { user: Some(user), natural_key, ..About::default() };
        client_state.post("assignments/random".to_owned(), body, about)
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        // A rejected request has no coupon; the oracle `limits` checks it.
        let Some(after) = observation.after else {
            // The key was used before. The oracle `natural_keys` compares the codes.
            return answer.status == 200
                && entry.ask.about.natural_key.is_some()
                && !observation.before.is_free();
        };
        answer.status == 201 && observation.before.is_free() && after.holder == entry.ask.about.user
    },
};

pub(super) const ASSIGN_NAMED: Operation = Operation {
    name: "assign_named",
    weight: 8,
    ask: |client_state| {
        let code = match client_state.random.random_range(0..10) {
            0..7 => free_code(&mut client_state.random),
            7 => given_code(&mut client_state.random),
            _ => held_code(&mut client_state.random),
        };
        let user = taker(&mut client_state.random);
        let about = About { code: Some(code.clone()), user: Some(user.clone()), ..About::default() };
        client_state.post(format!("assignments/{code}"), json!({"userId": user}), about).by_service()
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        let user = &entry.ask.about.user;
        match (answer.status, answer.code(), observation.after) {
            (201, _, Some(after)) => observation.before.is_free() && after.holder == *user,
            (200, _, None) => !observation.before.is_void() && observation.before.holder == *user,
            (409, "coupon_void", None) => observation.before.is_void(),
            (409, "already_assigned", None) => {
                observation.before.holder.is_some()
                    && !observation.before.is_void()
                    && observation.before.holder != *user
            }
            // The events do not show a reservation.
            (409, "user_limit_reached" | "coupon_reserved", None) => observation.before.is_free(),
            _ => false,
        }
    },
};
