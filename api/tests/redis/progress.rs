//! Polling jobs with Redis: few reads of Postgres, and no earlier state after a later one.

use std::time::{Duration, Instant};

use cuponera_domain::id::JobId;
use cuponera_domain::job::{Job, JobStatus};
use cuponera_platform::cache::Cache;
use cuponera_testkit::{Redis, bound, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Fleet, TRIES, wait_for_health};
use crate::support::{Client, Limits, Reply, Server, Unchecked, id_of};

/// Longer than an answer that needs only Redis.
const SOON: Duration = Duration::from_millis(500);

/// Submits a job for `quantity` codes; returns its id.
async fn submit(server: &Server, quantity: u64) -> String {
    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "quantity": quantity});
    id_of(&server.admin().post("coupon-codes/generate", order).await.expect(202))
}

/// The job as stored in Postgres.
async fn in_postgres(fleet: &Fleet, id: &str) -> Job {
    let id = JobId(id.parse().expect("an id"));
    fleet.server.database.store().get_job(fleet.server.business, id).await.expect("the job does not exist")
}

/// Polls a job while Postgres does not answer. Repeats the request if the server is without Redis for a moment, and
/// counts the attempts.
async fn poll(client: &Client, cache: &Cache, job: &Job, asked: &mut u32) -> Value {
    let told = eventually("an answer without Postgres", async || {
        *asked += 1;
        cache.keep_jobs(std::slice::from_ref(job), Instant::now()).await;
        let request = client.request(Method::GET, &format!("jobs/{}", job.id));
        timeout(SOON, Unchecked::to(request)).await.ok()
    });
    told.await.check().expect(200)
}

/// Waits for the end of a job while Postgres does not answer. The job ends when a request waits for it.
async fn wait(fleet: &Fleet, client: &Client, cache: &Cache, mut job: Job) -> Value {
    let waiting = eventually("a request to wait", async || {
        cache.keep_jobs(std::slice::from_ref(&job), Instant::now()).await;
        let request = client.request(Method::GET, &format!("jobs/{}", job.id)).header("Prefer", "wait=30");
        let waiting = AbortOnDropHandle::new(tokio::spawn(Reply::to(request)));
        let watched = async || (fleet.server.app.watching().jobs == 1).then_some(());
        timeout(SOON, eventually("the job to be watched", watched)).await.ok().map(|()| waiting)
    })
    .await;
    job.succeeded = 100;
    (job.status, job.finished_at) = (JobStatus::Succeeded, Some(job.read_at));
    eventually("the answer at the end of the job", async || {
        cache.keep_jobs(std::slice::from_ref(&job), Instant::now()).await;
        waiting.is_finished().then_some(())
    })
    .await;
    waiting.await.expect("no panic").expect(200)
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
        // Puts the caller into the credential cache of the server.
        client.get("auth/me").await.expect(200);
    }
    let mut closed = fleet.server.database.pool().begin().await.expect("beginning failed");
    // Without this timeout Postgres would end the idle transaction after a minute.
    let lock = "set local idle_in_transaction_session_timeout = 0; lock table job in access exclusive mode";
    sqlx::raw_sql(lock).execute(&mut *closed).await.expect("locking failed");
    let mut asked = 0;
    for succeeded in 1..=50 {
        job.succeeded = succeeded;
        for client in &clients {
            let told = poll(client, &cache, &job, &mut asked).await;
            assert_eq!(
                (&told["status"], &told["progress"]["processed"]),
                (&"RUNNING".into(), &succeeded.into())
            );
        }
    }
    assert!(asked < 150, "a hundred polls without Postgres took {asked} attempts");
    let told = wait(&fleet, &clients[0], &cache, job).await;
    assert_eq!(told["status"], "SUCCEEDED");
    closed.rollback().await.expect("unlocking failed");

    // A job in Redis is visible only to its owner.
    let another = fleet.server.another_admin().await;
    assert_eq!(another.get(&path).await.rejected(404), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_a_job_that_nobody_works_ask_postgres_once_a_second() {
    let redis = Redis::start().await;
    let limits = Limits { worker: false, redis: Some(redis.url()), ..Limits::default() };
    let server = Server::start_with(limits).await;
    wait_for_health(&server.anonymous(), "connected").await;
    let id = submit(&server, 100).await;
    let scans = "select (idx_scan + seq_scan)::int8 from pg_stat_user_tables where relname = 'job'";
    let begun = Instant::now();
    let client = server.service();
    for _ in 0..300 {
        client.get(&format!("jobs/{id}")).await.expect(200);
    }
    // Reads during moments without Redis are additional.
    let allowed = 110 + i64::try_from(begun.elapsed().as_secs()).expect("a short time") * 2;
    let scans = server.database.close_and_ask(scans).await;
    assert!(scans < allowed, "{scans} scans");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_a_job_hears_of_it_at_every_server() {
    let fleet = Fleet::without_worker().await;
    for _ in 0..TRIES {
        if is_heard_of_at_the_other(&fleet).await {
            return;
        }
    }
    panic!("the other server did not return the cancelled job");
}

/// Cancels a job at one server; returns whether the other server returns the cancelled job at the next request.
async fn is_heard_of_at_the_other(fleet: &Fleet) -> bool {
    let id = submit(&fleet.server, 100).await;
    let [here, there] = fleet.at_both(&fleet.server.admin());
    let status =
        async |client: &Client| client.get(&format!("jobs/{id}")).await.expect(200)["status"].clone();
    for client in [&here, &there] {
        assert_eq!(status(client).await, "QUEUED");
    }
    here.post(&format!("jobs/{id}/cancel"), json!({})).await.expect(200);
    // The other server is asked first, because each answer of this one writes the job to Redis.
    let heard = status(&there).await;
    assert_eq!(status(&here).await, "CANCELLED", "the cancelling server returns the new status");
    heard == "CANCELLED"
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
    stopped.expect("cancelling failed").outcome.expect("the cancellation was rejected");
    eventually("the cancelled job to be returned", async || {
        let asked = ended.elapsed();
        let is_known = client.get(&format!("jobs/{id}")).await.expect(200)["status"] == "CANCELLED";
        assert!(
            is_known || asked < Duration::from_secs(1),
            "a request {asked:?} later did not return the end"
        );
        is_known.then_some(())
    })
    .await;
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
    // Redis loses the reading, then gets one that was taken earlier.
    fleet.redis.flush().await;
    let earlier = Job { succeeded: 5, ..in_postgres(&fleet, &id).await };
    fleet.cache().await.keep_jobs(&[earlier], Instant::now()).await;
    let told = client.get(&format!("jobs/{id}")).await.expect(200);
    assert_eq!(told["progress"]["processed"], 10);
}

/// Polls until the job ends; `processed` must never decrease.
async fn follow(client: Client, id: String) -> Value {
    let mut processed = 0;
    loop {
        let begun = Instant::now();
        let answer = Unchecked::to(client.request(Method::GET, &format!("jobs/{id}"))).await;
        let took = begun.elapsed();
        // A frozen Redis never answers.
        assert!(took < bound(Duration::from_secs(1), Duration::from_secs(5)), "{took:?}");
        let job = answer.check().expect(200);
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
