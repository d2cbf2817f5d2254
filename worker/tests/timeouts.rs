//! A chunk whose statement always exceeds the worker's statement timeout is finally set aside, and a later retry executes it.

use std::sync::Arc;
use std::time::Duration;

use cuponera_domain::job::JobStatus;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::cache::Cache;
use cuponera_platform::files::Files;
use cuponera_platform::queue::{Queue, Wakeups};
use cuponera_store::Pools;
use cuponera_testkit::{World, eventually};
use cuponera_worker::Worker;
use cuponera_worker::deliver::Sender;
use sqlx::query;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fleet::generate;

/// A worker that is woken by the database.
pub(crate) async fn start_worker(world: &World, pools: Pools, files: &TempDir, stop: &CancellationToken) {
    let wakeups = Arc::new(Wakeups::default());
    let worker = Worker {
        store: world.database.another_store(pools).await,
        files: Files::in_folder(files.path()).unwrap(),
        queue: Queue::Postgres(wakeups.clone()),
        cache: Cache::none(),
        concurrency: 1,
        name: "worker".to_owned(),
        retention: Duration::from_hours(90 * 24),
        sender: Sender::new(AllowedNetworks::default()),
        audit_key: None,
    };
    tokio::spawn(worker.run(stop.clone()));
    let (url, stop) = (world.database.url().to_owned(), stop.clone());
    tokio::spawn(async move { wakeups.listen(&url, &stop).await });
}

/// The chunk waits for the row of its book, which another transaction holds.
#[tokio::test]
async fn a_chunk_whose_statement_always_takes_too_long_is_set_aside_with_a_reason() {
    let (world, files, stop) = (World::new().await, TempDir::new().unwrap(), CancellationToken::new());
    let _stop = stop.clone().drop_guard();
    let job = generate(&world, world.store(), 50).await;
    let mut holding = world.pool().begin().await.unwrap();
    query("select from coupon_book for update").execute(&mut *holding).await.unwrap();
    let pools = Pools { rest_statement: Duration::from_millis(200), ..Pools::of_worker(1) };
    start_worker(&world, pools, &files, &stop).await;
    let failed = eventually("the job to fail", async || {
        // Its delays grow to minutes.
        let hurry = "with due as (update job_chunk set run_at = now() where status = 'READY') select pg_notify('cuponera_work', '')";
        query(hurry).execute(world.pool()).await.unwrap();
        let job = world.store().get_job(world.business, job.id).await.unwrap();
        job.status.is_over().then_some(job)
    })
    .await;
    let error = failed.error.unwrap();
    assert_eq!((failed.status, error.code.as_str()), (JobStatus::Failed, "worker_lost"));
    assert!(error.detail.contains("exceeded the time limit of a statement, 10 times"), "{error:?}");
    holding.rollback().await.unwrap();
    world.store().retry_job_if_failed(None, world.business, job.id).await.unwrap().outcome.unwrap();
    let done = eventually("the job to succeed", async || {
        let job = world.store().get_job(world.business, job.id).await.unwrap();
        job.status.is_over().then_some(job)
    })
    .await;
    assert_eq!((done.status, done.succeeded), (JobStatus::Succeeded, 50));
    world.assert_invariants().await;
}
