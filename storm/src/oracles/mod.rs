//! The oracles: what must hold after a storm.

mod database;
mod idempotency;
mod isolation;
mod jobs;
mod leftovers;
mod limits;
mod linearizable;
pub(crate) mod model;
mod recovery;

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

/// What an oracle found.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// How many things were looked at: an oracle that looked at nothing says nothing.
    pub(crate) checks: usize,
    pub(crate) violations: Vec<String>,
}

/// All oracles. The first that finds a violation names the bug.
pub(crate) const ORACLES: &[Oracle] = &[
    recovery::RECOVERY,
    isolation::ISOLATION,
    jobs::JOBS,
    idempotency::IDEMPOTENCY,
    linearizable::LINEARIZABLE,
    limits::LIMITS,
    database::INVARIANTS,
    leftovers::LEFTOVERS_ORACLE,
];

impl Verdict {
    /// One more was looked at; `violation` says what is wrong with it.
    pub(crate) fn check(&mut self, is_right: bool, violation: impl FnOnce() -> String) {
        self.checks += 1;
        if !is_right {
            self.violations.push(violation());
        }
    }
}
