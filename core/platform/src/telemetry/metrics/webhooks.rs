//! The metrics of webhooks.

use std::time::Duration;

use cuponera_domain::webhook::DisabledReason;
use metrics::{Counter, Histogram, counter, gauge, histogram};

use super::label;

const ENDS: [&str; 4] = ["delivered", "retried", "failed", "lost"];

/// The end of an attempt to deliver an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The receiver accepted the event.
    Delivered,
    /// It failed and will be made again.
    Retried,
    /// It failed and was the last one.
    Failed,
    /// Another worker had claimed the delivery meanwhile.
    Lost,
}

/// Creates all series with the value 0.
pub(super) fn prepare() {
    for end in ENDS {
        attempts(end).increment(0);
    }
    for reason in DisabledReason::ALL {
        disabled(reason).increment(0);
    }
    counter!("cuponera_webhook_events_read_total").increment(0);
    gauge!("cuponera_webhook_reader_lag_seconds").set(0.0);
    // Registers it without a sample.
    let _: Histogram = durations();
}

/// Counts the end of an attempt.
pub fn webhook_attempt_ended(end: AttemptEnd) {
    attempts(ENDS[end as usize]).increment(1);
}

fn attempts(end: &'static str) -> Counter {
    counter!("cuponera_webhook_attempts_total", vec![label("outcome", end)])
}

/// Records the duration of an attempt.
pub fn webhook_attempted(took: Duration) {
    durations().record(took.as_secs_f64());
}

fn durations() -> Histogram {
    histogram!("cuponera_webhook_attempt_duration_seconds")
}

/// Counts a webhook that was disabled.
pub fn webhook_disabled(reason: DisabledReason) {
    disabled(reason).increment(1);
}

fn disabled(reason: DisabledReason) -> Counter {
    counter!("cuponera_webhooks_disabled_total", vec![label("reason", reason.as_str())])
}

/// Counts events that were read for webhooks, and sets the age of the first one that was not.
pub fn webhook_events_read(count: i64, lag: Duration) {
    counter!("cuponera_webhook_events_read_total").increment(u64::try_from(count).unwrap_or(0));
    gauge!("cuponera_webhook_reader_lag_seconds").set(lag.as_secs_f64());
}
