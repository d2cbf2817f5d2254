//! What each operation takes and answers, beyond what its types say: examples, and exactly its refusals.
//!
//! Refusals that follow from the shape of an operation (credentials, a body, a key, a path) are not listed here: see
//! [`Operation::refusals`].

mod accounts;
mod books;
mod codes;
mod coupons;
mod jobs;

use serde_json::Value;

/// An operation, by its id.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) id: &'static str,
    /// Of the body, by media type.
    pub(super) bodies: Vec<(&'static str, Value)>,
    pub(super) answers: Vec<Answer>,
    refuses: Vec<&'static str>,
}

/// A good answer, or one that is the operation's own.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) example: Option<Value>,
    /// Whether `Location` says where what was made is found.
    pub(super) located: bool,
}

/// What the document says of an operation already.
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
    fn of(id: &'static str) -> Self {
        Self { id, bodies: Vec::new(), answers: Vec::new(), refuses: Vec::new() }
    }

    fn body(self, example: Value) -> Self {
        self.body_as("application/json", example)
    }

    fn body_as(mut self, media: &'static str, example: Value) -> Self {
        self.bodies.push((media, example));
        self
    }

    fn answers(mut self, status: u16, description: &'static str, example: Value) -> Self {
        self.answers.push(Answer { status, description, example: Some(example), located: false });
        self
    }

    /// An answer without a body.
    fn answers_nothing(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, example: None, located: false });
        self
    }

    /// The last answer tells where what was made is found.
    fn located(mut self) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.located = true;
        }
        self
    }

    /// What it refuses by a rule of its own.
    fn refuses(mut self, codes: &[&'static str]) -> Self {
        self.refuses.extend_from_slice(codes);
        self
    }

    /// All the codes it can answer: its own, and those of its shape.
    pub(super) fn refusals(&self, shape: Shape) -> Vec<&'static str> {
        let of_shape = [
            // An unknown query parameter is invalid also where there are none.
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

/// All operations, in reading order.
pub(super) fn all() -> Vec<Operation> {
    [
        accounts::operations(),
        books::operations(),
        codes::operations(),
        coupons::operations(),
        jobs::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
