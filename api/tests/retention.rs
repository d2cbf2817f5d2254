//! Retention: the row of an old job stays; its rejected rows and files are deleted.

use cuponera_testkit::{Dump, eventually};
use serde_json::json;
use sqlx::{query, query_scalar};

use crate::support::{Limits, Server};

#[tokio::test(flavor = "multi_thread")]
async fn rejected_rows_and_files_of_an_old_job_are_deleted_and_the_job_stays() {
    let dump = Dump::read("v0.1.0-0007");
    let server = Server::upgraded(&dump, Limits { worker: false, ..Limits::default() }).await;
    let [old, failed, young] = ["imported", "failed", "generated summer"]
        .map(|name| dump.facts["jobs"][name].as_str().expect("the job is in the dump").to_owned());
    let admin = server.admin();
    let errors = format!("jobs/{old}/errors");
    assert!(admin.get(&errors).await.text.contains("duplicate_in_file"));
    for job in [&old, &failed] {
        query("update job set finished_at = now() - interval '91 days' where id = $1::uuid")
            .bind(job)
            .execute(server.database.pool())
            .await
            .expect("cannot backdate a job");
    }
    server.start_worker().await;
    eventually("old jobs to be cleared", async || {
        let left = "select count(*) from job where finished_at < now() - interval '90 days' and discarded_at is null";
        (query_scalar::<_, i64>(left).fetch_one(server.database.pool()).await.ok()? == 0).then_some(())
    })
    .await;
    assert_eq!(admin.get(&errors).await.rejected(410), "job_discarded");
    assert_eq!(admin.post(&format!("jobs/{failed}/retry"), json!({})).await.rejected(410), "job_discarded");
    let job = admin.get(&format!("jobs/{old}")).await.expect(200);
    assert_eq!((&job["status"], &job["progress"]["succeeded"]), (&json!("SUCCEEDED"), &json!(526)));
    for folder in ["uploads", "errors"] {
        let left = server.files.path().join(folder).join(&old).read_dir().map_or(0, Iterator::count);
        assert_eq!(left, 0, "{folder} still has files");
    }
    let chunks: i64 =
        query_scalar("select count(*) from job_chunk where job_id = any(array[$1, $2]::uuid[])")
            .bind(&old)
            .bind(&failed)
            .fetch_one(server.database.pool())
            .await
            .expect("cannot count the chunks");
    assert_eq!(chunks, 0);
    assert_eq!(admin.get(&format!("jobs/{young}/errors")).await.status, 200);
    server.assert_invariants().await;
}
