//! Retries: which errors are transient, how long to wait, and when to give up.

use std::time::{Duration, Instant};

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff;

use super::fault::ClientError;
use super::print::print_error;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(3);

/// The error of one attempt.
#[derive(Debug)]
pub(crate) enum AttemptError {
    /// A retry would have the same result.
    Permanent(ClientError),
    /// A retry may succeed.
    Transient {
        fault: ClientError,
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

impl AttemptError {
    /// The error, if there is no further attempt.
    pub(crate) fn into_error(self) -> ClientError {
        match self {
            Self::Permanent(fault) | Self::Transient { fault, .. } => fault,
        }
    }
}

impl Attempts {
    pub(crate) fn new(patience: Duration) -> Self {
        let pauses = ExponentialBackoffBuilder::new()
            .with_initial_interval(FIRST_PAUSE)
            .with_multiplier(2.0)
            .with_max_interval(MAX_PAUSE)
            .with_max_elapsed_time(None)
            .build();
        Self { pauses, begun: Instant::now(), patience, is_first: true }
    }

    /// Waits before the next attempt. Returns the fault if `patience` would pass before it.
    pub(crate) async fn pause(
        &mut self,
        fault: ClientError,
        after: Option<Duration>,
    ) -> Result<(), ClientError> {
        let pause = self.pauses.next_backoff().unwrap_or(MAX_PAUSE);
        let pause = pause.saturating_add(after.unwrap_or_default());
        if self.begun.elapsed().saturating_add(pause) > self.patience {
            return Err(fault);
        }
        if let (true, ClientError::Unavailable(message)) = (self.is_first, &fault) {
            print_error(&format!("{message}; retrying for up to {} s", self.patience.as_secs()));
        }
        self.is_first = false;
        tokio::time::sleep(pause).await;
        Ok(())
    }
}
