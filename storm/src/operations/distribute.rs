//! A pool's users, distributions to them, take-backs, and uploads of assignments. All use the same codes.

use rand::RngExt;
use serde_json::{Value, json};

use super::jobs::job;
use super::{ClientState, Operation, always, nothing};
use crate::history::{About, Body, Request};
use crate::world::{given_code, member};

/// Number of users that a request adds or removes.
const FEW_USERS: u32 = 4;
/// Maximum number of codes of a distribution.
const MAX_TOTAL: u32 = 60;
/// Number of rows of an upload.
const ROWS: u32 = 8;

pub(super) const POOL_USERS: Operation = Operation {
    name: "pool_users",
    weight: 2,
    ask: |client_state| {
        let users: Vec<String> = (0..FEW_USERS).map(|_| member(&mut client_state.random)).collect();
        let verb = if client_state.chance(0.5) { "users" } else { "users/remove" };
        let path = format!("user-pools/{}/{verb}", client_state.world.tenants[client_state.tenant()].pool);
        client_state.post(path, json!({"userIds": users}), About::default()).by_service()
    },
    learns: nothing,
    agrees: always,
};

pub(super) const DISTRIBUTE: Operation = Operation {
    name: "distribute",
    weight: 1,
    ask: |client_state| {
        let tenant = &client_state.world.tenants[client_state.tenant()];
        let (pool, book) = (tenant.pool.clone(), tenant.given.clone());
        let mode = if client_state.chance(0.5) { "EQUAL" } else { "RANDOM" };
        let shortage = if client_state.chance(0.5) { "FAIL" } else { "PARTIAL" };
        let mut body = json!({"couponBookId": book, "mode": mode, "onShortage": shortage});
        if mode == "EQUAL" && client_state.chance(0.5) {
            body["codesPerUser"] = 1.into();
        } else {
            body["totalCodes"] = client_state.random.random_range(1..=MAX_TOTAL).into();
        }
        if client_state.chance(0.5) {
            body["seed"] = client_state.random.random_range(0..1_000).into();
        }
        let about = About { submits: true, ..About::default() };
        client_state.post(format!("user-pools/{pool}/distributions"), body, about).by_service()
    },
    learns: |ask, answer, known| {
        job(ask, answer, known);
        if let (202, Some(id)) = (answer.status, answer.body["id"].as_str()) {
            known.distributions[ask.caller.tenant()].push(id.to_owned());
        }
    },
    agrees: always,
};

pub(super) const TAKE_BACK: Operation = Operation {
    name: "take_back",
    weight: 1,
    ask: |client_state| {
        let tenant = client_state.tenant();
        let known = client_state.world.known().distributions[tenant].clone();
        let id = client_state.choose(&known).unwrap_or_else(|| uuid::Uuid::nil().to_string());
        let about = About { submits: true, ..About::default() };
        client_state.post(format!("jobs/{id}/take-back"), json!({"reason": "storm"}), about).by_service()
    },
    learns: job,
    agrees: always,
};

pub(super) const UPLOAD_ASSIGNMENTS: Operation = Operation {
    name: "upload_assignments",
    weight: 1,
    ask: |client_state| {
        let line = |client_state: &mut ClientState| {
            format!("{},{}\n", given_code(&mut client_state.random), member(&mut client_state.random))
        };
        let lines: String = (0..ROWS).map(|_| line(client_state)).collect();
        let book = &client_state.world.tenants[client_state.tenant()].given;
        let path = format!("assignments/upload?couponBookId={book}");
        let about = About { submits: true, ..About::default() };
        let ask = client_state.post(path, Value::Null, about).by_service();
        Request { body: Body::Csv(format!("code,userId\n{lines}")), ..ask }
    },
    learns: job,
    agrees: always,
};
