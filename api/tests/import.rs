//! Imports: every row is imported or reported with its line; a file that cannot be read leaves nothing behind.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Reply, Server, id_of, wait_for_job};

mod cases;
mod files;
mod large;
mod reading;
mod uploads;

/// Uploads a file; returns the finished job.
async fn import(server: &Server, book: &str, file: impl Into<reqwest::Body>) -> Value {
    let job = server.upload(book, file).await.expect(202);
    wait_for_job(&server.admin(), &id_of(&job)).await
}

/// The rows that a job rejected: line, code, reason, row and detail.
async fn errors_of(server: &Server, job: &Value) -> Vec<[String; 5]> {
    let reply = server.admin().get(&format!("jobs/{}/errors", id_of(job))).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert!(reply.text.starts_with("line,code,reason,row,detail\n"), "{}", reply.text);
    let mut reader = csv::Reader::from_reader(reply.text.as_bytes());
    reader
        .records()
        .map(|record| {
            let record = record.expect("the errors file is not CSV");
            std::array::from_fn(|cell| record[cell].to_owned())
        })
        .collect()
}

/// The counts of a job: uploaded, duplicates, invalid.
#[track_caller]
fn counts_of(job: &Value) -> [i64; 3] {
    assert_eq!(job["status"], "SUCCEEDED", "{job}");
    let counts = ["uploadedCount", "duplicatesCount", "invalidRowsCount"]
        .map(|name| job["result"][name].as_i64().unwrap_or_else(|| panic!("no {name} in {job}")));
    let (progress, unassigned) = (&job["progress"], job["result"]["unassignedCount"].as_i64().unwrap_or(-1));
    assert_eq!(progress["succeeded"], counts[0] - unassigned, "{job}");
    assert_eq!(progress["failed"], counts[1] + counts[2] + unassigned, "{job}");
    assert_eq!(progress["processed"], progress["total"], "{job}");
    counts
}

async fn upload_form(server: &Server, query: &str, form: reqwest::multipart::Form) -> Reply {
    let path = format!("coupon-codes/upload{query}");
    Reply::to(server.admin().request(Method::POST, &path).multipart(form)).await
}

/// The number of files in the file store.
fn files_kept(server: &Server) -> usize {
    fn count(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>());
        entries
            .unwrap_or_default()
            .iter()
            .map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 })
            .sum()
    }
    count(server.files.path())
}

/// Waits until the file store is empty, and asserts that no job exists.
async fn assert_nothing_kept(server: &Server) {
    cuponera_testkit::eventually("the parts to be deleted", async || (files_kept(server) == 0).then_some(()))
        .await;
    cuponera_testkit::eventually("the bytes to be freed", async || {
        let stored = sqlx::query_scalar("select count(*) from job_storage").fetch_one(server.database.pool());
        (stored.await.ok() == Some(0_i64)).then_some(())
    })
    .await;
    let jobs = server.admin().get("jobs?kind=IMPORT_CODES").await.expect(200);
    assert_eq!(jobs["data"], json!([]), "a rejected upload left a job");
}
