//! Retries: which errors are transient, how long to wait, and when to give up.

use std::time::{Duration, Instant};

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

use super::fault::Fault;
use super::say::complain;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// The error of one attempt.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A retry would have the same result.
    Lasting(Fault),
    /// A retry may succeed.
    Passing {
        fault: Fault,
        /// The value of `Retry-After`.
        after: Option<Duration>,
        /// Whether the server may have received the request.
        arrived: bool,
    },
}

/// The attempts at one call, with growing pauses.
#[derive(Debug)]
pub(crate) struct Attempts {
    pauses: backoff::ExponentialBackoff,
    begun: Instant,
    patience: Duration,
    is_first: bool,
}

impl Trouble {
    /// The error, if there is no further attempt.
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

    /// Waits before the next attempt. Returns the fault if `patience` would pass before it.
    pub(crate) async fn pause(&mut self, fault: Fault, after: Option<Duration>) -> Result<(), Fault> {
        let pause = self.pauses.next_backoff().unwrap_or(LONGEST_PAUSE);
        let pause = pause.saturating_add(after.unwrap_or_default());
        if self.begun.elapsed().saturating_add(pause) > self.patience {
            return Err(fault);
        }
        if let (true, Fault::Away(message)) = (self.is_first, &fault) {
            complain(&format!("{message}; retrying for up to {} s", self.patience.as_secs()));
        }
        self.is_first = false;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
