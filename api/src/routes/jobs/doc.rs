//! The document of the operations on jobs: examples and rejections.

use serde_json::json;

use crate::document::Operation;
use crate::document::examples::{JOB, done_job, job, page};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let mut stopped = job("GENERATE_CODES");
    stopped["status"] = json!("CANCELLED");
    vec![
        Operation::of("listJobs").answers(200, "A page of jobs.", page(&done_job())).refuses(&["forbidden"]),
        Operation::of("getJob").answers(200, "The job.", done_job()).refuses(&["forbidden"]),
        Operation::of("followJob")
            .answers(
                200,
                "The job, immediately and after each change. The stream ends with the job.",
                json!({"event": "job", "data": done_job().to_string()}),
            )
            .refuses(&["forbidden", "too_many_streams"]),
        Operation::of("cancelJob")
            .answers(200, "The cancelled job.", stopped)
            .refuses(&["forbidden", "wrong_job_state"]),
        Operation::of("retryJob")
            .answers(202, "The job, queued again.", job("GENERATE_CODES"))
            .located()
            .refuses(&["forbidden", "wrong_job_state", "job_discarded"]),
        Operation::of("redriveJobs")
            .answers(
                200,
                "The jobs that were queued again.",
                json!({"retriedCount": 1, "jobIds": [JOB], "remainingCount": 0}),
            )
            .refuses(&["forbidden"]),
        Operation::of("getJobErrors")
            .answers(
                200,
                "A CSV file: the line number in the upload, the code as written there, the reason, and the \
                 whole row.",
                json!("line,code,reason,row,detail\n4,VIP-001,duplicate_in_file,South;vip-001;,an earlier line of the file has this code\n"),
            )
            .refuses(&["forbidden", "job_discarded"]),
    ]
}
