//! A job's warnings as the API shows them.

use cuponera_core::job::JobWarning;
use poem_openapi::Object;

/// A warning about a job that succeeds as requested.
#[derive(Debug, Object)]
#[oai(rename = "JobWarning")]
pub(super) struct JobWarningView {
    /// A stable code: `guessable_codes`.
    code: String,
    /// A sentence for people, including the remedy.
    detail: String,
}

/// None if there are no warnings.
pub(super) fn warnings_of(warnings: Vec<JobWarning>) -> Option<Vec<JobWarningView>> {
    let view = |warning: JobWarning| JobWarningView { code: warning.code, detail: warning.detail };
    (!warnings.is_empty()).then(|| warnings.into_iter().map(view).collect())
}
