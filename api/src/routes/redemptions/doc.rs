//! The document of the operations on redemptions: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{CODE, LATER, REDEMPTION, page, redemption};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("listRedemptions")
            .answers(200, "A page of redemptions.", page(&redemption()))
            .refuses(&["forbidden"]),
        Operation::of("getRedemption").answers(200, "The redemption.", redemption()).refuses(&["forbidden"]),
        Operation::of("rollBackRedemption")
            .body(json!({"reason": "goods returned"}))
            .answers(
                200,
                "The code has its use back.",
                json!({
                    "redemptionId": REDEMPTION, "code": CODE, "status": "ASSIGNED", "redeemCount": 0, "maxRedeems": 1,
                    "rolledBackAt": LATER, "amount": "49.90", "discount": "4.99", "total": "44.91", "currency": "EUR",
                }),
            )
            .refuses(&["forbidden", "not_holder", "already_rolled_back", "coupon_busy"]),
    ]
}
