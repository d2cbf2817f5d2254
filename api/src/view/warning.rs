//! A job's warnings as the API shows them.

use cuponera_core::job::JobWarning;
use poem_openapi::Object;

/// What a job's owner should know although it is done as asked.
#[derive(Debug, Object)]
#[oai(rename = "JobWarning")]
pub(super) struct JobWarningView {
    /// A stable word: `guessable_codes`.
    code: String,
    /// A sentence for people, with what to do about it.
    detail: String,
}

/// None if there is nothing to warn of.
pub(super) fn warnings_of(warnings: Vec<JobWarning>) -> Option<Vec<JobWarningView>> {
    let view = |warning: JobWarning| JobWarningView { code: warning.code, detail: warning.detail };
    (!warnings.is_empty()).then(|| warnings.into_iter().map(view).collect())
}
