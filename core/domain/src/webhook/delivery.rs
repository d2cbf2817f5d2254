//! Deliveries of events, their attempts, and the verdict on an attempt.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::id::DeliveryId;

/// Maximum size of the part of a response that is kept.
pub const MAX_ANSWER_BYTES: usize = 1024;

/// The status of a delivery: `PENDING → DELIVERED | FAILED`; a replay makes it `PENDING` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DeliveryStatus {
    /// There will be an attempt.
    Pending,
    /// The receiver accepted it.
    Delivered,
    /// The last attempt failed.
    Failed,
}

impl DeliveryStatus {
    /// All statuses.
    pub const ALL: [Self; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// The delivery of an event to a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its place in the list of the webhook.
    pub number: i64,
    /// The event.
    pub event: Uuid,
    /// The type of the event.
    pub event_type: String,
    /// Its status.
    pub status: DeliveryStatus,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it is attempted next. Absent if it has ended, or waits for an earlier delivery.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// All attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// The body of the request.
    pub body: String,
}

/// An attempt to deliver an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, by the clock of the worker.
    pub at: DateTime<Utc>,
    /// The HTTP status of the response, if there was one.
    pub status: Option<u16>,
    /// Why it failed.
    pub error: Option<String>,
    /// Its duration.
    pub duration_ms: u32,
    /// The beginning of the response, at most [`MAX_ANSWER_BYTES`].
    pub answer: Option<String>,
}

/// The verdict on an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The receiver accepted the event.
    Delivered,
    /// The receiver wants no more events.
    Gone,
    /// The attempt failed. The receiver may have named the time until it accepts another one.
    Failed {
        /// From `Retry-After`.
        retry_after: Option<Duration>,
    },
}

impl Verdict {
    /// The verdict on a response with a status. Redirects are not followed, so they are failures.
    pub fn of_response(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 => Self::Delivered,
            410 => Self::Gone,
            _ => Self::Failed { retry_after },
        }
    }
}

/// The kept part of a response: printable as text, and storable.
pub fn kept_answer(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_ANSWER_BYTES)]).replace('\0', "\u{fffd}");
    let end = (0..=MAX_ANSWER_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end))?;
    (end > 0).then(|| text[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_delivered_and_410_ends_the_webhook() {
        let after = Some(Duration::from_secs(7));
        for (status, verdict) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (299, Verdict::Delivered),
            (301, Verdict::Failed { retry_after: after }),
            (404, Verdict::Failed { retry_after: after }),
            (410, Verdict::Gone),
            (429, Verdict::Failed { retry_after: after }),
            (503, Verdict::Failed { retry_after: after }),
        ] {
            assert_eq!(Verdict::of_response(status, after), verdict, "{status}");
        }
    }

    #[test]
    fn an_answer_is_kept_up_to_its_limit_as_text_that_can_be_stored() {
        assert_eq!(kept_answer(b""), None);
        assert_eq!(kept_answer(b"a\0b").as_deref(), Some("a\u{fffd}b"));
        for body in ["ñ".repeat(2000).into_bytes(), vec![0xff; 4000], vec![b'x'; 1024]] {
            let kept = kept_answer(&body).unwrap();
            assert!(kept.len() <= MAX_ANSWER_BYTES && kept.len() > MAX_ANSWER_BYTES - 3, "{}", kept.len());
        }
    }
}
