//! `GET /events?follow=true`: each committed event once, also for those that reconnect.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cuponera_testkit::eventually;
use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{query, query_scalar};
use tokio::time::timeout;
use uuid::Uuid;

use super::{held, key_of};
use crate::support::{Client, Server};

const WRITERS: usize = 32;
/// Longer than any event takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The client of a stream of events.
struct Follower {
    response: reqwest::Response,
    text: String,
    /// The last id.
    last: String,
}

impl Follower {
    /// Opens a stream, and waits for its first position.
    async fn open(client: &Client, query: &str, last: Option<&str>) -> Self {
        let mut request = client.request(Method::GET, &format!("events?follow=true{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.expect("the request failed");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let mut follower = Self { response, text: String::new(), last: String::new() };
        assert_eq!(follower.block().await.as_deref(), Some("retry: 2000"));
        let first = follower.block().await.expect("a position");
        first.strip_prefix("id: ").expect("an id").clone_into(&mut follower.last);
        follower
    }

    /// The next block of lines; `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let piece = timeout(PATIENCE, self.response.chunk()).await.expect("no event came in time");
            let piece = piece.expect("the stream was cut off")?;
            self.text.push_str(std::str::from_utf8(&piece).expect("UTF-8"));
        }
    }

    /// The next event; `None` at the end of the stream.
    async fn event(&mut self) -> Option<Value> {
        loop {
            let block = self.block().await?;
            let mut lines = block.lines();
            let id = lines.next().and_then(|line| line.strip_prefix("id: ")).expect("each block has an id");
            id.clone_into(&mut self.last);
            match (lines.next(), lines.next()) {
                (None, _) => {}
                (Some("event: event"), Some(data)) => {
                    let data = data.strip_prefix("data: ").expect("data");
                    return Some(serde_json::from_str(data).expect("JSON"));
                }
                other => panic!("not an event: {other:?}"),
            }
        }
    }

    /// The next event that is not the assignment of a code by `give`: a stream may begin with events that were committed just before.
    async fn news(&mut self) -> Option<Value> {
        loop {
            let event = self.event().await?;
            if event["action"] != "ASSIGN" || event["actor"] == "late" {
                return Some(event);
            }
        }
    }

    /// The ids of the next events.
    async fn ids(&mut self, count: usize) -> Vec<Uuid> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let event = self.event().await.expect("the stream ended");
            ids.push(event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id"));
        }
        ids
    }
}

async fn stored(server: &Server) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> = query_scalar("select id from coupon_event")
        .fetch_all(server.database.pool())
        .await
        .expect("the query failed");
    ids.into_iter().collect()
}

fn assert_exactly(ids: &[Uuid], expected: &BTreeSet<Uuid>) {
    let once: BTreeSet<Uuid> = ids.iter().copied().collect();
    assert_eq!(once.len(), ids.len(), "an event was sent twice");
    assert_eq!(&once, expected, "the events that were sent are not the committed ones");
}

