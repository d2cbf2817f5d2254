//! Requests for data of another business or of another end user. All must be rejected.

use rand::RngExt;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Hand, Operation, always, nothing};
use crate::history::{About, Ask};

pub(super) const FOREIGN: Operation = Operation {
    name: "foreign",
    weight: 5,
    ask: |hand| {
        let about = About { is_foreign: true, ..About::default() };
        match hand.caller.user() {
            Some(user) => of_another_user(hand, &user, about),
            None => of_another_business(hand, about),
        }
    },
    learns: nothing,
    agrees: always,
};

fn of_another_user(hand: &mut Hand, user: &str, about: About) -> Ask {
    let another = if user == "u0" { "u1" } else { "u0" };
    if hand.chance(0.5) {
        return hand.get(format!("assignments/user/{another}"), about);
    }
    let body = json!({"couponBookId": hand.world.tenants[hand.tenant()].free, "userId": another});
    hand.post("assignments/random".to_owned(), body, about)
}

fn of_another_business(hand: &mut Hand, about: About) -> Ask {
    let other = 1 - hand.tenant();
    let tenant = &hand.world.tenants[other];
    let job = hand.world.known().jobs[other].choose(&mut hand.random).cloned();
    match (hand.random.random_range(0..7), job) {
        (0 | 1, Some(job)) => hand.get(format!("jobs/{job}"), about),
        (2, Some(job)) => hand.post(format!("jobs/{job}/cancel"), Value::Null, about),
        (3, _) => hand.get(format!("coupon-codes/book/{}", tenant.held), about),
        (4, _) => {
            let body = json!({"couponBookId": tenant.free, "userId": "t0"});
            hand.post("assignments/random".to_owned(), body, about)
        }
        (5, _) => {
            let body = json!({"couponBookId": tenant.made, "quantity": 20});
            hand.post("coupon-codes/generate".to_owned(), body, about)
        }
        (6, _) => {
            let ask =
                hand.post(format!("coupon-books/{}", tenant.made), json!({"name": "Taken over"}), about);
            Ask { method: Method::PATCH, key: None, ..ask }
        }
        _ => hand.get(format!("coupon-books/{}", tenant.held), about),
    }
}
