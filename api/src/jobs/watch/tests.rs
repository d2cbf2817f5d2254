//! Tests of watchers: their updates, and the resources that they free.

use std::sync::Arc;
use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::job::{JobKind, JobStatus};
use cuponera_domain::principal::RoleName;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_platform::credential::{Tokens, secret_hash};
use cuponera_platform::files::Files;
use cuponera_platform::queue::Queue;
use cuponera_platform::telemetry::{Exposition, MetricsAccess};
use cuponera_store::GenerateId;
use cuponera_store::NewApiKey;
use cuponera_testkit::{World, eventually};
use futures::StreamExt;
use poem::http::{HeaderMap, StatusCode};
use poem::test::{TestClient, TestResponse};
use poem::{EndpointExt, IntoEndpoint, Response};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::app::{App, AppBuilder};

fn queued_job() -> Job {
    let now = chrono::Utc::now();
    Job {
        id: JobId::generate(),
        business: BusinessId(Uuid::now_v7()),
        kind: JobKind::GenerateCodes.as_str().into(),
        status: JobStatus::Queued,
        total: Some(1),
        succeeded: 0,
        failed: 0,
        result: serde_json::json!({}),
        error: None,
        warnings: Vec::new(),
        attempts: 0,
        created_at: now,
        started_at: None,
        finished_at: None,
        heartbeat_at: None,
        read_at: now,
    }
}

/// A caller of a business of its own.
fn a_caller() -> Claimant {
    caller_of(BusinessId(Uuid::now_v7()))
}

fn caller_of(business: BusinessId) -> Claimant {
    Claimant::Known { caller: Uuid::now_v7(), business, address: None }
}

fn some_shares() -> Shares {
    Shares::new("streams", 8, &Settings::default())
}

impl Watched {
    /// A watched, queued job, and the sender of its readings.
    pub(crate) fn of_queued_job() -> (watch::Sender<Job>, Self) {
        let (sender, job) = watch::channel(queued_job());
        let slot = some_shares().take(&a_caller()).unwrap();
        (sender, Self { job, stop: CancellationToken::new(), _slot: slot })
    }
}

/// The same job, read some milliseconds later.
fn later(job: &Job, milliseconds: i64) -> Job {
    Job { read_at: job.read_at + chrono::TimeDelta::milliseconds(milliseconds), ..job.clone() }
}

#[test]
fn a_reading_notifies_the_watchers_if_it_differs() {
    let (sender, mut watcher) = Watched::of_queued_job();
    let first = watcher.job.borrow_and_update().clone();
    publish_if_later(&sender, later(&first, 1));
    assert!(!watcher.job.has_changed().unwrap(), "only the time of the reading is new");
    assert_eq!(watcher.job.borrow().read_at, later(&first, 1).read_at);
    publish_if_later(&sender, Job { succeeded: 1, ..later(&first, 2) });
    assert!(watcher.job.has_changed().unwrap());
}

/// Invariant I-29.
#[test]
fn an_earlier_reading_never_replaces_a_later_one() {
    let (sender, mut watcher) = Watched::of_queued_job();
    let first = watcher.job.borrow_and_update().clone();
    publish_if_later(&sender, Job { status: JobStatus::Failed, ..later(&first, -1) });
    assert!(!watcher.job.has_changed().unwrap());
    assert_eq!(watcher.job.borrow().status, JobStatus::Queued);
}

/// A server without its sockets.
struct Installation {
    world: World,
    app: Arc<App>,
    client: TestClient<poem::endpoint::BoxEndpoint<'static, Response>>,
    key: String,
    _files: TempDir,
}

impl Installation {
    async fn new() -> Self {
        let (world, files) = (World::new().await, TempDir::new().unwrap());
        let secret = "a secret that signs the access tokens of tests".to_owned();
        let tokens = Tokens::new(&secret.into(), Duration::from_mins(15));
        let key = "a key of tests".to_owned();
        let new = NewApiKey {
            business: world.business,
            name: "A backend".to_owned(),
            role: RoleName::Service,
            secret_hash: secret_hash(&key),
            hint: "a key".to_owned(),
            scope: cuponera_domain::principal::KeyScope::default(),
            created_by: None,
            expires_at: None,
        };
        world.store().create_api_key(&new).await.unwrap();
        let builder = AppBuilder {
            store: world.store().clone(),
            files: Files::in_folder(files.path()).unwrap(),
            queue: Queue::Postgres(Arc::default()),
            cache: cuponera_platform::cache::Cache::none(),
            tokens,
            refresh_ttl: Duration::from_hours(1),
            upload_limit: 1,
            lanes: 1,
            limits: crate::Limits::default(),
            cors_origins: Vec::new(),
            webhook_networks: AllowedNetworks::default(),
            metrics: Exposition::new(MetricsAccess::Loopback),
        };
        let app = App::start(builder).unwrap();
        let endpoint = crate::routes(app.clone()).into_endpoint();
        let client = TestClient::new(endpoint.map_to_response().boxed());
        Self { world, app, client, key, _files: files }
    }

    async fn submit(&self) -> JobId {
        let pattern = Pattern::parse("{XXXXXXXXXXXX}").unwrap();
        let (business, book) = (self.world.business, self.world.book);
        let job =
            self.world.store().submit_generation(None, business, "service:test", book, &pattern, 1).await;
        job.unwrap().outcome.unwrap().id
    }

    async fn get(&self, path: String, prefer: &str) -> TestResponse {
        let request = self.client.get(path).header("Host", "a").header("X-API-Key", &self.key);
        request.header("Prefer", prefer).send().await
    }

