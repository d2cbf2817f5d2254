//! The body of requests that undo something.

use poem_openapi::Object;

use crate::http::body::{Fields, FromFields};

/// Maximum length of a reason, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Why something is undone, and the user that it must belong to.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct UndoRequest {
    /// 1 to 500 characters, for the history of the code.
    #[oai(validator(min_length = 1, max_length = 500))]
    pub(super) reason: String,
    /// The user that must hold the code; rejected with `not_holder` if another does.
    pub(super) user_id: Option<String>,
}

impl FromFields for UndoRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (reason, user_id) = (reason(fields), fields.optional_holder("userId"));
        Some(Self { reason: reason?, user_id })
    }
}

/// The reason of an undo, trimmed. It is stored in the history of the code.
pub(super) fn reason(fields: &mut Fields) -> Option<String> {
    let reason = fields.required::<String>("reason")?;
    checked(fields, &reason)
}

/// The reason of an undo that has a reason of its own.
pub(super) fn optional_reason(fields: &mut Fields) -> Option<String> {
    let reason = fields.optional::<String>("reason")?;
    checked(fields, &reason)
}

fn checked(fields: &mut Fields, reason: &str) -> Option<String> {
    let reason = reason.trim();
    if (1..=MAX_REASON_CHARS).contains(&reason.chars().count()) {
        return Some(reason.to_owned());
    }
    fields.fault("reason", "must have 1 to 500 characters");
    None
}
