//! What the types of an operation cannot express: examples, and the exact list of its rejections. The file `doc.rs` of each
//! resource in `routes` has a row for each of its operations.
//!
//! Rejections that follow from the shape of an operation (credentials, a body, a key, a path) are in
//! [`Operation::refusals`].

use serde_json::Value;

/// An operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(super) id: &'static str,
    /// The examples of the body, by media type.
    pub(super) bodies: Vec<(&'static str, Value)>,
    pub(super) answers: Vec<Answer>,
    refuses: Vec<&'static str>,
}

/// A successful response, or another one that this operation declares itself.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) example: Option<Value>,
    /// The example of another media type of the response.
    pub(super) other: Option<(&'static str, Value)>,
    /// Whether the response has a `Location` header.
    pub(super) located: bool,
}

/// The properties of an operation that determine its common rejections.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "these are independent facts")]
pub(super) struct Shape {
    pub(super) is_under_api: bool,
    pub(super) has_credentials: bool,
    pub(super) has_path_parameters: bool,
    pub(super) has_body: bool,
    pub(super) has_json_body: bool,
    pub(super) has_key: bool,
}

impl Operation {
    pub(crate) fn of(id: &'static str) -> Self {
        Self { id, bodies: Vec::new(), answers: Vec::new(), refuses: Vec::new() }
    }

    pub(crate) fn body(self, example: Value) -> Self {
        self.body_as("application/json", example)
    }

    pub(crate) fn body_as(mut self, media: &'static str, example: Value) -> Self {
        self.bodies.push((media, example));
        self
    }

    pub(crate) fn answers(mut self, status: u16, description: &'static str, example: Value) -> Self {
        self.answers.push(Answer {
            status,
            description,
            example: Some(example),
            other: None,
            located: false,
        });
        self
    }

    /// A response without a body.
    pub(crate) fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, example: None, other: None, located: false });
        self
    }

    /// The last response may also have another media type, with this example.
    pub(crate) fn or_as(mut self, media: &'static str, example: Value) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.other = Some((media, example));
        }
        self
    }

    /// The last response has a `Location` header.
    pub(crate) fn located(mut self) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.located = true;
        }
        self
    }

    /// Adds rejections by rules of this operation.
    pub(crate) fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.refuses.extend_from_slice(codes);
        self
    }

    /// All codes that the operation can return: its own, and those that follow from its shape.
    pub(super) fn refusals(&self, shape: Shape) -> Vec<&'static str> {
        let of_shape = [
            // An unknown query parameter is invalid even if the operation has no query parameters.
            (shape.is_under_api, &["request_timeout", "rate_limited", "unavailable", "invalid"][..]),
            (shape.has_credentials, &["unauthorized"]),
            (shape.has_path_parameters, &["not_found"]),
            (shape.has_body, &["bad_request", "too_large", "unsupported_media_type"]),
            (shape.has_json_body, &["bad_json"]),
            (shape.has_key, &["bad_request", "key_in_progress", "key_reused"]),
            (true, &["internal", "overloaded"]),
        ];
        let holding = of_shape.into_iter().filter(|(holds, _)| *holds).flat_map(|(_, codes)| codes);
        let mut codes: Vec<_> = self.refuses.iter().chain(holding).copied().collect();
        codes.sort_unstable();
        codes.dedup();
        codes
    }
}