/// Invariant I-61.
#[tokio::test(flavor = "multi_thread")]
async fn two_followers_of_32_writers_get_exactly_the_committed_events_also_after_reconnecting() {
    let server = Server::start().await;
    let book = server.book(json!({"maxRedeemsPerUser": 3})).await;
    let codes: Vec<String> = (0..WRITERS).map(|number| format!("CODE-{number}")).collect();
    server.plant(&book, &codes.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (service, admin) = (server.service(), server.admin());
    let mut steady = Follower::open(&service.apart().await, "", None).await;
    let mut restless = Follower::open(&admin.apart().await, "", None).await;
    let start = steady.last.clone();
    let writers = join_all(codes.iter().map(async |code| {
        server.give(code, "ann").await;
        for _ in 0..3 {
            service.post(&format!("coupons/{code}/lock"), json!({"userId": "ann"})).await.expect(200);
            service.post(&format!("coupons/{code}/redeem"), json!({"userId": "ann"})).await.expect(200);
        }
    }));
    let all = WRITERS * 7;
    let reading = steady.ids(all);
    // It reconnects after every 10 events.
    let reconnecting = async {
        let mut ids = Vec::new();
        while ids.len() < all {
            ids.extend(restless.ids(10.min(all - ids.len())).await);
            let last = restless.last.clone();
            restless = Follower::open(&admin.apart().await, "", Some(&last)).await;
            assert_eq!(restless.last, last);
        }
        ids
    };
    // They begin at the same position as the first one, while events are written.
    let late = join_all((1..8).map(async |part| {
        eventually("events", async || (stored(&server).await.len() >= all * part / 8).then_some(())).await;
        Follower::open(&service.apart().await, "", Some(&start)).await.ids(all).await
    }));
    let (_, steady_ids, restless_ids, late_ids) = tokio::join!(writers, reading, reconnecting, late);
    let stored = stored(&server).await;
    assert_eq!(stored.len(), all);
    for ids in &late_ids {
        assert_exactly(ids, &stored);
    }
    assert_exactly(&steady_ids, &stored);
    assert_exactly(&restless_ids, &stored);
    assert_eq!(steady_ids, restless_ids, "the order of the log");
    server.assert_invariants().await;
}

/// Waits until the poller has read the log.
async fn wait_for_the_poller(server: &Server) {
    let now: DateTime<Utc> = query_scalar("select clock_timestamp()")
        .fetch_one(server.database.pool())
        .await
        .expect("the query failed");
    eventually("the poller to read the log", async || {
        // The last statement of a connection.
        let has_read = "select exists (select from pg_stat_activity where datname = current_database() and state = 'idle'
                                         and query like '-- Events after a position%' and query_start > $1)";
        let has_read = query_scalar::<_, bool>(has_read).bind(now).fetch_one(server.database.pool()).await;
        has_read.expect("the query failed").then_some(())
    })
    .await;
}

