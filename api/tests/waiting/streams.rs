//! `GET /jobs/{id}/events`: the job immediately, after each change, and at its end.

use cuponera_testkit::work_generation;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

use super::{NOTHING, cancel, submit, wait_for_watching, without_worker};
use crate::support::{Client, Server, wait_for_job};

/// The client of an event stream.
struct Events {
    headers: HeaderMap,
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(client: &Client, job: &str) -> Self {
        let response = client.request(Method::GET, &format!("jobs/{job}/events")).send().await;
        let response = response.expect("the request failed");
        assert_eq!(response.status(), 200);
        let mut events = Self { headers: response.headers().clone(), response, text: String::new() };
        assert_eq!(events.block().await.as_deref(), Some("retry: 2000"));
        events
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The next block of lines; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let piece = self.response.chunk().await.expect("the stream was cut off")?;
            self.text.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        }
    }

    /// The text of the next job; `None` at the end of the stream.
    async fn job_text(&mut self) -> Option<String> {
        loop {
            let block = self.block().await?;
            if !block.starts_with(':') {
                let data =
                    block.strip_prefix("event: job\ndata: ").unwrap_or_else(|| panic!("not a job: {block}"));
                return Some(data.to_owned());
            }
        }
    }

    async fn job(&mut self) -> Option<Value> {
        self.job_text().await.map(|text| serde_json::from_str(&text).expect("JSON"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_job_at_once_each_change_and_the_end() {
    let server = without_worker().await;
    let job = submit(&server, 120_000).await;
    let mut events = Events::open(&server.admin(), &job).await;
    assert_eq!(events.header("content-type"), "text/event-stream");
    assert_eq!((events.header("cache-control"), events.header("x-accel-buffering")), ("no-store", "no"));
    let path = format!("jobs/{job}");
    assert_eq!(events.job_text().await, Some(server.admin().get(&path).await.text));
    for succeeded in [50_000, 100_000, 120_000] {
        let claim = cuponera_testkit::claim(server.database.store(), "test").await.expect("a chunk");
        let claimed = events.job().await.expect("a claim is a change");
        assert_eq!(
            (&claimed["status"], claimed["progress"]["succeeded"].as_i64()),
            (&json!("RUNNING"), Some((succeeded - 1) / 50_000 * 50_000))
        );
        work_generation(server.database.store(), &claim).await;
        if succeeded < 120_000 {
            let worked = events.job().await.expect("a finished chunk is a change");
            assert_eq!(worked["progress"]["succeeded"], succeeded);
        }
    }
    let last = events.job_text().await.expect("the end is a change");
    assert_eq!(last, server.admin().get(&path).await.text);
    assert!(last.contains("SUCCEEDED"), "{last}");
    assert_eq!(events.job_text().await, None);
    wait_for_watching(&server, |now| now == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_of_a_job_that_is_over_tells_it_and_ends() {
    let server = Server::start().await;
    let job = submit(&server, 1).await;
    wait_for_job(&server.admin(), &job).await;
    let mut events = Events::open(&server.admin(), &job).await;
    assert_eq!(events.job().await.expect("the job")["status"], "SUCCEEDED");
    assert_eq!(events.job_text().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_one_job_are_all_told_and_those_who_leave_free_everything() {
    let server = without_worker().await;
    let (job, other) = (submit(&server, 1).await, submit(&server, 1).await);
    let (mut stay, mut leave) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        stay.push(Events::open(&server.admin().apart().await, &job).await);
        leave.push(Events::open(&server.admin().apart().await, &other).await);
    }
    wait_for_watching(&server, |now| (now.streams, now.jobs) == (40, 2)).await;
    drop(leave);
    wait_for_watching(&server, |now| (now.streams, now.jobs) == (20, 1)).await;
    cancel(&server, &job).await;
    for events in &mut stay {
        assert_eq!(events.job().await.expect("the job")["status"], "QUEUED");
        assert_eq!(events.job().await.expect("the end")["status"], "CANCELLED");
        assert_eq!(events.job_text().await, None);
    }
    wait_for_watching(&server, |now| now == NOTHING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_lives_through_the_loss_of_all_connections_to_the_database() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let mut events = Events::open(&server.admin(), &job).await;
    events.job().await.expect("the job");
    let end_all = "select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::query(end_all).execute(server.database.pool()).await.expect("ending connections failed");
    cancel(&server, &job).await;
    assert_eq!(events.job().await.expect("the end")["status"], "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_ends_its_streams_in_good_order() {
    let server = without_worker().await;
    let job = submit(&server, 1).await;
    let mut events = Events::open(&server.admin(), &job).await;
    assert_eq!(events.job().await.expect("the job")["status"], "QUEUED");
    server.stop();
    assert_eq!(events.job_text().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_as_the_job_itself_would_be() {
    let server = without_worker().await;
    let path = format!("jobs/{}/events", submit(&server, 1).await);
    assert_eq!(server.anonymous().get(&path).await.rejected(401), "unauthorized");
    assert_eq!(server.user("ann").get(&path).await.rejected(403), "forbidden");
    assert_eq!(server.another_admin().await.get(&path).await.rejected(404), "not_found");
    assert_eq!(
        server.admin().get(&format!("jobs/{}/events", uuid::Uuid::now_v7())).await.rejected(404),
        "not_found"
    );
    assert_eq!(server.app.watching(), NOTHING, "a rejected stream kept its slot");
}
