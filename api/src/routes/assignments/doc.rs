//! The document of the operations on assignments: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, CODE, USER, assignment, coupon, page};
use crate::routes::coupons::{OF_THE_BOOK, OF_THE_HOLDER};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("assignRandom")
            .body(json!({"couponBookId": BOOK, "userId": USER}))
            .answers(201, "The code, assigned to the user.", assignment())
            .refuses(&["forbidden", "not_found", "sold_out", "user_limit_reached", "coupon_busy"])
            .refuses(OF_THE_BOOK),
        Operation::of("assignCode")
            .body(json!({"userId": USER}))
            .answers(201, "The code, assigned to the user.", assignment())
            .answers(200, "The user already holds the code.", assignment())
            .refuses(&[
                "forbidden",
                "already_assigned",
                "coupon_reserved",
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
        Operation::of("listUserCoupons")
            .answers(200, "A page of the user's coupons.", page(&coupon()))
            .refuses(&["forbidden"]),
    ]
}