/// The event of a transaction that began first and commits last is neither lost nor sent before the others.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_commit_out_of_order_are_sent_once() {
    let server = Server::start().await;
    held(&server, &["ONE-1"]).await;
    let mut follower = Follower::open(&server.service(), "", None).await;
    let mut late = server.database.pool().begin().await.expect("beginning failed");
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         select gen_random_uuid(), business_id, book_id, position, 77, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late' from coupon",
    )
    .execute(&mut *late)
    .await
    .expect("inserting failed");
    server.service().post("coupons/ONE-1/lock", json!({"userId": "ann"})).await.expect(200);
    // A second follower begins while the first event is not committed.
    let mut second = Follower::open(&server.admin(), "", None).await;
    wait_for_the_poller(&server).await;
    late.commit().await.expect("committing failed");
    for follower in [&mut follower, &mut second] {
        let events = [follower.news().await, follower.news().await].map(|event| event.expect("an event"));
        assert_eq!(events.map(|event| event["action"].clone()), ["ASSIGN", "LOCK"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_only_the_events_of_its_filter_its_books_and_its_business() {
    let server = Server::start().await;
    let book = held(&server, &["ONE-1", "TWO-2"]).await;
    let other = held(&server, &["THREE-3"]).await;
    let limited = key_of(&server, &book).await;
    let service = server.service();
    let mut of_key = Follower::open(&limited, "", None).await;
    let mut of_book = Follower::open(&service, &format!("&couponBookId={other}&userId=ann"), None).await;
    let mut of_action = Follower::open(&service, "&action=UNLOCK", None).await;
    let mut foreign = Follower::open(&server.another_admin().await, "", None).await;
    for code in ["ONE-1", "THREE-3"] {
        service.post(&format!("coupons/{code}/lock"), json!({"userId": "ann"})).await.expect(200);
        service.post(&format!("coupons/{code}/unlock"), json!({"userId": "ann"})).await.expect(200);
    }
    let next = async |follower: &mut Follower| {
        let event = follower.news().await.expect("an event");
        format!(
            "{} {}",
            event["action"].as_str().unwrap_or_default(),
            event["code"].as_str().unwrap_or_default()
        )
    };
    assert_eq!([next(&mut of_key).await, next(&mut of_key).await], ["LOCK ONE-1", "UNLOCK ONE-1"]);
    assert_eq!([next(&mut of_book).await, next(&mut of_book).await], ["LOCK THREE-3", "UNLOCK THREE-3"]);
    assert_eq!([next(&mut of_action).await, next(&mut of_action).await], ["UNLOCK ONE-1", "UNLOCK THREE-3"]);
    server.stop();
    assert_eq!(
        foreign.event().await,
        None,
        "a stream ends with the server, and has no event of another business"
    );
}

/// A client that resumes long after the batches of the poller reads the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_at_any_earlier_position() {
    let server = Server::start().await;
    let first = Follower::open(&server.service(), "", None).await;
    let start = first.last.clone();
    drop(first);
    eventually("the poller to stop", async || (!server.app.is_following_events()).then_some(())).await;
    let book = server.book(json!({})).await;
    let codes: Vec<String> = (0..1_200).map(|number| format!("CODE-{number:04}")).collect();
    let rows: Vec<String> = codes.iter().map(|code| format!("{code},user-{code}")).collect();
    let job = server.upload(&book, format!("code,userId\n{}", rows.join("\n"))).await.expect(202);
    crate::support::wait_for_job(&server.admin(), job["id"].as_str().expect("an id")).await;
    let expected = stored(&server).await;
    assert_eq!(expected.len(), codes.len());
    let mut resumed = Follower::open(&server.service(), "", Some(&start)).await;
    let ids = resumed.ids(codes.len()).await;
    assert_exactly(&ids, &expected);
    server.service().post("coupons/CODE-0000/lock", json!({"userId": "user-CODE-0000"})).await.expect(200);
    assert_eq!(resumed.event().await.expect("the next event")["action"], "LOCK");
    let middle = Follower::open(&server.service(), "", Some(&resumed.last)).await.last;
    assert_eq!(middle, resumed.last);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_is_none_or_of_another_log_is_rejected() {
    let server = Server::start().await;
    for last in
        ["", "odd", "1.2", &format!("1.{}.{}", u64::MAX, Uuid::now_v7()), &format!("9.2.{}", Uuid::now_v7())]
    {
        let request =
            server.service().request(Method::GET, "events?follow=true").header("Last-Event-ID", last);
        let reply = crate::support::Reply::to(request).await;
        assert_eq!(reply.json()["errors"][0]["field"], "Last-Event-ID", "{last}");
        assert_eq!(reply.rejected(422), "invalid", "{last}");
    }
    assert_eq!(server.app.watching().streams, 0, "a rejected stream kept its slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_survives_the_loss_of_all_connections_and_ends_with_its_key() {
    let server = Server::start().await;
    let book = held(&server, &["ONE-1"]).await;
    let limited = json!({"name": "A limited key", "couponBookIds": [book]});
    let made = server.admin().post("api-keys", limited).await.expect(201);
    let client = server.anonymous().with_key(made["key"].as_str().expect("a key"));
    let mut follower = Follower::open(&client, "", None).await;
    let end_all = "select pg_terminate_backend(pid) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()";
    query(end_all).execute(server.database.pool()).await.expect("ending connections failed");
    eventually("the lock", async || {
        let reply = server.service().post("coupons/ONE-1/lock", json!({"userId": "ann"})).await;
        (reply.status == 200).then_some(())
    })
    .await;
    assert_eq!(follower.news().await.expect("the event")["action"], "LOCK");
    let id = made["id"].as_str().expect("an id");
    assert_eq!(server.admin().delete(&format!("api-keys/{id}")).await.status, 204);
    while follower.event().await.is_some() {}
    eventually("the slot to be free", async || (server.app.watching().streams == 0).then_some(())).await;
    eventually("the poller to stop", async || (!server.app.is_following_events()).then_some(())).await;
}
