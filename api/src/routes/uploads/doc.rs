//! The document of the operations on uploads: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, job};

/// A free code, and a code that is assigned to Ana.
const FILE: &str = "code,userId,shop\nVIP-001,,North\nVIP-002,ana,South\n";

/// Rejections of a file that cannot be read or stored.
pub(in crate::routes) const OF_THE_FILE: &[&str] = &[
    "not_utf8",
    "empty_file",
    "unclear_header",
    "unknown_delimiter",
    "record_too_long",
    "unclosed_quote",
    "storage_quota_exceeded",
];

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("uploadCodes")
            .body_as("text/csv", json!(FILE))
            .body_as("multipart/form-data", json!({"file": FILE, "couponBookId": BOOK, "dryRun": false}))
            .answers(202, "The job that imports the codes.", job("IMPORT_CODES"))
            .located()
            .refuses(&["forbidden", "not_found", "book_closed"])
            .refuses(OF_THE_FILE),
    ]
}
