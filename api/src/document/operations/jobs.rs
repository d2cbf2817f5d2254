//! Examples and rejections of the operations on jobs and health.

use serde_json::{Value, json};

use super::Operation;
use crate::document::examples::{JOB, NOW, done_job, job, page};

pub(super) fn operations() -> Vec<Operation> {
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
        Operation::of("getHealth")
            .answers(200, "The database is connected.", report("ok", "connected"))
            .answers(503, "The database is disconnected.", report("degraded", "disconnected")),
        Operation::of("getLiveness").answers(200, "The process is running.", json!({"status": "ok"})),
        Operation::of("getReadiness")
            .answers(200, "The process can serve requests.", json!({"status": "ok"}))
            .answers(503, "The process cannot serve requests now.", json!({"status": "unavailable"})),
    ]
}

fn report(status: &str, database: &str) -> Value {
    json!({
        "status": status, "timestamp": NOW, "database": database, "redis": "disabled", "queue": database,
        "uptime": 86_400_000, "version": env!("CARGO_PKG_VERSION"),
    })
}
