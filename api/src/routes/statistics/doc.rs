//! The document of the operations on statistics: examples and rejections.

use serde_json::{Value, json};

use crate::document::Operation;
use crate::document::examples::{BOOK, NOW, USER};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let mut of_book = statistics();
    of_book["couponBookId"] = json!(BOOK);
    vec![
        Operation::of("getCouponBookStatistics")
            .answers(200, "The statistics of the book.", of_book)
            .refuses(&["forbidden", "statistics_not_ready"]),
        Operation::of("getStatistics")
            .answers(200, "The statistics of all books.", statistics())
            .refuses(&["forbidden", "statistics_not_ready"]),
    ]
}

fn statistics() -> Value {
    json!({
        "asOf": NOW, "from": "2026-12-01T00:00:00Z", "to": "2026-12-02T00:00:00Z", "interval": "day", "timeZone": "UTC",
        "counts": {"available": 900, "assigned": 59, "locked": 1, "redeemed": 40, "void": 0},
        "totals": {
            "assigned": 100, "locked": 50, "unlocked": 5, "lockExpired": 4, "redeemed": 41, "revoked": 0, "rolledBack": 1,
            "voided": 0,
        },
        "funnel": {"generated": 1000, "assigned": 100, "locked": 45, "redeemed": 40},
        "rates": {"assignedOfGenerated": 0.1, "redeemedOfAssigned": 0.41, "lockToRedeem": 0.82},
        "timeToRedeem": {"medianSeconds": 3525.2, "p90Seconds": 86012.9},
        "amounts": [{
            "currency": "EUR", "redeemed": {"redemptions": 40, "amount": "1996.00", "discount": "199.60", "total": "1796.40"},
            "rolledBack": {"redemptions": 1, "amount": "49.90", "discount": "4.99", "total": "44.91"},
        }],
        "series": [{
            "at": "2026-12-01T00:00:00Z", "assigned": 100, "locked": 50, "redeemed": 41, "revoked": 0, "rolledBack": 1,
        }],
        "topHolders": [{"userId": USER, "held": 2}],
        "topHoldersAsOf": NOW,
    })
}
