//! The history: an entry for each attempt of a request, with its answer.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;

use crate::operations::Operation;
use crate::world::Caller;

/// A request. A client that repeats it sends the same request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) caller: Caller,
    pub(crate) method: Method,
    /// Under `/api/v1/`.
    pub(crate) path: String,
    pub(crate) body: Body,
    pub(crate) key: Option<String>,
    pub(crate) about: About,
}

#[derive(Debug, Clone)]
pub(crate) enum Body {
    Empty,
    Json(Value),
    Csv(String),
}

/// The subject of a request, for the oracles.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// The coupon whose state determines the answer, if any.
    pub(crate) code: Option<String>,
    pub(crate) user: Option<String>,
    /// The lock that the caller names.
    pub(crate) lock: Option<String>,
    /// The redemption that the request rolls back.
    pub(crate) redemption: Option<String>,
    /// The permanent key of the request: the reference of a redemption, or the key of a recipient.
    pub(crate) natural_key: Option<String>,
    /// Whether the request submits a job.
    pub(crate) submits: bool,
    /// The book or the business of the requested statistics.
    pub(crate) statistics_of: Option<String>,
    /// The number of codes that a job creates.
    pub(crate) quantity: Option<i64>,
    /// Whether the request concerns another business or user and must be rejected.
    pub(crate) is_foreign: bool,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) operation: &'static Operation,
    pub(crate) ask: Request,
    pub(crate) request_id: String,
    pub(crate) called_at: DateTime<Utc>,
    pub(crate) ended_at: DateTime<Utc>,
    /// `None` if no complete answer arrived.
    pub(crate) answer: Option<Response>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// Whether the server marks this as the answer of an earlier attempt.
    pub(crate) is_replay: bool,
}

impl Entry {
    /// The answer, if it is final: not a status that permits a retry.
    pub(crate) fn verdict(&self) -> Option<&Response> {
        self.answer.as_ref().filter(|answer| {
            let may_be_tried_again = matches!(answer.status, 408 | 429 | 500..)
                || answer.status == 409 && answer.code() == "key_in_progress";
            !may_be_tried_again
        })
    }

    /// The text for a violation.
    pub(crate) fn description(&self) -> String {
        let answer = self.answer.as_ref().map_or("no answer".to_owned(), |answer| {
            let replay = if answer.is_replay { " (replay)" } else { "" };
            format!("{}{replay} {}", answer.status, answer.body)
        });
        let Request { method, path, key, about, caller, .. } = &self.ask;
        format!(
            "{} {method} {path} by {caller:?} as {:?}, lock {:?}, key {key:?}, {} from {} to {}: {answer}",
            self.operation.name, about.user, about.lock, self.request_id, self.called_at, self.ended_at
        )
    }
}

impl Response {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The code of the problem document, or an empty string.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}
