//! The document of the operations on coupons: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{
    CODE, LATER, LOCK, NOW, REDEMPTION, USER, coupon, event, page, shared_coupon,
};

/// Assignments, locks and redemptions need an active book, between its start and its end.
pub(in crate::routes) const OF_THE_BOOK: &[&str] = &["book_not_active", "book_not_started", "book_expired"];
/// A change of a coupon needs its holder, and a coupon in a status that allows it.
pub(in crate::routes) const OF_THE_HOLDER: &[&str] =
    &["forbidden", "not_assigned", "not_holder", "coupon_locked", "coupon_void", "coupon_already_redeemed"];
/// A redemption may need a lock.
const OF_THE_LOCK: &[&str] = &["lock_required", "lock_stale", "lock_expired"];
/// A lock or a redemption assigns a free code of a BEARER book.
const OF_THE_BEARER: &[&str] = &["coupon_reserved", "user_limit_reached"];
/// A code may be valid for some days after its assignment, be suspended, and, if it is SHARED, have times and limits of its own.
const OF_ITS_TIME: &[&str] =
    &["coupon_expired", "coupon_suspended", "coupon_not_started", "redeem_limit_reached"];

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let mut operations = changes();
    operations.extend(views());
    operations
}

fn changes() -> Vec<Operation> {
    vec![
        Operation::of("lockCoupon")
            .body(json!({"userId": USER, "ttlSeconds": 300}))
            .answers(
                200,
                "The lock: new, or an existing lock of the user, renewed.",
                json!({"code": CODE, "status": "LOCKED", "lockId": LOCK, "lockedAt": NOW, "lockedUntil": LATER}),
            )
            .refuses(&["coupon_busy"])
            .refuses(OF_THE_HOLDER)
            .refuses(OF_ITS_TIME)
            .refuses(OF_THE_BEARER)
            .refuses(OF_THE_BOOK),
        Operation::of("unlockCoupon")
            .body(json!({"userId": USER, "lockId": LOCK}))
            .answers(200, "The code is not locked.", json!({"code": CODE, "status": "ASSIGNED"}))
            .refuses(OF_THE_HOLDER)
            .refuses(&["lock_stale", "coupon_busy"]),
        Operation::of("redeemCoupon")
            .body(json!({"userId": USER, "lockId": LOCK, "reference": "sale 17"}))
            .answers(
                200,
                "The redemption.",
                json!({
                    "code": CODE, "status": "REDEEMED", "redemptionId": REDEMPTION, "redeemCount": 1, "maxRedeems": 1,
                    "isFinalRedeem": true, "redeemedAt": NOW, "replayed": false,
                }),
            )
            .refuses(&["coupon_busy", "reference_used", "already_rolled_back"])
            .refuses(OF_THE_HOLDER)
            .refuses(OF_ITS_TIME)
            .refuses(OF_THE_BEARER)
            .refuses(OF_THE_BOOK)
            .refuses(OF_THE_LOCK),
        Operation::of("validateCoupon")
            .body(json!({"userId": USER}))
            .answers(200, "The coupon can be redeemed now.", json!({"valid": true, "coupon": coupon()}))
            .refuses(OF_THE_HOLDER)
            .refuses(OF_ITS_TIME)
            .refuses(OF_THE_BEARER)
            .refuses(OF_THE_BOOK)
            .refuses(OF_THE_LOCK),
    ]
}

fn views() -> Vec<Operation> {
    vec![
        Operation::of("findCoupons")
            .answers(200, "A page of coupons.", page(&coupon()))
            .refuses(&["forbidden"]),
        Operation::of("getCoupon").answers(200, "The coupon.", coupon()).refuses(&["forbidden"]),
        Operation::of("updateCoupon")
            .body(json!({"maxRedemptions": 2000, "suspended": false}))
            .answers(200, "The changed coupon.", shared_coupon())
            .refuses(&["forbidden", "coupon_void"]),
        Operation::of("voidCoupon")
            .body(json!({"reason": "published by mistake"}))
            .answers(200, "The code has ended.", json!({"code": CODE, "status": "VOID"}))
            .refuses(&["forbidden", "not_holder", "coupon_locked", "coupon_already_redeemed", "coupon_busy"]),
        Operation::of("getCouponHistory")
            .answers(200, "A page of the coupon's events.", page(&event()))
            .refuses(&["forbidden"]),
    ]
}
