//! Trying again: what may pass, how long to wait for it, and when to give up.

use std::time::{Duration, Instant};

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

use super::fault::Fault;
use super::say::complain;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// What went wrong with one attempt.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Asking again would give the same.
    Lasting(Fault),
    /// It may pass.
    Passing {
        fault: Fault,
        /// How long the server asks us to wait.
        after: Option<Duration>,
        /// Whether the server may have got the request.
        arrived: bool,
    },
}

/// Attempts at one call, ever further apart.
#[derive(Debug)]
pub(crate) struct Attempts {
    pauses: backoff::ExponentialBackoff,
    begun: Instant,
    patience: Duration,
    is_first: bool,
}

impl Trouble {
    /// Nothing more is tried.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Lasting(fault) | Self::Passing { fault, .. } => fault,
        }
    }
}

impl Attempts {
    pub(crate) fn new(patience: Duration) -> Self {
        let pauses = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST_PAUSE)
            .with_multiplier(2.0)
            .with_max_interval(LONGEST_PAUSE)
            .with_max_elapsed_time(None)
            .build();
        Self { pauses, begun: Instant::now(), patience, is_first: true }
    }

    /// Waits before the next attempt, or gives the fault back if there is no time for one.
    pub(crate) async fn pause(&mut self, fault: Fault, after: Option<Duration>) -> Result<(), Fault> {
        let pause = self.pauses.next_backoff().unwrap_or(LONGEST_PAUSE);
        let pause = pause.saturating_add(after.unwrap_or_default());
        if self.begun.elapsed().saturating_add(pause) > self.patience {
            return Err(fault);
        }
        if let (true, Fault::Away(message)) = (self.is_first, &fault) {
            complain(&format!("{message}; trying again for up to {} s", self.patience.as_secs()));
        }
        self.is_first = false;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
