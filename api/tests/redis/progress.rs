//! Polling jobs: Postgres is left alone, and nobody sees a job go back.

use std::time::{Duration, Instant};

use cuponera_core::id::JobId;
use cuponera_core::job::{Job, JobStatus};
use cuponera_testkit::{Redis, eventually};
use reqwest::Method;
use serde_json::{Value, json};

use super::Fleet;
use crate::support::{Client, Limits, Reply, Server, id_of};

/// A job of so many codes; its id.
async fn submit(server: &Server, quantity: u64) -> String {
    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": quantity});
    id_of(&server.admin().post("coupon-codes/generate", order).await.expect(202))
}

/// The job as Postgres has it.
async fn in_postgres(fleet: &Fleet, id: &str) -> Job {
    let id = JobId(id.parse().expect("an id"));
    fleet.server.database.store().get_job(fleet.server.business, id).await.expect("the job is gone")
}

#[tokio::test(flavor = "multi_thread")]
async fn polling_and_waiting_need_no_postgres_while_redis_knows_the_job() {
    let fleet = Fleet::without_worker().await;
    let id = submit(&fleet.server, 100).await;
    let path = format!("jobs/{id}");
    let mut job = Job { status: JobStatus::Running, attempts: 1, ..in_postgres(&fleet, &id).await };
    let cache = fleet.cache().await;
    let clients = fleet.at_both(&fleet.server.service());
    for client in &clients {
        // Who it is, is remembered.
        client.get("auth/me").await.expect(200);
    }
    let mut closed = fleet.server.database.pool().begin().await.expect("beginning failed");
    let lock = sqlx::query("lock table job in access exclusive mode");
    lock.execute(&mut *closed).await.expect("locking failed");

    for succeeded in 1..=50 {
        job.succeeded = succeeded;
        cache.keep_jobs(std::slice::from_ref(&job), Instant::now()).await;
        for client in &clients {
            let told = client.get(&path).await.expect(200);
            assert_eq!(
                (&told["status"], &told["progress"]["processed"]),
                (&"RUNNING".into(), &succeeded.into())
            );
        }
    }
    let waiting = clients[0].request(Method::GET, &path).header("Prefer", "wait=30");
    let waiting = tokio::spawn(Reply::to(waiting));
    eventually("somebody to wait", async || (fleet.server.app.watching().waits == 1).then_some(())).await;
    job.succeeded = 100;
    (job.status, job.finished_at) = (JobStatus::Succeeded, Some(job.read_at));
    cache.keep_jobs(std::slice::from_ref(&job), Instant::now()).await;
    let told = waiting.await.expect("no panic").expect(200);
    assert_eq!(told["status"], "SUCCEEDED");
    closed.rollback().await.expect("unlocking failed");

    // What Redis knows of a job is for its owner.
    let another = fleet.server.another_admin().await;
    assert_eq!(another.get(&path).await.refused(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_a_job_that_nobody_works_ask_postgres_once_a_second() {
    let redis = Redis::start().await;
    let limits = Limits { worker: false, redis: Some(redis.url()), ..Limits::default() };
    let server = Server::start_with(limits).await;
    let id = submit(&server, 100).await;
    let scans = "select (idx_scan + seq_scan)::int8 from pg_stat_user_tables where relname = 'job'";
    let begun = Instant::now();
    let client = server.service();
    for _ in 0..300 {
        client.get(&format!("jobs/{id}")).await.expect(200);
    }
    let allowed = 10 + i64::try_from(begun.elapsed().as_secs()).expect("a short time") * 2;
    let scans = server.database.close_and_ask(scans).await;
    assert!(scans < allowed, "{scans} scans");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_a_job_hears_of_it_at_every_server() {
    let fleet = Fleet::without_worker().await;
    let id = submit(&fleet.server, 100).await;
    let clients = fleet.at_both(&fleet.server.admin());
    for client in &clients {
        assert_eq!(client.get(&format!("jobs/{id}")).await.expect(200)["status"], "QUEUED");
    }
    clients[0].post(&format!("jobs/{id}/cancel"), json!({})).await.expect(200);
    for client in &clients {
        assert_eq!(client.get(&format!("jobs/{id}")).await.expect(200)["status"], "CANCELLED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_redis_was_never_told_of_is_known_within_a_second() {
    let fleet = Fleet::without_worker().await;
    let id = submit(&fleet.server, 100).await;
    let client = fleet.server.service();
    assert_eq!(client.get(&format!("jobs/{id}")).await.expect(200)["status"], "QUEUED");
    let store = fleet.server.database.store();
    let stopped =
        store.cancel_job_if_open(None, fleet.server.business, JobId(id.parse().expect("an id"))).await;
    let ended = Instant::now();
    stopped.expect("stopping failed").outcome.expect("it was refused");
    eventually("the end to be known", async || {
        (client.get(&format!("jobs/{id}")).await.expect(200)["status"] == "CANCELLED").then_some(())
    })
    .await;
    assert!(ended.elapsed() < Duration::from_secs(1), "{:?}", ended.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_of_a_job_is_not_followed_by_something_earlier_from_redis() {
    let fleet = Fleet::without_worker().await;
    let id = submit(&fleet.server, 100).await;
    let progress = "update job set status = 'RUNNING', attempts = 1, started_at = now(), succeeded = 10";
    sqlx::query(progress).execute(fleet.server.database.pool()).await.expect("writing failed");
    let client = fleet.server.service();
    let told = client.get(&format!("jobs/{id}")).await.expect(200);
    assert_eq!(told["progress"]["processed"], 10);
    // Redis forgets, and is then told by somebody who has read the job before.
    fleet.redis.flush().await;
    let earlier = Job { succeeded: 5, ..in_postgres(&fleet, &id).await };
    fleet.cache().await.keep_jobs(&[earlier], Instant::now()).await;
    let told = client.get(&format!("jobs/{id}")).await.expect(200);
    assert_eq!(told["progress"]["processed"], 10);
}

/// Polls until the job is over; it must never be seen to go back.
async fn follow(client: Client, id: String) -> Value {
    let mut processed = 0;
    loop {
        let begun = Instant::now();
        let job = client.get(&format!("jobs/{id}")).await.expect(200);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let now = job["progress"]["processed"].as_i64().expect("a number");
        assert!(now >= processed, "from {processed} back to {now}");
        processed = now;
        if job["status"] == "SUCCEEDED" {
            return job;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_never_goes_back_whatever_becomes_of_redis() {
    let mut fleet = Fleet::with_worker().await;
    let id = submit(&fleet.server, 600_000).await;
    let following: Vec<_> = fleet
        .at_both(&fleet.server.service())
        .into_iter()
        .flat_map(|client| [client.clone(), client])
        .map(|client| tokio::spawn(follow(client, id.clone())))
        .collect();
    fleet.flush_again_and_again(4).await;
    fleet.redis.freeze();
    fleet.wait_for_health("disconnected").await;
    fleet.redis.thaw();
    fleet.wait_for_health("connected").await;
    fleet.redis.kill();
    fleet.wait_for_health("disconnected").await;
    fleet.redis.start_again().await;
    for follower in following {
        let job = follower.await.expect("no panic");
        assert_eq!(job["result"]["generatedCount"], 600_000);
    }
}
