//! Jobs: generating and importing codes; reading, cancelling and retrying a job.

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use super::{ClientState, Operation, always, nothing};
use crate::history::{About, Body, Request, Response};
use crate::world::Known;

const FEW_CODES: std::ops::Range<i64> = 20..300;
/// Large enough that a fault can strike while the job runs.
const MANY_CODES: i64 = 20_000;
const IMPORTED: i64 = 30;
/// Number of duplicate lines in an import.
const DUPLICATES: i64 = 3;

pub(super) const GENERATE: Operation = Operation {
    name: "generate",
    weight: 2,
    ask: |client_state| {
        let quantity =
            if client_state.chance(0.1) { MANY_CODES } else { client_state.random.random_range(FEW_CODES) };
        let book = &client_state.world.tenants[client_state.tenant()].made;
        let body = json!({"couponBookId": book, "quantity": quantity, "pattern": "G-{XXXXXXXX}"});
        let about = About { quantity: Some(quantity), submits: true, ..About::default() };
        client_state.post("coupon-codes/generate".to_owned(), body, about).by_service()
    },
    learns: job,
    agrees: always,
};

pub(super) const IMPORT: Operation = Operation {
    name: "import",
    weight: 1,
    ask: |client_state| {
        let (client, asked) = (client_state.client, client_state.asked);
        // Some files assign their codes.
        let (header, users) = if client_state.chance(0.4) { ("code,userId", 5) } else { ("code", 0) };
        let line = |number: i64| {
            let user = if users > 0 { format!(",i{}", number % users) } else { String::new() };
            format!("I-{client}-{asked}-{number}{user}\n")
        };
        let file: String = (0..IMPORTED).chain(0..DUPLICATES).map(line).collect();
        let path = format!(
            "coupon-codes/upload?couponBookId={}",
            client_state.world.tenants[client_state.tenant()].made
        );
        let about = About { quantity: Some(IMPORTED), submits: true, ..About::default() };
        let ask = client_state.post(path, Value::Null, about).by_service();
        Request { body: Body::Csv(format!("{header}\n{file}")), ..ask }
    },
    learns: job,
    agrees: always,
};

pub(super) const JOB: Operation = Operation {
    name: "job",
    weight: 6,
    ask: |client_state| {
        let path = format!("jobs/{}", known_job(client_state));
        client_state.get(path, About::default()).by_service()
    },
    learns: nothing,
    agrees: always,
};

pub(super) const CANCEL: Operation = Operation {
    name: "cancel",
    weight: 1,
    ask: |client_state| {
        let path = format!("jobs/{}/cancel", known_job(client_state));
        let ask = client_state.post(path, Value::Null, About::default()).by_service();
        Request { body: Body::Empty, ..ask }
    },
    learns: nothing,
    agrees: always,
};

pub(super) const RETRY: Operation = Operation {
    name: "retry",
    weight: 1,
    ask: |client_state| {
        let path = format!("jobs/{}/retry", known_job(client_state));
        let ask = client_state.post(path, Value::Null, About::default()).by_service();
        Request { body: Body::Empty, ..ask }
    },
    learns: nothing,
    agrees: always,
};

pub(super) fn job(ask: &Request, answer: &Response, known: &mut Known) {
    if let (202, Some(id)) = (answer.status, answer.body["id"].as_str()) {
        known.jobs[ask.caller.tenant()].push(id.to_owned());
    }
}

/// A job of the caller's business, or an unknown id.
fn known_job(client_state: &mut ClientState) -> String {
    let tenant = client_state.tenant();
    let known = client_state.world.known();
    let job = known.jobs[tenant].choose(&mut client_state.random).cloned();
    job.unwrap_or_else(|| uuid::Uuid::nil().to_string())
}
