//! Requests for data of another business or of another end user. All must be rejected.

use rand::RngExt;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ClientState, Operation, always, nothing};
use crate::history::{About, Request};

pub(super) const FOREIGN: Operation = Operation {
    name: "foreign",
    weight: 5,
    ask: |client_state| {
        let about = About { is_foreign: true, ..About::default() };
        match client_state.caller.user() {
            Some(user) => of_another_user(client_state, &user, about),
            None => of_another_business(client_state, about),
        }
    },
    learns: nothing,
    agrees: always,
};

fn of_another_user(client_state: &mut ClientState, user: &str, about: About) -> Request {
    let another = if user == "u0" { "u1" } else { "u0" };
    if client_state.chance(0.5) {
        return client_state.get(format!("assignments/user/{another}"), about);
    }
    let body =
        json!({"couponBookId": client_state.world.tenants[client_state.tenant()].free, "userId": another});
    client_state.post("assignments/random".to_owned(), body, about)
}

fn of_another_business(client_state: &mut ClientState, about: About) -> Request {
    let other = 1 - client_state.tenant();
    let tenant = &client_state.world.tenants[other];
    let job = client_state.world.known().jobs[other].choose(&mut client_state.random).cloned();
    match (client_state.random.random_range(0..10), job) {
        (0 | 1, Some(job)) => client_state.get(format!("jobs/{job}"), about),
        (2, Some(job)) => client_state.post(format!("jobs/{job}/cancel"), Value::Null, about),
        (3, _) => client_state.get(format!("coupon-codes/book/{}", tenant.held), about),
        (4, _) => {
            let body = json!({"couponBookId": tenant.free, "userId": "t0"});
            client_state.post("assignments/random".to_owned(), body, about)
        }
        (5, _) => {
            let body = json!({"couponBookId": tenant.made, "quantity": 20});
            client_state.post("coupon-codes/generate".to_owned(), body, about)
        }
        (6, _) => {
            let ask = client_state.post(
                format!("coupon-books/{}", tenant.made),
                json!({"name": "Taken over"}),
                about,
            );
            Request { method: Method::PATCH, key: None, ..ask }
        }
        (7, _) => client_state.get(format!("coupon-books/{}/stats", tenant.held), about),
        (8, _) => {
            let body = json!({"couponBookId": tenant.given, "mode": "EQUAL", "codesPerUser": 1});
            client_state.post(format!("user-pools/{}/distributions", tenant.pool), body, about)
        }
        (9, _) => client_state.post(
            "exports".to_owned(),
            json!({"kind": "CODES", "couponBookId": tenant.held}),
            about,
        ),
        _ => client_state.get(format!("coupon-books/{}", tenant.held), about),
    }
}
