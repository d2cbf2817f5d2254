//! The document of the operations on coupon books: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{book, draft, job, page, schedule, void_preview};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    vec![
        Operation::of("createCouponBook")
            .body(json!({
                "name": "Summer", "maxCodesPerUser": 2, "expiresAt": "2027-08-31T22:00:00Z",
                "discount": {"type": "PERCENT", "value": 10.0}, "schedule": schedule(), "timeZone": "Europe/Madrid",
            }))
            .answers(201, "The book, in status `DRAFT`.", draft())
            .located()
            .refuses(&["forbidden"]),
        Operation::of("listCouponBooks")
            .answers(200, "A page of books.", page(&book()))
            .refuses(&["forbidden"]),
        Operation::of("getCouponBook").answers(200, "The book.", book()).refuses(&["forbidden"]),
        Operation::of("updateCouponBook")
            .body(json!({"status": "ACTIVE"}))
            .answers(200, "The changed book.", book())
            .refuses(&["forbidden", "invalid_transition", "code_kind_fixed"]),
        Operation::of("replaceCouponBook")
            .body(json!({"name": "Late summer", "expiresAt": "2027-09-30T22:00:00Z"}))
            .answers(200, "The changed book.", book())
            .refuses(&["forbidden", "invalid_transition", "code_kind_fixed"]),
        Operation::of("deleteCouponBook")
            .answers_nothing(204, "The book and its codes are deleted.")
            .answers(
                202,
                "The job that deletes the book, which has more than 10000 codes.",
                job("DELETE_BOOK"),
            )
            .located()
            .refuses(&["forbidden", "book_in_use", "coupon_reserved"]),
        Operation::of("cloneCouponBook")
            .body(json!({"name": "Autumn"}))
            .answers(201, "The new book, in status `DRAFT`.", draft())
            .located()
            .refuses(&["forbidden"]),
        Operation::of("voidCouponBook")
            .body(json!({"reason": "campaign withdrawn"}))
            .answers(200, "The codes by status; nothing changed.", void_preview())
            .answers(202, "The job that voids the codes.", job("VOID_CODES"))
            .located()
            .refuses(&["forbidden"]),
    ]
}
