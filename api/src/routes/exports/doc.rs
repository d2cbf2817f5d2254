//! The document of the operations on exports: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{BOOK, CODE, NOW, USER, job};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let file = format!(
        "code,status,userId,redeemCount,assignedAt,lockedUntil,redeemedAt,expiresAt,createdAt,metadata,maxRedemptions,\
         maxRedeemsPerUser,startsAt,link\r\n\
         {CODE},ASSIGNED,{USER},0,{NOW},,,,{NOW},,,,,https://shop.example/c/{CODE}\r\n"
    );
    let mut export = job("EXPORT");
    export["result"] = json!({"kind": "CODES", "couponBookId": BOOK, "rowCount": 0, "bytes": 0});
    vec![
        Operation::of("createExport")
            .body(json!({"kind": "CODES", "couponBookId": BOOK, "linkTemplate": "https://shop.example/c/{code}"}))
            .answers(202, "The job that writes the file.", export)
            .located()
            .refuses(&["forbidden", "not_found"]),
        Operation::of("getExportFile")
            .answers(200, "The whole file.", json!(file))
            .answers(206, "The requested range of the file.", json!("code,status"))
            .answers_nothing(303, "The file is in S3: get it from `Location`.")
            .answers_nothing(304, "The file is the one that `If-None-Match` names.")
            .refuses(&[
                "forbidden",
                "wrong_job_state",
                "export_expired",
                "job_discarded",
                "range_not_satisfiable",
            ]),
        Operation::of("exportCodes")
            .answers(200, "A CSV file with the codes of the book.", json!(file))
            .refuses(&["forbidden"]),
    ]
}
