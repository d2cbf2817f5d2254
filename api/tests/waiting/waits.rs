//! `Prefer: wait`: the answer arrives when the job ends, when the time is over, or when the server stops.

use std::time::{Duration, Instant};

use cuponera_api::Watching;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinHandle;

use super::{NOTHING, cancel, submit, wait_for_watching, without_worker};
use crate::support::{Client, Reply, Server, wait_for_job};

/// Far below the requested minute, and far above the duration of any answer.
const AT_ONCE: Duration = Duration::from_secs(20);

async fn wait(client: &Client, job: &str, prefer: &str) -> Reply {
    Reply::to(client.request(Method::GET, &format!("jobs/{job}")).header("Prefer", prefer)).await
}

/// Sends a request that waits for the job; returns when the server counts it as waiting.
async fn waiting(server: &Server, job: &str) -> JoinHandle<Reply> {
    all_waiting(server, job, 1).await.remove(0)
}

/// Sends `count` such requests, each on its own connection.
async fn all_waiting(server: &Server, job: &str, count: usize) -> Vec<JoinHandle<Reply>> {
    let ask = |_| {
        let (client, job) = (server.admin().on_new_connections(), job.to_owned());
        tokio::spawn(async move { wait(&client, &job, "wait=60").await })
    };
    let asked = (0..count).map(ask).collect();
    let watching = Watching { waits: count, jobs: 1, is_polling: true, ..NOTHING };
    wait_for_watching(server, |now| now == watching).await;
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_when_the_job_ends() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let (asked, ended) = (waiting(&server, &job).await, Instant::now());
    cancel(&server, &job).await;
    let reply = asked.await.expect("the request failed");
    assert!(ended.elapsed() < AT_ONCE, "it took {:?}", ended.elapsed());
    assert_eq!(reply.header("Preference-Applied"), "wait=60");
    let plain = server.admin().get(&format!("jobs/{job}")).await;
    assert_eq!(plain.header("Preference-Applied"), "");
    assert_eq!(reply.text, plain.text, "the answer after waiting is the same as without");
    assert_eq!(plain.expect(200)["status"], "CANCELLED");
    wait_for_watching(&server, |now| now == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_does_not_end_is_answered_as_it_stands_when_the_time_is_over() {
    let server = without_worker().await;
    let (job, begun) = (submit(&server, 1).await, Instant::now());
    let reply = wait(&server.admin(), &job, "wait=1").await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(reply.header("Preference-Applied"), "wait=1");
    assert_eq!(reply.expect(200)["status"], "QUEUED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_over_needs_no_waiting() {
    let server = Server::start().await;
    let (job, begun) = (submit(&server, 1).await, Instant::now());
    wait_for_job(&server.admin(), &job).await;
    let reply = wait(&server.admin(), &job, "respond-async, wait=1000").await;
    assert!(begun.elapsed() < AT_ONCE);
    assert_eq!(reply.header("Preference-Applied"), "wait=60", "the maximum is a minute");
    assert_eq!(reply.expect(200)["status"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_preference_is_passed_over_and_what_is_refused_is_refused_at_once() {
    let server = without_worker().await;
    let (job, begun) = (submit(&server, 1).await, Instant::now());
    for prefer in ["wait=soon", "wait", "return=minimal", "wait=-1"] {
        let reply = wait(&server.admin(), &job, prefer).await;
        assert_eq!((reply.status, reply.header("Preference-Applied")), (200, ""), "{prefer}");
    }
    let unreadable =
        server.admin().request(Method::GET, &format!("jobs/{job}")).header("Prefer", &b"wait=\xff"[..]);
    assert_eq!(Reply::to(unreadable).await.status, 200);
    let unknown = uuid::Uuid::now_v7().to_string();
    assert_eq!(wait(&server.admin(), &unknown, "wait=60").await.rejected(404), "not_found");
    assert_eq!(wait(&server.another_admin().await, &job, "wait=60").await.rejected(404), "not_found");
    assert_eq!(wait(&server.user("ann"), &job, "wait=60").await.rejected(403), "forbidden");
    assert!(begun.elapsed() < AT_ONCE);
    assert_eq!(server.app.watching().waits, 0, "a rejected request kept its slot");
}

/// Five times the number of the server's database connections.
#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_hold_no_connection_to_the_database() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let asked = all_waiting(&server, &job, 60).await;
    server.admin().get(&format!("jobs/{job}")).await.expect(200);
    let ended = Instant::now();
    cancel(&server, &job).await;
    for asked in asked {
        assert_eq!(asked.await.expect("the request failed").expect(200)["status"], "CANCELLED");
    }
    assert!(ended.elapsed() < AT_ONCE, "it took {:?}", ended.elapsed());
    wait_for_watching(&server, |now| now == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_answers_those_who_wait_with_what_there_is() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let (asked, stopped) = (waiting(&server, &job).await, Instant::now());
    server.stop();
    let reply = asked.await.expect("the answer was cut off");
    assert!(stopped.elapsed() < AT_ONCE, "it took {:?}", stopped.elapsed());
    assert_eq!(reply.expect(200)["status"], "QUEUED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_and_leaves_frees_its_place() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let asked = waiting(&server, &job).await;
    asked.abort();
    wait_for_watching(&server, |now| now == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retried_job_is_waited_for_until_it_ends_again() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let failed = "update job set status = 'FAILED', finished_at = now() where id = $1::text::uuid";
    sqlx::query(failed).bind(&job).execute(server.database.pool()).await.expect("failing a job failed");
    assert_eq!(wait(&server.admin(), &job, "wait=60").await.expect(200)["status"], "FAILED");
    server.admin().post(&format!("jobs/{job}/retry"), json!({})).await.expect(202);
    let asked = waiting(&server, &job).await;
    cancel(&server, &job).await;
    assert_eq!(asked.await.expect("the request failed").expect(200)["status"], "CANCELLED");
}
