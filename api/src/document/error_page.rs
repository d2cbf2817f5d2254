//! The page of error codes, as Markdown: each with its status, what it means, what to do, and which operations answer it.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::catalog::{JOB_FAILURES, KINDS, ROW_REASONS};
use super::{DOCUMENT, codes_of, operations_of};

const HEAD: &str = "# Error codes

Every refusal and fault is a problem: `application/problem+json` as in RFC 9457. Match on its `code`; `status` is the HTTP status,
`detail` a sentence for people. Further fields come with some codes: `errors` with `invalid`, `remaining` with
`pattern_exhausted`, `lockedUntil` with `coupon_locked`, `line` with a file that cannot be imported, `firstRecord` and
`parameters` with `unclear_header`. Every answer has an `X-Request-Id`, which the log has too. New codes may come; treat one
you do not know by its status.

What a client does by status: **400, 413, 415, 422** mend the request; **401** log in again; **403** do not repeat; **404**, **409**,
**410** look at the code; **408, 429, 500, 503** repeat later with the same `Idempotency-Key`, after `Retry-After` if it is there.

This page is made from the code: `make openapi` writes it anew.
";

/// Of more operations than this only the number is told.
const MAX_LISTED: usize = 8;

/// The page.
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
            "\n## {}\n\n**{}** · {}\n\n*What to do:* {}\n\n*Answered by:* {answered}\n",
            kind.code, kind.status, kind.meaning, kind.remedy
        );
    }
    page.push_str("\n# Why a job failed\n\n`error.code` of a job that is `FAILED`: a code from above, or one of these.\n");
    table(&mut page, "code", JOB_FAILURES);
    page.push_str("\n# Why a row was refused\n\n`reason` in the errors file of an import, `GET /api/v1/jobs/{id}/errors`.\n");
    table(&mut page, "reason", ROW_REASONS);
    page
}

fn table(page: &mut String, head: &str, rows: &[(&str, &str)]) {
    let _ = write!(page, "\n| {head} | what it means |\n|---|---|\n");
    for (word, meaning) in rows {
        let _ = writeln!(page, "| `{word}` | {meaning} |");
    }
}

/// Which operations answer a code.
fn operations_by_code(document: &Value) -> BTreeMap<&str, Vec<&str>> {
    let mut by_code: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (_, _, operation) in operations_of(document) {
        for code in codes_of(document, operation) {
            by_code.entry(code).or_default().push(operation["operationId"].as_str().unwrap_or_default());
        }
    }
    by_code
}
