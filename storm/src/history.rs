//! What was asked and answered: an entry for each attempt.

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;

use crate::operations::Operation;
use crate::world::Caller;

/// A request to make. A client that repeats it repeats all of it.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
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

/// What a request is about, for oracles.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    /// The coupon, if its life decides the answer.
    pub(crate) code: Option<String>,
    pub(crate) user: Option<String>,
    /// The lock that the caller believes in.
    pub(crate) lock: Option<String>,
    /// How many codes a job is to make.
    pub(crate) quantity: Option<i64>,
    /// Whether it is about what belongs to another business, and must be refused.
    pub(crate) is_foreign: bool,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) operation: &'static Operation,
    pub(crate) ask: Ask,
    pub(crate) request_id: String,
    pub(crate) called_at: DateTime<Utc>,
    pub(crate) ended_at: DateTime<Utc>,
    /// None if no whole answer came.
    pub(crate) answer: Option<Answer>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// Whether the server says that an earlier attempt got this answer.
    pub(crate) is_replay: bool,
}

impl Entry {
    /// The answer, if it says what became of the request: not that it may be tried again.
    pub(crate) fn verdict(&self) -> Option<&Answer> {
        self.answer.as_ref().filter(|answer| {
            let may_be_tried_again = matches!(answer.status, 408 | 429 | 500..)
                || answer.status == 409 && answer.code() == "key_in_progress";
            !may_be_tried_again
        })
    }

    /// As a violation names it.
    pub(crate) fn told(&self) -> String {
        let answer = self.answer.as_ref().map_or("no answer".to_owned(), |answer| {
            let replay = if answer.is_replay { " (replay)" } else { "" };
            format!("{}{replay} {}", answer.status, answer.body)
        });
        let Ask { method, path, key, about, caller, .. } = &self.ask;
        format!(
            "{} {method} {path} by {caller:?} as {:?}, lock {:?}, key {key:?}, {} from {} to {}: {answer}",
            self.operation.name, about.user, about.lock, self.request_id, self.called_at, self.ended_at
        )
    }
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The code of a problem document, or nothing.
    pub(crate) fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}
