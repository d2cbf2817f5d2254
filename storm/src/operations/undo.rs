//! Undo: revoking and voiding a code, rolling a redemption back, and voiding several codes with a job.

use rand::RngExt;
use serde_json::{Value, json};

use super::jobs::job;
use super::{ClientState, Operation, always, nothing};
use crate::history::About;
use crate::world::{flyer, free_code, given_code, held_code, once_number, rarely_used_code};

/// Maximum number of codes that a bulk void names.
const FEW_CODES: u32 = 4;

pub(super) const REVOKE: Operation = Operation {
    name: "revoke",
    weight: 5,
    ask: |client_state| {
        let code = match client_state.random.random_range(0..10) {
            0..3 => free_code(&mut client_state.random),
            3..6 => given_code(&mut client_state.random),
            6..8 => flyer(&mut client_state.random),
            8 => held_code(&mut client_state.random),
            _ => format!("ONCE-{:04}", once_number(&mut client_state.random)),
        };
        let about = About { code: Some(code.clone()), ..About::default() };
        client_state.post(format!("assignments/{code}/revoke"), reason(), about).by_service()
    },
    learns: nothing,
    agrees: |_, answer, observation| {
        let before = observation.before;
        match (answer.status, answer.code(), observation.after) {
            (200, _, Some(after)) => {
                after.is_free()
                    && before.holder.is_some()
                    && !before.was_used()
                    && observation.may_be_unlocked()
            }
            (409, "coupon_void", None) => before.is_void(),
            (409, "not_assigned", None) => before.is_free(),
            (409, "coupon_locked", None) => observation.may_be_locked(),
            (409, "coupon_already_redeemed", None) => before.was_used(),
            _ => false,
        }
    },
};

pub(super) const VOID: Operation = Operation {
    name: "void",
    weight: 2,
    ask: |client_state| {
        let code = code_to_void(client_state);
        let about = About { code: Some(code.clone()), ..About::default() };
        client_state.post(format!("coupons/{code}/void"), reason(), about).by_service()
    },
    learns: nothing,
    agrees: |_, answer, observation| {
        let before = observation.before;
        match (answer.status, answer.code(), observation.after) {
            (200, _, Some(after)) => after.is_void() && !before.is_void() && !before.is_redeemed(),
            (200, _, None) => before.is_void(),
            (409, "coupon_already_redeemed", None) => before.is_redeemed(),
            _ => false,
        }
    },
};

pub(super) const ROLL_BACK: Operation = Operation {
    name: "roll_back",
    weight: 5,
    ask: |client_state| {
        let tenant = client_state.tenant();
        let known = client_state.world.known().redemptions[tenant].clone();
        // Usually one of the latest, otherwise any: some of these were rolled back before.
        let from = if client_state.chance(0.7) { known.len().saturating_sub(20) } else { 0 };
        let Some((code, id)) = client_state.choose(&known[from..]) else {
            return client_state.get("redemptions".to_owned(), About::default()).by_service();
        };
        let about = About { code: Some(code), redemption: Some(id.clone()), ..About::default() };
        client_state.post(format!("redemptions/{id}/rollback"), reason(), about).by_service()
    },
    learns: nothing,
    agrees: |entry, answer, observation| {
        let Some(redemption) = &entry.ask.about.redemption else { return answer.status == 200 };
        let is_undone = observation.before.rolled_back.contains(redemption);
        match (answer.status, answer.code(), observation.after) {
            (200, _, Some(after)) => !is_undone && answer.body["redeemCount"] == after.redeem_count,
            (409, "already_rolled_back", None) => is_undone,
            _ => false,
        }
    },
};

pub(super) const VOID_CODES: Operation = Operation {
    name: "void_codes",
    weight: 1,
    ask: |client_state| {
        let which = if client_state.chance(0.5) {
            let codes = client_state.random.random_range(1..=FEW_CODES);
            json!({"codes": (0..codes).map(|_| code_to_void(client_state)).collect::<Vec<_>>()})
        } else {
            // Imports of the client with this number begin with the prefix.
            let client = client_state.random.random_range(0..100);
            let book = &client_state.world.tenants[client_state.tenant()].made;
            json!({"filter": {"couponBookId": book, "prefix": format!("I-{client}-"), "status": "AVAILABLE"}})
        };
        let mut body = reason();
        let is_dry_run = client_state.chance(0.1);
        body["dryRun"] = is_dry_run.into();
        for (name, value) in which.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        let about = About { submits: true, ..About::default() };
        let mut request = client_state.post("coupons/void".to_owned(), body, about).by_service();
        // A dry run changes nothing, so its answer is not stored: a repetition counts anew.
        if is_dry_run {
            request.key = None;
        }
        request
    },
    learns: job,
    agrees: always,
};

/// Rarely one of the codes that most requests use.
fn code_to_void(client_state: &mut ClientState) -> String {
    match client_state.random.random_range(0..20) {
        0..10 => format!("ONCE-{:04}", once_number(&mut client_state.random)),
        10..14 => free_code(&mut client_state.random),
        14..17 => given_code(&mut client_state.random),
        17 => flyer(&mut client_state.random),
        _ => rarely_used_code(&mut client_state.random),
    }
}

fn reason() -> Value {
    json!({"reason": "storm"})
}
