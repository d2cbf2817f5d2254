//! Examples and rejections of the operations on user pools and distributions.

use serde_json::json;

use super::Operation;
use crate::document::examples::{BOOK, CODE, NOW, USER, counted_page, distribution, job, page, pool};

/// A file may be rejected as a whole.
const OF_THE_FILE: &[&str] = &[
    "storage_quota_exceeded",
    "empty_file",
    "not_utf8",
    "record_too_long",
    "unclear_header",
    "unclosed_quote",
    "unknown_delimiter",
];

pub(super) fn operations() -> Vec<Operation> {
    let mut operations = pools();
    operations.extend(users());
    operations.extend(distributions());
    operations
}

fn pools() -> Vec<Operation> {
    vec![
        Operation::of("createUserPool")
            .body(json!({"name": "Newsletter", "description": "Subscribers of the newsletter"}))
            .answers(201, "The pool.", pool())
            .located()
            .refuses(&["forbidden", "name_taken"]),
        Operation::of("listUserPools")
            .answers(200, "A page of pools.", counted_page(&pool()))
            .refuses(&["forbidden"]),
        Operation::of("getUserPool").answers(200, "The pool.", pool()).refuses(&["forbidden"]),
        Operation::of("updateUserPool")
            .body(json!({"name": "Newsletter"}))
            .answers(200, "The changed pool.", pool())
            .refuses(&["forbidden", "name_taken"]),
        Operation::of("deleteUserPool").answers_nothing(204, "The pool is deleted.").refuses(&["forbidden"]),
    ]
}

fn users() -> Vec<Operation> {
    vec![
        Operation::of("addPoolUsers")
            .body(json!({"userIds": [USER, "eva"]}))
            .body_as("text/csv", json!("userId\nana\neva\n"))
            .body_as("multipart/form-data", json!({"file": "userId\nana\neva\n", "header": true}))
            .answers(
                200,
                "How many users were added.",
                json!({"added": 1, "alreadyMembers": 1, "invalid": 0}),
            )
            .answers(202, "The job that adds the users of a file.", job("IMPORT_MEMBERS"))
            .located()
            .refuses(&["forbidden"])
            .refuses(OF_THE_FILE),
        Operation::of("listPoolUsers")
            .answers(200, "A page of users.", counted_page(&json!({"userId": USER, "addedAt": NOW})))
            .refuses(&["forbidden"]),
        Operation::of("removePoolUsers")
            .body(json!({"userIds": [USER]}))
            .answers(200, "How many users were removed.", json!({"removed": 1}))
            .refuses(&["forbidden"]),
        Operation::of("removePoolUser").answers_nothing(204, "The user is removed.").refuses(&["forbidden"]),
    ]
}

fn distributions() -> Vec<Operation> {
    vec![
        Operation::of("distributeCodes")
            .body(json!({"couponBookId": BOOK, "mode": "EQUAL", "totalCodes": 1000, "seed": 42}))
            .answers(
                200,
                "With `dryRun`: the result that the distribution would have.",
                json!({
                    "members": 300, "eligible": 300, "codesNeeded": 1000, "codesAvailable": 1000,
                    "perUser": {"min": 3, "max": 4}, "short": 0, "sample": [{"userId": USER, "given": 4}],
                }),
            )
            .answers(202, "The job that distributes the codes.", job("DISTRIBUTE"))
            .located()
            .refuses(&[
                "forbidden",
                "book_not_active",
                "book_not_started",
                "book_expired",
                "not_enough_codes",
            ]),
        Operation::of("listDistributions")
            .answers(200, "A page of distributions.", page(&distribution()))
            .refuses(&["forbidden"]),
        Operation::of("getDistribution")
            .answers(200, "The distribution.", distribution())
            .refuses(&["forbidden"]),
        Operation::of("getDistributionReport")
            .answers(
                200,
                "A CSV file: the user, the number of its codes, the codes, and a note.",
                json!(format!("userId,given,codes,note\n{USER},1,{CODE},limit_reached\n")),
            )
            .refuses(&["forbidden", "job_discarded"]),
    ]
}
