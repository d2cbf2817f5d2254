//! The page of error codes, in Markdown: the status, meaning and remedy of each code, and the operations that return
//! it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::catalog::{JOB_FAILURES, KINDS, ROW_REASONS};
use super::{DOCUMENT, codes_of, operations_of};
use crate::http::problem::spanish;

const HEAD: &str = "# Error codes

Every rejection and every fault is a problem document (`application/problem+json`, RFC 9457). Match on its `code`. `status` is
the HTTP status, `detail` a sentence for people: in English, or in Spanish if the request prefers it (`Accept-Language: es`). A shop can show
it; the messages of invalid fields are in English. Words in braces below are the values of fields of the problem. Some codes have additional fields: `invalid` has `errors`,
`pattern_exhausted` has `remaining`, `user_limit_reached` and `webhook_limit_reached` have `limit`, `invalid_transition` has `from` and `to`, `wrong_job_state` has `jobStatus`, `events_archived` has `month`, `too_large` may have `limitBytes`, `storage_quota_exceeded` has `usedBytes` and `allowedBytes`, `not_enough_codes` has `needed` and `available`, `coupon_locked` has `lockedUntil`, `unclear_header` has `firstRecord` and `parameters`,
and the rejections of a file have `line`. Every response has an `X-Request-Id`, which is also in the log. New versions may add
codes; handle an unknown code by its status.

What a client does for each status: **400, 413, 415, 422**: correct the request. **401**: log in again. **403**: do not repeat
the request. **404, 409, 410**: handle the code. **408, 429, 500, 503**: repeat the request later with the same
`Idempotency-Key`, after `Retry-After` if it is present.

This page is generated from the code by `make openapi`.
";

/// If more operations return a code, the page gives only their number.
const MAX_LISTED: usize = 8;

pub(crate) fn error_page() -> String {
    let operations = operations_by_code(&DOCUMENT.value);
    let mut page = HEAD.to_owned();
    for kind in KINDS {
        let answered = match operations.get(kind.code) {
            Some(ids) if ids.len() > MAX_LISTED => format!("{} operations", ids.len()),
            Some(ids) => ids.iter().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", "),
            None => "any path".to_owned(),
        };
        let _ = write!(
            page,
            "\n## {}\n\n**{}** · {}\n\n*Remedy:* {}\n\n*In Spanish:* {}\n\n*Returned by:* {answered}\n",
            kind.code,
            kind.status,
            kind.meaning,
            kind.remedy,
            spanish::sentence(kind.code).unwrap_or_default(),
        );
    }
    page.push_str(
        "\n# Why a job failed\n\nThe values of `error.code` of a `FAILED` job: the codes above, and these.\n",
    );
    table(&mut page, "code", JOB_FAILURES);
    page.push_str("\n# Why a row was rejected\n\nThe values of `reason` in the errors file of an import, `GET /api/v1/jobs/{id}/errors`.\n");
    table(&mut page, "reason", ROW_REASONS);
    page
}

fn table(page: &mut String, head: &str, rows: &[(&str, &str)]) {
    let _ = write!(page, "\n| {head} | meaning |\n|---|---|\n");
    for (word, meaning) in rows {
        let _ = writeln!(page, "| `{word}` | {meaning} |");
    }
}

/// The operations that return each code.
fn operations_by_code(document: &Value) -> BTreeMap<&str, Vec<&str>> {
    let mut by_code: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (_, _, operation) in operations_of(document) {
        for code in codes_of(document, operation) {
            by_code.entry(code).or_default().push(operation["operationId"].as_str().unwrap_or_default());
        }
    }
    by_code
}
