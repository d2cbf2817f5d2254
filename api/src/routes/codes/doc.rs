//! The document of the operations on coupon codes: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, code, counted_page, job, shared_coupon};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("getCapacity")
            .answers(
                200,
                "The capacity of the pattern.",
                json!({
                    "pattern": "SUMMER-{XXXXXXXX}", "capacity": 1_099_511_627_776_i64, "used": 1000,
                    "remaining": 1_099_511_626_776_i64, "chanceOfHit": 9.094_947_017_729_282e-10,
                    "samples": ["SUMMER-7KQ2WX4H", "SUMMER-M3ZT9PAD"],
                }),
            )
            .refuses(&["forbidden", "not_found"]),
        Operation::of("createCode")
            .body(json!({
                "couponBookId": BOOK, "code": "SUMMER26", "maxRedemptions": 1000, "maxRedeemsPerUser": 1,
            }))
            .answers(201, "The code.", shared_coupon())
            .located()
            .refuses(&["forbidden", "not_found", "book_closed", "code_exists"]),
        Operation::of("generateCodes")
            .body(json!({"couponBookId": BOOK, "quantity": 1000, "pattern": "SUMMER-{XXXXXXXX}"}))
            .answers(202, "The job that generates the codes.", job("GENERATE_CODES"))
            .located()
            .refuses(&["forbidden", "not_found", "book_closed", "pattern_exhausted"]),
        Operation::of("listCodes")
            .answers(200, "A page of codes.", counted_page(&code()))
            .refuses(&["forbidden"]),
    ]
}
