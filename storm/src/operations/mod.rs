//! The operations: the requests of clients, and which answers are correct.

mod assign;
mod distribute;
mod foreign;
mod hold;
mod jobs;
mod read;
mod redeem;
mod reports;
mod undo;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use reqwest::Method;
use serde_json::Value;

use crate::history::{About, Body, Entry, Request, Response};
use crate::oracles::model::Observation;
use crate::world::{Caller, Known, World};

/// An operation.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Relative frequency.
    pub(crate) weight: u32,
    pub(crate) ask: fn(&mut ClientState) -> Request,
    /// Records the ids that an answer contains.
    pub(crate) learns: fn(&Request, &Response, &mut Known),
    /// Whether the answer is correct for a state of the coupon. Used only for operations on a coupon.
    pub(crate) agrees: fn(&Entry, &Response, &Observation) -> bool,
}

/// All operations.
pub(crate) const OPERATIONS: &[Operation] = &[
    assign::ASSIGN_RANDOM,
    assign::ASSIGN_NAMED,
    hold::LOCK,
    hold::UNLOCK,
    redeem::REDEEM,
    redeem::VALIDATE,
    undo::REVOKE,
    undo::VOID,
    undo::ROLL_BACK,
    undo::VOID_CODES,
    read::COUPON,
    read::HISTORY,
    read::HELD_BY_USER,
    read::CODES,
    read::BOOK,
    reports::STATISTICS,
    reports::LISTS,
    reports::EXPORT,
    distribute::POOL_USERS,
    distribute::DISTRIBUTE,
    distribute::TAKE_BACK,
    distribute::UPLOAD_ASSIGNMENTS,
    jobs::GENERATE,
    jobs::IMPORT,
    jobs::JOB,
    jobs::CANCEL,
    jobs::RETRY,
    foreign::FOREIGN,
];

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The data from which a client builds its next request.
pub(crate) struct ClientState<'a> {
    pub(crate) world: &'a World,
    pub(crate) caller: Caller,
    pub(crate) client: usize,
    /// Number of requests of this client.
    pub(crate) asked: u32,
    pub(crate) random: StdRng,
}

impl ClientState<'_> {
    /// The next request.
    pub(crate) fn next(&mut self) -> (&'static Operation, Request) {
        self.asked += 1;
        let mut draw = self.random.random_range(0..OPERATIONS.iter().map(|operation| operation.weight).sum());
        for operation in OPERATIONS {
            match draw.checked_sub(operation.weight) {
                None => return (operation, (operation.ask)(self)),
                Some(left) => draw = left,
            }
        }
        unreachable!("the draw is less than the sum of the weights")
    }

    pub(crate) fn tenant(&self) -> usize {
        self.caller.tenant()
    }

    /// Returns true with this probability.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.random.random_bool(share)
    }

    /// One of these; `None` if there are none.
    pub(crate) fn choose<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.choose(&mut self.random).cloned()
    }

    /// A request that changes data; 85 % have a key.
    pub(crate) fn post(&mut self, path: String, body: Value, about: About) -> Request {
        let key = self.chance(0.85).then(|| self.key());
        let (caller, body) = (self.caller.clone(), Body::Json(body));
        Request { caller, method: Method::POST, path, body, key, about }
    }

    pub(crate) fn get(&self, path: String, about: About) -> Request {
        Request {
            caller: self.caller.clone(),
            method: Method::GET,
            path,
            body: Body::Empty,
            key: None,
            about,
        }
    }

    pub(crate) fn key(&self) -> String {
        format!("key-{}-{}", self.client, self.asked)
    }
}

impl Request {
    /// Makes the tenant's backend the caller, for requests that end users may not make.
    pub(crate) fn by_service(mut self) -> Self {
        self.caller = Caller::Service(self.caller.tenant());
        self
    }
}

/// For operations whose answers contain no ids to record.
pub(crate) fn nothing(_: &Request, _: &Response, _: &mut Known) {}

/// For operations that do not concern one coupon.
pub(crate) fn always(_: &Entry, _: &Response, _: &Observation) -> bool {
    true
}
