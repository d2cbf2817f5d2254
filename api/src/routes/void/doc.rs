//! The document of the bulk void: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{JOB, job, void_preview};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("voidCoupons")
            .body(json!({"reason": "wrong file", "jobId": JOB, "dryRun": false}))
            .answers(200, "The codes by status; nothing changed.", void_preview())
            .answers(202, "The job that voids the codes.", job("VOID_CODES"))
            .located()
            .refuses(&["forbidden", "not_found", "wrong_job_state"]),
    ]
}
