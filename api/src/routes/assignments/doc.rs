//! The document of the operations on assignments: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, CODE, USER, assignment, coupon, job, page};
use crate::routes::coupons::{OF_THE_BOOK, OF_THE_HOLDER};
use crate::routes::uploads::OF_THE_FILE;

const FILE: &str = "code,userId\nVIP-001,ana\nVIP-002,eva\n";

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("assignRandom")
            .body(json!({"couponBookId": BOOK, "userId": USER, "recipientKey": "mailing 7, customer 4711"}))
            .answers(201, "The code, assigned to the user.", assignment())
            .answers(200, "The code that was assigned for the `recipientKey` before.", assignment())
            .refuses(&[
                "forbidden",
                "not_found",
                "sold_out",
                "user_limit_reached",
                "recipient_key_used",
                "not_assignable",
                "coupon_busy",
            ])
            .refuses(OF_THE_BOOK),
        Operation::of("assignCode")
            .body(json!({"userId": USER}))
            .answers(201, "The code, assigned to the user.", assignment())
            .answers(200, "The user already holds the code.", assignment())
            .refuses(&[
                "forbidden",
                "already_assigned",
                "not_assignable",
                "coupon_reserved",
                "coupon_suspended",
                "coupon_void",
                "user_limit_reached",
                "coupon_busy",
            ])
            .refuses(OF_THE_BOOK),
        Operation::of("revokeCode")
            .body(json!({"reason": "given by mistake"}))
            .answers(
                200,
                "The code is free again.",
                json!({"code": CODE, "status": "AVAILABLE", "couponBookId": BOOK}),
            )
            .refuses(&["coupon_busy"])
            .refuses(OF_THE_HOLDER),
        Operation::of("uploadAssignments")
            .body_as("text/csv", json!(FILE))
            .body_as("multipart/form-data", json!({"file": FILE, "couponBookId": BOOK, "dryRun": false}))
            .answers(202, "The job that assigns the codes.", job("ASSIGN_CODES"))
            .located()
            .refuses(&["forbidden", "not_found", "not_assignable"])
            .refuses(OF_THE_BOOK)
            .refuses(OF_THE_FILE),
        Operation::of("listUserCoupons")
            .answers(200, "A page of the user's coupons.", page(&coupon()))
            .refuses(&["forbidden"]),
    ]
}
