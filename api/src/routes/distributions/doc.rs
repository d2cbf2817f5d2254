//! The document of the operations on distributions: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, CODE, USER, distribution, job, page};

pub(in crate::routes) fn operations() -> Vec<Operation> {
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
        Operation::of("takeBackDistribution")
            .body(json!({"reason": "wrong pool"}))
            .answers(202, "The job that takes the codes back.", job("TAKE_BACK"))
            .located()
            .refuses(&["forbidden", "wrong_job_state", "job_discarded"]),
    ]
}
