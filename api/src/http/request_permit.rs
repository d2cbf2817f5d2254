//! The permit of a running request, and its share of the memory for bodies.

use std::sync::{Arc, Mutex, PoisonError};

use cuponera_platform::telemetry::metrics;
use poem::Request;

use crate::http::problem::Problem;
use crate::shares::{Claimant, Full, Permit, Shares};

/// The permits that a request holds until it is answered. Its handler can release them early.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestPermit(Arc<Mutex<Vec<Permit>>>);

impl RequestPermit {
    /// The permits of a request.
    pub(crate) fn of(request: &Request) -> Self {
        request.data::<Self>().cloned().unwrap_or_default()
    }

    /// Adds a permit.
    pub(crate) fn add(&self, held: Permit) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    /// Releases all permits. A request that waits for a job uses no resources meanwhile.
    pub(crate) fn release(&self) {
        let held = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(held);
    }
}

/// Takes a permit. Fails with `overloaded` if there is none.
pub(crate) fn take(shares: &Shares, claimant: &Claimant) -> Result<Permit, Problem> {
    shares.take(claimant).map_err(overloaded)
}

/// The problem of a request without a permit.
pub(crate) fn overloaded(_: Full) -> Problem {
    metrics::edge().overloaded.increment(1);
    Problem::overloaded()
}
