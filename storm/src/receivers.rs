//! Receivers of webhooks: one of each tenant, which rejects some first attempts.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use cuponera_testkit::{Answer, Received, Receiver};

/// The event types of the webhooks of a storm: a part of the events, so that they are delivered soon after it.
pub(crate) const EVENT_TYPES: [&str; 4] =
    ["coupon.redeemed", "coupon.rolled_back", "coupon.revoked", "coupon.lock_expired"];
/// The first attempt of one event in this number is rejected.
const REJECTED: usize = 7;

/// The receivers of a run.
pub(crate) struct Receivers([Receiver; 2]);

impl Receivers {
    pub(crate) async fn start() -> Self {
        Self([start().await, start().await])
    }

    /// The URLs, by tenant.
    pub(crate) fn urls(&self) -> [String; 2] {
        [self.0[0].url(), self.0[1].url()]
    }

    /// The requests that a tenant's receiver accepted, in the order of their arrival.
    pub(crate) fn accepted(&self, tenant: usize) -> Vec<Received> {
        let mut seen = HashSet::new();
        let requests = self.0[tenant].received();
        // A repetition is accepted.
        let is_accepted = |(number, request): &(usize, Received)| {
            !seen.insert(request.header("webhook-id").to_owned()) || number % REJECTED != 0
        };
        requests.into_iter().enumerate().filter(is_accepted).map(|(_, request)| request).collect()
    }
}

async fn start() -> Receiver {
    let seen: Mutex<HashSet<String>> = Mutex::default();
    Receiver::answering(move |number, request| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = seen.insert(request.header("webhook-id").to_owned());
        Answer::Status(if is_first && number % REJECTED == 0 { 500 } else { 204 })
    })
    .await
}