    async fn wait_until_no_watcher_is_left(&self) {
        eventually("the poller to end", async || {
            (self.app.watching() == Watching { streams: 0, waits: 0, jobs: 0, is_polling: false })
                .then_some(())
        })
        .await;
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn all_watchers_share_one_poller_and_it_ends_with_the_last() {
    let installation = Installation::new().await;
    let (one, two) = (installation.submit().await, installation.submit().await);
    let business = installation.world.business;
    let mut watchers = Vec::new();
    for id in [one, one, two, one] {
        watchers.push(
            installation
                .app
                .watches
                .watch(installation.app.watches.stream_slot(&a_caller()).unwrap(), business, id)
                .await
                .unwrap(),
        );
    }
    assert_eq!(
        installation.app.watches.watching(),
        Watching { streams: 4, waits: 0, jobs: 2, is_polling: true }
    );
    watchers.pop();
    drop(watchers.remove(2));
    eventually("the job that nobody watches to be forgotten", async || {
        (installation.app.watches.watching() == Watching { streams: 2, waits: 0, jobs: 1, is_polling: true })
            .then_some(())
    })
    .await;
    drop(watchers);
    installation.wait_until_no_watcher_is_left().await;
    // A later watcher starts a new poller.
    let mut late = installation
        .app
        .watches
        .watch(installation.app.watches.wait_slot(&a_caller()).unwrap(), business, one)
        .await
        .unwrap();
    installation.world.store().cancel_job_if_open(None, business, one).await.unwrap().outcome.unwrap();
    assert!(late.changes().await);
    assert_eq!(late.end(Duration::ZERO).await.status, JobStatus::Cancelled);
}

#[tokio::test]
async fn an_ended_job_is_not_polled_even_with_a_watcher() {
    let installation = Installation::new().await;
    let (id, business) = (installation.submit().await, installation.world.business);
    let watcher = installation
        .app
        .watches
        .watch(installation.app.watches.stream_slot(&a_caller()).unwrap(), business, id)
        .await
        .unwrap();
    installation.world.store().cancel_job_if_open(None, business, id).await.unwrap().outcome.unwrap();
    eventually("the poller to end", async || (!installation.app.watches.watching().is_polling).then_some(()))
        .await;
    assert_eq!(
        installation.app.watches.watching(),
        Watching { streams: 1, waits: 0, jobs: 0, is_polling: false }
    );
    let statuses: Vec<_> = watcher.events().map(|job| job.status).collect().await;
    assert_eq!(statuses, [JobStatus::Cancelled]);
}

#[tokio::test]
async fn a_deleted_job_ends_its_watchers_with_the_last_reading() {
    let installation = Installation::new().await;
    let (id, business) = (installation.submit().await, installation.world.business);
    let watcher = installation
        .app
        .watches
        .watch(installation.app.watches.wait_slot(&a_caller()).unwrap(), business, id)
        .await
        .unwrap();
    sqlx::query("delete from job").execute(installation.world.pool()).await.unwrap();
    assert_eq!(watcher.end(Duration::from_hours(1)).await.status, JobStatus::Queued);
    installation.wait_until_no_watcher_is_left().await;
}

#[tokio::test]
async fn a_stream_above_the_limit_gets_retry_after_and_a_closed_stream_frees_its_slot() {
    let installation = Installation::new().await;
    let path = format!("/api/v1/jobs/{}/events", installation.submit().await);
    let watches = &installation.app.watches;
    let mut slots: Vec<_> = std::iter::from_fn(|| watches.stream_slot(&a_caller()).ok()).collect();
    assert_eq!(slots.len(), 1_000);
    let rejected = installation.get(path.clone(), "").await;
    rejected.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    rejected.assert_header("Retry-After", "5");
    let problem: serde_json::Value =
        serde_json::from_str(&rejected.0.into_body().into_string().await.unwrap()).unwrap();
    assert_eq!(problem["code"], "too_many_streams");
    slots.pop();
    let taken = installation.get(path.clone(), "").await;
    taken.assert_status_is_ok();
    installation.get(path.clone(), "").await.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    drop(taken);
    installation.get(path, "").await.assert_status_is_ok();
}

#[tokio::test]
async fn without_a_free_slot_the_response_is_immediate_and_has_no_preference_applied() {
    let installation = Installation::new().await;
    let path = format!("/api/v1/jobs/{}", installation.submit().await);
    let watches = &installation.app.watches;
    let slots: Vec<_> = std::iter::from_fn(|| watches.wait_slot(&a_caller()).ok()).collect();
    let reply = installation.get(path.clone(), "wait=60").await;
    reply.assert_status_is_ok();
    assert_eq!(header(reply.0.headers(), "Preference-Applied"), "");
    drop(slots);
    let reply = installation.get(path, "wait=0").await;
    assert_eq!(header(reply.0.headers(), "Preference-Applied"), "wait=0");
}

#[tokio::test]
async fn a_caller_above_its_share_of_streams_is_rejected_and_another_of_the_business_is_not() {
    let installation = Installation::new().await;
    let path = format!("/api/v1/jobs/{}/events", installation.submit().await);
    let mut held = Vec::new();
    let rejected = loop {
        let answer = installation.get(path.clone(), "").await;
        match answer.0.status() {
            StatusCode::OK => held.push(answer),
            _ => break answer,
        }
    };
    assert_eq!(held.len(), 250);
    rejected.assert_status(StatusCode::SERVICE_UNAVAILABLE);
    rejected.assert_header("Retry-After", "5");
    let text = rejected.0.into_body().into_string().await.unwrap();
    assert!(
        text.contains("\"too_many_streams\"") && text.contains("the limit of 250 open event streams"),
        "{text}"
    );
    let (watches, business) = (&installation.app.watches, installation.world.business);
    assert!(watches.stream_slot(&caller_of(business)).is_ok());
    held.pop();
    installation.get(path, "").await.assert_status_is_ok();
}
