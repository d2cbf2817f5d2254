//! All error codes, each with its status, meaning and remedy. A test fails if the code returns one that is not listed here.

use poem::http::StatusCode;
use serde_json::{Value, json};

use super::examples;

/// An error code with its description.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The stable code that clients match on.
    pub(crate) code: &'static str,
    /// The HTTP status.
    pub(crate) status: u16,
    /// What happened.
    pub(crate) meaning: &'static str,
    /// What the client should do.
    pub(crate) remedy: &'static str,
    /// `detail` of the example.
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

/// The kind with this code.
pub(crate) fn find(code: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.code == code)
}

impl Kind {
    /// The example of a problem document of this kind.
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
            "choose_business" => {
                problem["businesses"] =
                    json!([{"id": examples::BUSINESS, "name": "My shop", "role": "USER"}]);
            }
            "storage_quota_exceeded" => {
                problem["usedBytes"] = json!(10_737_000_000_u64);
                problem["allowedBytes"] = json!(10_737_418_240_u64);
            }
            "not_enough_codes" => {
                problem["needed"] = json!(300);
                problem["available"] = json!(250);
            }
            "pattern_exhausted" => problem["remaining"] = json!(17),
            "user_limit_reached" | "redeem_limit_reached" => problem["limit"] = json!(2),
            "webhook_limit_reached" => problem["limit"] = json!(100),
            "too_large" => problem["limitBytes"] = json!(2_147_483_648_u64),
            "invalid_transition" => {
                problem["from"] = json!("CLOSED");
                problem["to"] = json!("ACTIVE");
            }
            "events_archived" => problem["month"] = json!("2027-06"),
            "wrong_job_state" => problem["jobStatus"] = json!("SUCCEEDED"),
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

/// All kinds, by status.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    kind(400, "bad_json", "the body is not JSON: line 1, column 9",
        "The body is not JSON, or not a JSON object.",
        "Send a JSON object. `detail` gives the position of the error."),
    kind(400, "bad_request", "the body ended early",
        "The body ended early or is not a valid form, or a header that must occur once (`Host`, `Idempotency-Key`) is missing or \
repeated.",
        "Send the complete request again, with each of these headers once."),
    kind(401, "unauthorized",
        "send a valid access token as `Authorization: Bearer …`, or a valid key as `X-API-Key`",
        "The credentials are missing, invalid or expired.",
        "Refresh the access token or log in again; check the API key."),
    kind(401, "invalid_credentials", "the email or the password is wrong",
        "The email or the password is wrong, the account is disabled, or it does not belong to the business.",
        "Ask the user for the email and the password again."),
    kind(401, "invalid_refresh_token", "the refresh token is not valid: log in again",
        "The refresh token is unknown, has expired or was used before.",
        "Log in again."),
    kind(403, "forbidden", "only an ADMIN or a SERVICE may do this",
        "The caller's role or permissions do not allow the operation. `detail` names the rule.",
        "Do not repeat the request. Use credentials with the permission."),
    kind(404, "not_found", "there is no such coupon",
        "The object does not exist or belongs to another user or business. The response is the same in both cases.",
        "Check the id or code, and the account of the credentials."),
    kind(405, "method_not_allowed", "this path does not support this method",
        "The path exists but does not support the method.",
        "Use one of the methods in the `Allow` header."),
    kind(408, "request_timeout", "the body did not arrive in time: send the request again",
        "The body did not arrive in time.",
        "Send the request again. With an `Idempotency-Key` this is safe."),
    kind(409, "account_shared", "the account also belongs to another business: only its user can change the password",
        "The account also belongs to another business.",
        "The user of the account can change the password with `POST /auth/password`."),
    kind(409, "already_assigned", "the code is already assigned to another user",
        "Another user holds the code.",
        "Assign another code to the user."),
    kind(409, "already_rolled_back", "the redemption has been rolled back already",
        "The redemption was rolled back before. Its use was given back once.",
        "Do not repeat the request."),
    kind(409, "book_closed", "the book is closed",
        "The book is `CLOSED`. This status is final.",
        "Use another book."),
    kind(409, "book_expired", "the book has expired",
        "The book has expired.",
        "Inform the user, or change `expiresAt` of the book."),
    kind(409, "book_in_use", "the book cannot be deleted: codes of it were assigned",
        "A book whose codes were ever assigned cannot be deleted.",
        "Set its status to `CLOSED` instead."),
    kind(409, "book_not_active", "the book is not active",
        "The book is not `ACTIVE`.",
        "Set its status to `ACTIVE` first."),
    kind(409, "book_not_started", "the book has not started yet",
        "The book has not started yet.",
        "Wait until `startsAt`, or change it."),
    kind(409, "choose_business", "the account belongs to several businesses: send the `businessId` of one of them",
        "The password is correct, and the account belongs to several businesses. `businesses` lists them.",
        "Log in again with the `businessId` of one of them."),
    kind(409, "code_exists", "the business already has this code",
        "A book of the business has this code.",
        "Use another code, or change the limits of this one with `PATCH /coupons/{code}`."),
    kind(409, "code_kind_fixed", "codeKind cannot change: codes were added to the book",
        "Codes were added to the book, or a job was submitted that adds them.",
        "Create another book, or clone this one and change `codeKind` of the clone before you add codes."),
    kind(409, "coupon_already_redeemed", "all uses of the code are redeemed",
        "All uses of the code are redeemed; a code that is to be taken back was used at least once.",
        "Do not repeat the request. A code that has uses left can be voided."),
    kind(409, "coupon_locked", "the code is locked until 2026-12-01 12:05:00 UTC",
        "The code is locked until `lockedUntil`: by another user than the one of the request, or by its holder while the request is to take \
it back. Of a `SHARED` code, users have locked all uses that are left; the first of these locks ends at `lockedUntil`.",
        "Check the `userId`. To take the code back, wait, unlock it, or void it. To use a `SHARED` code, repeat the request after `lockedUntil`."),
    kind(409, "coupon_not_started", "the code has not started yet",
        "The code has a `startsAt` of its own, in the future.",
        "Wait until `startsAt`, or change it with `PATCH /coupons/{code}`."),
    kind(409, "coupon_reserved", "the code is reserved for a distribution",
        "A distribution of the book's codes is under way and has reserved the code. A book with reserved codes cannot be deleted.",
        "Repeat the request when the job of the distribution has ended, or assign another code."),
    kind(409, "coupon_suspended", "the code is suspended",
        "The code is suspended.",
        "Inform the user, or end the suspension with `PATCH /coupons/{code}`."),
    kind(409, "coupon_void", "the code is void",
        "The code is void. This status is final.",
        "Assign another code to the user."),
    kind(409, "email_taken", "the email is already in use",
        "A member of the business has this email.",
        "Use another email, or change the existing account."),
    kind(409, "invalid_transition", "the status of a book cannot change from CLOSED to ACTIVE",
        "The book cannot change from its current status to the requested one.",
        "Check the `status` of the book. Allowed are `DRAFT` to `ACTIVE`, `ACTIVE` to `PAUSED` and back, and each of these to `CLOSED`."),
    kind(409, "key_in_progress",
        "the first request with this Idempotency-Key is still running: retry shortly",
        "The first request with this `Idempotency-Key` is still running.",
        "Repeat the same request after `Retry-After` seconds to get its response."),
    kind(409, "last_admin", "this is the last enabled admin of the business: create or enable another admin first",
        "The account is the only enabled admin of the business.",
        "Create or enable another admin first."),
    kind(409, "lock_required", "the book requires a lock for a redemption: lock the code first",
        "The book requires a lock for a redemption, and the code is not locked.",
        "Lock the code, then redeem it."),
    kind(409, "lock_stale", "a newer lock has replaced this lock",
        "A newer lock has replaced the lock with this `lockId`.",
        "Another client has locked the code for this user. Do not redeem it with the old lock."),
    kind(409, "name_taken", "the business has a pool with this name",
        "Another pool of the business has this name.",
        "Use another name."),
    kind(409, "not_assignable", "a code of a SHARED book is not assigned: all users may redeem it",
        "The book is `SHARED`: its codes have no holder.",
        "Give the code to all users that may redeem it. To assign codes, use a book of another `codeKind`."),
    kind(409, "not_assigned", "the code is not assigned",
        "No user holds the code.",
        "Assign the code first."),
    kind(409, "not_enough_codes", "the distribution needs 300 codes, and the book has 250",
        "The book has too few free codes for the distribution; `needed` and `available` have both numbers. A job fails with this code, \
and assigns nothing, if only its planning finds the shortage.",
        "Add codes to the book, distribute fewer, or send `onShortage=PARTIAL`."),
    kind(409, "not_holder", "the user does not hold this code",
        "Another user holds the code.",
        "Check the code and the `userId`."),
    kind(409, "recipient_key_used", "the recipientKey was used for another user, or its code was taken back",
        "The `recipientKey` was used in the book before, for another user, or for a code that was revoked since.",
        "Use one `recipientKey` for each recipient. To assign another code after a revocation, use a new `recipientKey`."),
    kind(409, "redeem_limit_reached", "the user has redeemed this code 2 times, the maximum for each user",
        "The user has redeemed or locked the `SHARED` code as often as allowed; `limit` is the number.",
        "Inform the user, or raise `maxRedeemsPerUser` of the code."),
    kind(409, "reference_used", "another user redeemed the code with this reference",
        "Another user redeemed the code before, with this `reference`.",
        "Check the `userId`. For another sale, use another `reference`."),
    kind(409, "sold_out", "the book has no free code left",
        "The book has no free code.",
        "Add codes to the book."),
    kind(409, "user_id_taken", "the userId is already in use",
        "Another account of the business has this `userId`.",
        "Use another `userId`."),
    kind(409, "user_limit_reached", "the user already has 2 codes of the book, the maximum for each user",
        "The user holds or has redeemed the maximum number of codes of the book; of a `SHARED` book, the user has redeemed or locked this \
number of other codes.",
        "Inform the user, or raise `maxCodesPerUser` of the book."),
    kind(409, "webhook_disabled", "the webhook is disabled: enable it first",
        "The webhook is disabled, so nothing can be sent to it.",
        "Enable it with `PATCH /webhooks/{id}`. `disabledReason` shows why the service disabled it."),
    kind(409, "webhook_limit_reached", "the business has 100 webhooks, the maximum: delete one first",
        "The business has the maximum number of webhooks.",
        "Delete a webhook, or let one receiver get more event types."),
    kind(409, "wrong_job_state", "the job is SUCCEEDED: only a queued or running job can be cancelled",
        "The status of the job does not allow the operation. `detail` names the statuses that do.",
        "Get the job and check its `status`."),
    kind(410, "coupon_expired", "the code has expired",
        "The code was assigned longer ago than `codeValidDays` of its book allowed then; `expiresAt` of the coupon is the time.",
        "Inform the user, or assign another code."),
    kind(410, "events_archived", "events after this position are archived, up to 2027-06: follow without Last-Event-ID, and read the files of the archives",
        "Events after the position of `Last-Event-ID` are archived; `month` is the last archived month. A stream would pass over them.",
        "Follow without `Last-Event-ID`. `cuponera archive` has written the archived events to files."),
    kind(410, "export_expired", "the file of an export is kept for 7 days after it is complete: export again",
        "The file of the export was deleted, 7 days after it was complete.",
        "Export again."),
    kind(410, "job_discarded", "the retention period of the job has ended: its rejected rows and uploads are deleted, and it cannot be retried",
        "The job ended longer ago than the retention period of its details: 90 days by default, 7 days for an export that failed.",
        "Submit the codes in a new job."),
    kind(410, "lock_expired", "the lock has expired: lock the code again",
        "The lock has expired or was released, and the redemption needs a lock.",
        "Lock the code again, then redeem it."),
    kind(413, "too_large", "the file exceeds the limit of 2147483648 bytes",
        "The body exceeds the limit: 1 MiB for JSON, or the configured size for an upload.",
        "Send a smaller body. Split a file into several uploads."),
    kind(413, "storage_quota_exceeded", "the quota of uploads, rejected rows and exports is 10737418240 bytes, of which other jobs use 10737000000",
        "The uploads, rejected rows and exports of the business would exceed its storage quota. `usedBytes` and `allowedBytes` have both numbers. A job \
fails with this code if its rejected rows or the file of an export do not fit.",
        "Wait until the running jobs have ended: the upload of a job that succeeded or was cancelled is deleted within about an hour. To free the \
upload of a failed job, retry the job until it succeeds, or retry and cancel it. Rejected rows are deleted with the details of old jobs, files of exports after 7 days."),
    kind(415, "unsupported_media_type", "send the body with Content-Type application/json",
        "The operation does not accept the media type of the body, or the body is compressed.",
        "Send the body with the `Content-Type` that `detail` names, without `Content-Encoding`."),
    kind(416, "range_not_satisfiable", "the file has 1000 bytes: request a range of them",
        "The file has none of the bytes of the `Range` header. `Content-Range` has its length.",
        "Request a range within the file. A download that has all bytes is complete."),
    kind(422, "empty_file", "the file has no rows: put one code on each line",
        "The file has no rows, or only a header.",
        "Upload a file with one code on each line."),
    kind(422, "invalid", "the request is not valid: userId is required",
        "The request is well-formed but has invalid fields or parameters. `errors` lists all of them with what is expected. \
Unknown and repeated names are invalid too, and so are numbers that would have to be rounded.",
        "Correct these fields. Send numbers that fit neither a double nor a 64-bit integer as strings."),
    kind(422, "key_reused", "the Idempotency-Key was used before with another request: use a new key",
        "The `Idempotency-Key` was used before with a different request.",
        "Use a new key for a new request. Repeat a request with an unchanged body."),
    kind(422, "not_utf8", "line 3 is not UTF-8 at byte 7 of the line (0xF3): save it as UTF-8 and upload it again",
        "The file is not UTF-8; the first invalid byte is on `line`.",
        "Save the file as CSV in UTF-8. `detail` describes how in Excel and LibreOffice."),
    kind(422, "pattern_exhausted", "the pattern has only 17 codes left",
        "The pattern has fewer codes left than requested; `remaining` is their number. No codes were generated.",
        "Request fewer codes, or use a longer pattern."),
    kind(422, "record_too_long", "the record that starts on line 3 is longer than 65536 bytes: shorten it, or break it into lines",
        "The row that starts on `line` is larger than 64 KiB, often because a quote is not closed.",
        "Correct the row."),
    kind(422, "unclear_header", "line 1: it may be a header or a row. Determine it with the parameters header=true or header=false, codeColumn and userColumn (a column's name, or its number from 1) and delimiter",
        "It is unclear which record is the header, or what its columns contain. `firstRecord` is the record in question. Nothing was stored.",
        "Send the file again with one of the `parameters`, such as `header=true&codeColumn=2`."),
    kind(422, "unclosed_quote", "the record that starts on line 3 opens a quote that is never closed: close it, or remove it",
        "A quote that is opened on `line` is never closed.",
        "Close or remove the quote."),
    kind(422, "unknown_delimiter", "the line sep=: names a delimiter that is not supported: use a comma, a semicolon, a tab or a pipe: , ; tab |",
        "The first line `sep=X` names a delimiter that is not supported.",
        "Save the file with `,`, `;`, a tab or `|` as the delimiter."),
    kind(429, "rate_limited", "too many requests: retry in 12 s",
        "The caller sent too many requests, or a login had too many wrong passwords for the email.",
        "Wait for `Retry-After` seconds. For requests, `RateLimit` and `RateLimit-Policy` give the remaining and the allowed number."),
    kind(500, "internal", "internal server error: the log contains the cause under the request id",
        "The server has an internal error.",
        "Report the `X-Request-Id` to the operators. If the effect matters, repeat the request with the same `Idempotency-Key`."),
    kind(503, "coupon_busy", "another transaction has locked a row that the call changes: retry",
        "Another transaction has locked a row that the call changes for more than two seconds. The call changed nothing.",
        "Repeat the request after `Retry-After` seconds with the same `Idempotency-Key`."),
    kind(503, "overloaded", "the server has no capacity for this request: retry",
        "The server has no capacity for this request: its limit is reached, or the share of the caller, its business, its address \
or all requests without credentials.",
        "Repeat the request after `Retry-After` seconds with the same `Idempotency-Key`."),
    kind(503, "statistics_not_ready", "the events of an earlier version are still being counted: retry",
        "After an upgrade, a worker counts the events of the earlier version once. It takes about a second for a million events.",
        "Repeat the request after `Retry-After` seconds. `cuponera-worker` or `cuponera up` must be running."),
    kind(503, "too_many_streams", "the caller has reached the limit of 250 open event streams: retry later, or poll the job",
        "The limit of open event streams is reached: 1,000 for the server, 500 for a business, or 250 for a caller or an address, unless \
configured otherwise. `detail` names the limit.",
        "Repeat the request after `Retry-After` seconds, or poll the job."),
    kind(503, "unavailable", "a service that the server needs is unavailable: retry",
        "A service that the server needs, such as its database, is unavailable.",
        "Repeat the request after `Retry-After` seconds with the same `Idempotency-Key`."),
];

