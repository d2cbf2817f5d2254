//! The oracles, which check a storm's results.

mod database;
mod distributions;
mod exports;
mod followers;
mod idempotency;
mod isolation;
mod jobs;
mod leftovers;
mod limits;
mod linearizable;
pub(crate) mod model;
mod natural_keys;
mod recovery;
mod seals;
mod statistics;
mod webhooks;

use futures::future::LocalBoxFuture;
use sqlx::PgConnection;

use crate::Result;
use crate::evidence::Evidence;

/// A check of the history and the database.
pub(crate) struct Oracle {
    pub(crate) name: &'static str,
    pub(crate) check:
        for<'a> fn(&'a Evidence<'a>, &'a mut PgConnection) -> LocalBoxFuture<'a, Result<Verdict>>,
}

/// The result of an oracle.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Number of checks. An oracle without checks proves nothing.
    pub(crate) checks: usize,
    pub(crate) violations: Vec<String>,
}

/// All oracles. A bug is reported as caught by the first oracle that finds a violation.
pub(crate) const ORACLES: &[Oracle] = &[
    recovery::RECOVERY,
    isolation::ISOLATION,
    jobs::JOBS,
    idempotency::IDEMPOTENCY,
    natural_keys::NATURAL_KEYS,
    linearizable::LINEARIZABLE,
    limits::LIMITS,
    distributions::DISTRIBUTIONS,
    exports::EXPORTS,
    statistics::STATISTICS,
    followers::FOLLOWERS,
    webhooks::WEBHOOKS,
    seals::SEALS,
    database::INVARIANTS,
    leftovers::LEFTOVERS_ORACLE,
];

impl Verdict {
    /// Counts a check; `violation` describes a failure.
    pub(crate) fn check(&mut self, is_right: bool, violation: impl FnOnce() -> String) {
        self.checks += 1;
        if !is_right {
            self.violations.push(violation());
        }
    }
}
