//! All the codes a problem can have: the status each comes with, what it means, and what a caller should do. What is not
//! here may not be answered, and a test holds the code to that.

use poem::http::StatusCode;
use serde_json::{Value, json};

use super::examples;

/// One kind of problem.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The word that clients match on.
    pub(crate) code: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What has happened.
    pub(crate) meaning: &'static str,
    /// What the caller should do about it.
    pub(crate) remedy: &'static str,
    /// The sentence of the example.
    detail: &'static str,
}

const fn kind(
    status: u16,
    code: &'static str,
    detail: &'static str,
    meaning: &'static str,
    remedy: &'static str,
) -> Kind {
    Kind { code, status, meaning, remedy, detail }
}

/// The kind of this code.
pub(crate) fn find(code: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.code == code)
}

impl Kind {
    /// A problem of this kind, as it is answered.
    pub(crate) fn example(&self) -> Value {
        let title = StatusCode::from_u16(self.status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .unwrap_or("Error");
        let mut problem = json!({
            "type": "about:blank", "title": title, "status": self.status, "code": self.code, "detail": self.detail,
        });
        match self.code {
            "invalid" => problem["errors"] = json!([{"field": "userId", "message": "is required"}]),
            "coupon_locked" => problem["lockedUntil"] = json!(examples::LATER),
            "pattern_exhausted" => problem["remaining"] = json!(17),
            "not_utf8" | "record_too_long" | "unclosed_quote" => problem["line"] = json!(3),
            "unknown_delimiter" => problem["line"] = json!(1),
            "unclear_header" => {
                problem["line"] = json!(1);
                problem["firstRecord"] = json!(["Type", "Amount"]);
                problem["parameters"] = json!(["header", "codeColumn", "userColumn", "delimiter"]);
            }
            _ => {}
        }
        problem
    }
}

/// All of them, by status.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    kind(400, "bad_json", "the body is not JSON: line 1, column 9",
        "The body is not JSON, or not a JSON object.",
        "Send a JSON object. `detail` says where it breaks."),
    kind(400, "bad_request", "the body ended early",
        "The request cannot be read: its body ended early or is not the form it says it is, or a header that must come once (`Host`, \
         `Idempotency-Key`) does not.",
        "Send it again, whole, with each of these headers once."),
    kind(401, "unauthorized",
        "send a valid access token as `Authorization: Bearer …`, or a valid key as `X-API-Key`",
        "There are no credentials, or they are wrong or have run out.",
        "Refresh the access token or log in again; check the API key."),
    kind(401, "invalid_credentials", "the email or the password is not right",
        "The email or the password is wrong, or the account is disabled.",
        "Ask the person again."),
    kind(401, "invalid_refresh_token", "the refresh token is not valid: log in again",
        "The refresh token is unknown, has run out or was used before.",
        "Log in again."),
    kind(403, "forbidden", "only an ADMIN or a SERVICE may do this",
        "The role does not allow it. `detail` says which rule.",
        "Do not repeat it; call with credentials that may."),
    kind(404, "not_found", "there is no such coupon",
        "It is unknown, or it is another's: the two cannot be told apart.",
        "Check the id or code, and whose credentials these are."),
    kind(405, "method_not_allowed", "this path does not have this method",
        "The path is there, the method is not.",
        "Use a method of the `Allow` header."),
    kind(408, "request_timeout", "the body did not come in time; send the request again",
        "The body did not come in the time it has.",
        "Send it again; with an `Idempotency-Key` that is safe."),
    kind(409, "already_assigned", "the code is already assigned to another user",
        "Somebody else holds the code.",
        "Give the user another code."),
    kind(409, "book_closed", "the book is closed",
        "The book is `CLOSED`, which is for good.",
        "Use another book."),
    kind(409, "book_expired", "the book has expired",
        "The time of the book is over.",
        "Tell the user; or move the book's `expiresAt`."),
    kind(409, "book_in_use", "the book cannot be deleted: codes of it were assigned",
        "Codes of the book were assigned, so it stays.",
        "Set its status to `CLOSED` instead."),
    kind(409, "book_not_active", "the book is not active",
        "The book is not `ACTIVE`.",
        "Set its status to `ACTIVE` first."),
    kind(409, "book_not_started", "the book starts later",
        "The time of the book has not come.",
        "Wait for its `startsAt`, or move it."),
    kind(409, "coupon_already_redeemed", "the code has been redeemed as often as it may be",
        "All uses of the code are made.",
        "Do not repeat it; the code is used up."),
    kind(409, "coupon_locked", "the code is locked by its holder until 2026-12-01 12:05:00 UTC",
        "Another user holds the code and has it locked, until `lockedUntil`.",
        "Check the user; this one does not hold the code."),
    kind(409, "coupon_void", "the code is void",
        "The code was ended for good.",
        "Give the user another code."),
    kind(409, "email_taken", "the email is already in use",
        "Another account has this email.",
        "Use another, or change that account."),
    kind(409, "invalid_transition", "a book cannot go from CLOSED to ACTIVE",
        "The states of a book do not have this step.",
        "Look at the book's `status`: `DRAFT` to `ACTIVE`, `ACTIVE` to `PAUSED` and back, any of them to `CLOSED`."),
    kind(409, "key_in_progress",
        "the first request under this Idempotency-Key is still running: ask again shortly",
        "The first request under this `Idempotency-Key` still runs.",
        "Repeat the same request after `Retry-After` seconds: it has the answer then."),
    kind(409, "last_admin", "this is the last enabled admin of the business: make or enable another first",
        "The account is the only admin left who can log in.",
        "Make or enable another admin first."),
    kind(409, "lock_required", "the book asks for a lock before redeeming: lock the code first",
        "The book wants a lock before a redemption, and there was none.",
        "Lock the code, then redeem it."),
    kind(409, "lock_stale", "the code was locked anew since that lock",
        "The `lockId` names a lock that was followed by another one.",
        "Somebody else took over for this user: do not redeem under the old lock."),
    kind(409, "not_assigned", "the code is not assigned to anybody",
        "Nobody holds the code.",
        "Assign it first."),
    kind(409, "not_holder", "the user does not hold this code",
        "Another user holds the code.",
        "Check the code and the `userId`."),
    kind(409, "sold_out", "the book has no free code left",
        "No code of the book is free.",
        "Add codes to the book."),
    kind(409, "user_id_taken", "the userId is already in use",
        "Another account of the business has this `userId`.",
        "Use another."),
    kind(409, "user_limit_reached", "the user already holds the 2 codes that the book allows each user",
        "The user holds or has redeemed as many codes of the book as it allows.",
        "Tell the user; or raise the book's `maxCodesPerUser`."),
    kind(409, "wrong_job_state", "the job is SUCCEEDED: only one that is not over can be cancelled",
        "The state of the job does not allow it. `detail` says which would.",
        "Get the job and look at its `status`."),
    kind(410, "job_discarded", "the job ended long ago: its rejected rows and uploads are deleted, and it cannot be retried",
        "The job ended longer ago than its details are kept, 90 days by default.",
        "Send the codes in a new job."),
    kind(410, "lock_expired", "the lock has expired: lock the code again",
        "The lock ran out or was released, and the redemption needs one.",
        "Lock the code again, then redeem it."),
    kind(413, "too_large", "the file is larger than 2147483648 bytes, the most that is taken",
        "The body is larger than what is taken: 1 MiB of JSON, or the configured size of an upload.",
        "Send less; cut a file in two."),
    kind(415, "unsupported_media_type", "send the body with Content-Type application/json",
        "The body has a type that is not taken here, or is compressed.",
        "Send it with the `Content-Type` that `detail` names, and without `Content-Encoding`."),
    kind(422, "empty_file", "the file has no rows: put one code on each line",
        "The file has no rows, or nothing but a header.",
        "Upload one with a code on each line."),
    kind(422, "invalid", "the request is not valid: userId is required",
        "The request is well-formed but not valid: `errors` names all the fields and parameters at fault, and what would be right. \
A name that is unknown or given twice is at fault as well, and so is a number that would have to be rounded.",
        "Correct those fields. Send a number that does not fit a double or 64 bits as a string."),
    kind(422, "key_reused", "the Idempotency-Key was used before with another request: use a new key",
        "The `Idempotency-Key` came before with another request.",
        "Use a new key for a new request, and the same body for the same one."),
    kind(422, "not_utf8", "line 3 is not UTF-8 at byte 7 of the line (0xF3): save it as UTF-8 and upload it again",
        "The file is not text in UTF-8 from `line` on.",
        "Save it as CSV in UTF-8; `detail` says how in Excel and LibreOffice."),
    kind(422, "pattern_exhausted", "the pattern has only 17 codes left",
        "The pattern has fewer codes left than were asked for; `remaining` says how many. Nothing was made.",
        "Ask for fewer, or add a character to the pattern."),
    kind(422, "record_too_long", "the record that starts on line 3 is longer than 65536 bytes: shorten it, or break it into lines",
        "The row that starts on `line` has more than 64 KiB; often a quote is not closed.",
        "Mend the row."),
    kind(422, "unclear_header", "line 1: it may be a header or a row. Settle it with the parameters header=true or header=false, codeColumn and userColumn (a column's name, or its number from 1) and delimiter",
        "It is not certain which record is the header, or what its columns hold. `firstRecord` has the record in question as read. Nothing is kept.",
        "Send the file again with one of the `parameters`, such as `header=true&codeColumn=2`."),
    kind(422, "unclosed_quote", "the record that starts on line 3 opens a quote that is never closed: close it, or remove it",
        "A quote is opened on `line` and never closed.",
        "Close it, or remove it."),
    kind(422, "unknown_delimiter", "the line sep=: names a delimiter that is not supported: use a comma, a semicolon, a tab or a pipe: , ; tab |",
        "The first line `sep=X` names a delimiter that is not supported.",
        "Save the file with `,`, `;`, a tab or `|` between the cells."),
    kind(429, "rate_limited", "too many requests: ask again in 12 s",
        "There were too many requests.",
        "Wait for `Retry-After` seconds; `RateLimit` and `RateLimit-Policy` say what is left and what is allowed."),
    kind(500, "internal", "the server has a fault; the log has it under the request's id",
        "A fault of the server.",
        "Tell its operators the `X-Request-Id`. Repeat with the same `Idempotency-Key` if the effect matters."),
    kind(503, "coupon_busy", "another transaction holds the coupon, or a row that the call changes: ask again",
        "Another transaction has held what the call changes for longer than two seconds. Nothing happened.",
        "Repeat after `Retry-After` seconds, with the same `Idempotency-Key`."),
    kind(503, "overloaded", "the server has no free place for this request; ask again",
        "The server has no place left for this request: all are in use, or the caller, its business, its address or all requests \
         without credentials have their share.",
        "Repeat after `Retry-After` seconds, with the same `Idempotency-Key`."),
    kind(503, "too_many_streams", "the caller has 250 streams of events open, which is the limit: come back later, or ask for the job itself",
        "The server has 1,000 streams of events open, the business 500, or the caller or its address 250 (unless the settings say \
         otherwise): each is the limit, and `detail` says which.",
        "Repeat after `Retry-After` seconds, or ask for the job itself."),
    kind(503, "unavailable", "the server cannot do this right now; ask again",
        "Something that the server needs is away, such as its database.",
        "Repeat after `Retry-After` seconds, with the same `Idempotency-Key`."),
];