/// The values of `error.code` of a job that are not codes of a problem, with their meanings.
pub(crate) const JOB_FAILURES: &[(&str, &str)] = &[
    (
        "internal_error",
        "A chunk failed repeatedly because of a fault of the server. Report it to the operators, and retry the job.",
    ),
    (
        "unreadable_chunk",
        "An older worker cannot read a chunk that a newer version wrote. Finish the upgrade, and retry the job.",
    ),
    (
        "worker_lost",
        "A chunk crashed its worker, or a statement of it exceeded the worker's time limit, ten times. The chunk was set aside. Report it to \
the operators, and retry the job.",
    ),
];

/// The values of `reason` in the errors file of an import, with their meanings.
pub(crate) const ROW_REASONS: &[(&str, &str)] = &[
    ("already_exists", "The code already exists in the business."),
    ("already_member", "The user is in the pool already."),
    (
        "bad_character",
        "The code has a character other than letters `A-Z`, digits, `-` and `_`; `detail` names it.",
    ),
    ("bad_limit", "A limit of a code of a `SHARED` book is not valid; `detail` names the column."),
    ("bad_user_id", "The user id is longer than 128 bytes or has control or zero-width characters."),
    ("duplicate_in_file", "An earlier line has the same code, or the same user in a file of users."),
    ("empty", "The code is empty."),
    ("no_code_at_start", "The file has no header and no code in its first rows, so nothing is imported."),
    ("no_user", "The row names no user: only in a file that assigns codes."),
    ("not_assignable", "The row names a user, and the book is `SHARED`: its codes have no holder."),
    ("other_book", "The code belongs to another book: only in a file that assigns codes."),
    ("repeated_header", "The row repeats the header."),
    ("too_long", "The code has more than 64 characters."),
    (
        "too_many_cells",
        "The row has text after the last column of the header, for example because of a stray delimiter.",
    ),
    ("too_short", "The code has fewer than 3 characters."),
    (
        "user_limit_reached",
        "The code was not assigned, because its user has reached the limit of the book. An import creates it as a free code.",
    ),
];

#[cfg(test)]
mod tests;
