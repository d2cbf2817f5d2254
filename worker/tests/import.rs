//! Import of a file with blank lines: positions follow the rows, and rejected rows have their lines.

use cuponera_domain::id::JobId;
use cuponera_domain::job::{JobStatus, import};
use cuponera_platform::files::Files;
use cuponera_store::GenerateId;
use cuponera_store::{NewImport, Pools};
use cuponera_testkit::{World, eventually};
use sqlx::{query, query_as, query_scalar};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fleet::{count, import_to};
use crate::timeouts::start_worker;

/// The parts of a file, each with the number of rows before it and its first line. The second and third part repeat codes of the first.
const PARTS: [(u64, u64, &str); 3] =
    [(0, 1, "AAA1\n\n\nBBB2\nCCC3\n"), (3, 6, "DDD4\n\nBBB2\n\n"), (5, 10, "\"CCC3\"\nEEE5\n\n\nAAA1\n")];

/// The first part is imported last, so its rows displace those of the others.
#[tokio::test(flavor = "multi_thread")]
async fn displaced_rows_of_other_parts_are_rejected_with_the_lines_of_their_files() {
    let (world, folder, stop) = (World::new().await, TempDir::new().unwrap(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let (files, pool) = (Files::in_folder(folder.path()).unwrap(), world.pool());
    let id = JobId::generate();
    let mut parts = Vec::new();
    for (number, (record, line, text)) in PARTS.into_iter().enumerate() {
        let file = format!("uploads/{id}/{number}");
        files.put(&file, text.into()).await.unwrap();
        parts.push(import::Chunk { file, begin: import::Begin::Record { record, line } });
    }
    let import = NewImport { id, parts, rows: 8, last_place: 8, ..import_to(&world) };
    world.store().submit_import(None, world.business, "test", import).await.unwrap().outcome.unwrap();
    query("update job_chunk set run_at = now() + interval '1 hour' where job_id = $1 and number = 0")
        .bind(id.0)
        .execute(pool)
        .await
        .unwrap();
    start_worker(&world, Pools::of_worker(1), &folder, &stop).await;
    eventually("the later parts to be imported", async || {
        (count(&world, "select count(*) from job_chunk where status = 'DONE'").await == 2).then_some(())
    })
    .await;
    let now = "with due as (update job_chunk set run_at = now() where number = 0) select pg_notify('cuponera_work', '')";
    query(now).execute(pool).await.unwrap();
    let done = eventually("the import to end", async || {
        let job = world.store().get_job(world.business, id).await.unwrap();
        job.status.is_over().then_some(job)
    })
    .await;
    assert_eq!((done.status, done.succeeded, done.failed), (JobStatus::Succeeded, 5, 3));
    let rejected: Vec<(i64, String)> =
        query_as("select line, code from import_rejection where job_id = $1 order by line")
            .bind(id.0)
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(rejected, [(8, "BBB2".into()), (10, "CCC3".into()), (14, "AAA1".into())]);
    let codes: Vec<String> =
        query_scalar("select code from coupon order by position").fetch_all(pool).await.unwrap();
    assert_eq!(codes, ["AAA1", "BBB2", "CCC3", "DDD4", "EEE5"]);
    world.assert_invariants().await;
}