/// Why a job failed, in the words of its `error.code`; it may also be a code of a problem.
pub(crate) const JOB_FAILURES: &[(&str, &str)] = &[
    (
        "internal_error",
        "A part failed again and again by a fault of the server. Tell its operators, and retry the job.",
    ),
    (
        "unreadable_chunk",
        "A part was written by a newer version and set aside by an older worker. Finish the upgrade, and retry the job.",
    ),
    (
        "worker_lost",
        "A part ended its worker ten times and was set aside. Tell the operators, and retry the job.",
    ),
];

/// Why a row of an upload was refused, in the words of the errors file.
pub(crate) const ROW_REASONS: &[(&str, &str)] = &[
    ("already_exists", "The business has the code already."),
    (
        "bad_character",
        "The code has a character other than letters `A-Z`, digits, `-` and `_`; `detail` names it.",
    ),
    ("bad_user_id", "The user id is longer than 128 bytes or has control or zero-width characters."),
    ("duplicate_in_file", "An earlier line has the same code."),
    ("empty", "The code is empty."),
    ("no_code_at_start", "The file has no header and no code in its first rows, so nothing is imported."),
    ("repeated_header", "The row repeats the header."),
    ("too_long", "The code has more than 64 characters."),
    (
        "too_many_cells",
        "The row has text behind the last column of the header, for example because of a stray delimiter.",
    ),
    ("too_short", "The code has fewer than 3 characters."),
    ("user_limit_reached", "The code was imported, but its user may not hold one more: it is free."),
];

#[cfg(test)]
mod tests;
