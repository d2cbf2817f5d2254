//! The place that a request has among those that run, and what its body takes of the memory for bodies.

use std::sync::{Arc, Mutex, PoisonError};

use cuponera_core::telemetry::metrics;
use poem::Request;

use crate::http::problem::Problem;
use crate::shares::{Claimant, Full, Held, Shares};

/// What a request holds until it is answered. Its handler can give it up early.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Vec<Held>>>);

impl Place {
    /// The place of a request.
    pub(crate) fn of(request: &Request) -> Self {
        request.data::<Self>().cloned().unwrap_or_default()
    }

    /// Adds to what the request holds.
    pub(crate) fn hold(&self, held: Held) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(held);
    }

    /// Frees everything: a request that waits for a job does nothing meanwhile.
    pub(crate) fn give_up(&self) {
        let held = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(held);
    }
}

/// Takes a place, or says that the server is overloaded.
pub(crate) fn take(shares: &Shares, claimant: &Claimant) -> Result<Held, Problem> {
    shares.take(claimant).map_err(overloaded)
}

/// There is no place for a request.
pub(crate) fn overloaded(_: Full) -> Problem {
    metrics::edge().overloaded.increment(1);
    Problem::overloaded()
}
