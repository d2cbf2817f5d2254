//! Webhooks from the event to a real HTTP receiver, with receivers that fail, workers that are lost, and addresses that are forbidden.

mod addresses;
mod receivers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cuponera_domain::id::{BusinessId, WebhookId};
use cuponera_domain::webhook::NewWebhook;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_domain::webhook::delivery::{Delivery, DeliveryStatus};
use cuponera_domain::webhook::signature::Secret;
use cuponera_platform::cache::Cache;
use cuponera_platform::files::Files;
use cuponera_platform::queue::{Queue, Wakeups};
use cuponera_store::Pools;
use cuponera_testkit::{Received, World};
use cuponera_worker::Worker;
use cuponera_worker::deliver::Sender;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The secret of all webhooks.
fn secret() -> Secret {
    Secret::new([42; 32])
}

/// A sender to all addresses of this machine.
fn local() -> Sender {
    Sender::new(networks(&["127.0.0.0/8"]))
}

fn networks(networks: &[&str]) -> AllowedNetworks {
    AllowedNetworks::new(networks.iter().map(|network| network.parse().unwrap()).collect())
}

/// A running worker.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    _files: TempDir,
}

impl Running {
    async fn start(world: &World, name: &str, sender: Sender) -> Self {
        let (files, stop) = (TempDir::new().unwrap(), CancellationToken::new());
        let worker = Worker {
            store: world.database.another_store(Pools { rest: 8, ..Pools::MIN }).await,
            files: Files::in_folder(files.path()).unwrap(),
            queue: Queue::Postgres(Arc::new(Wakeups::default())),
            cache: Cache::none(),
            concurrency: 1,
            name: name.to_owned(),
            retention: Duration::from_hours(90 * 24),
            sender,
            audit_key: None,
        };
        let task = tokio::spawn(worker.run(stop.clone()));
        Self { stop, task, _files: files }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A webhook of all events.
async fn webhook(world: &World, url: &str) -> WebhookId {
    webhook_of(world, world.business, url).await
}

async fn webhook_of(world: &World, business: BusinessId, url: &str) -> WebhookId {
    let new = NewWebhook {
        url: url.to_owned(),
        description: None,
        event_types: vec!["*".to_owned()],
        per_code: false,
        enabled: true,
    };
    let created = world.store().create_webhook(None, business, &new, &secret()).await.unwrap();
    created.outcome.unwrap().webhook.id
}

/// A webhook's deliveries, oldest first.
async fn deliveries(world: &World, webhook: WebhookId) -> Vec<Delivery> {
    let page = world.store().list_deliveries(world.business, webhook, None, 500).await.unwrap();
    page.items.into_iter().rev().collect()
}

fn count(deliveries: &[Delivery], status: DeliveryStatus) -> usize {
    deliveries.iter().filter(|delivery| delivery.status == status).count()
}

/// Assigns, locks and unlocks each code: three events for each.
async fn three_events(world: &World, codes: &[String]) {
    for code in codes {
        world.give(code, "ana").await;
        world.locked(code, "ana").await;
        world.run_batch(world.unlock(code, "ana")).await.outcome.unwrap();
    }
}

/// Checks that each request has a valid signature and the id of its event, by the library of Standard Webhooks.
fn assert_signed(received: &[Received]) {
    let library = standardwebhooks::Webhook::new(&secret().to_text()).unwrap();
    for request in received {
        library.verify(request.body.as_bytes(), &request.headers).unwrap();
        let body = request.json();
        assert_eq!(request.header("webhook-id"), body["id"].as_str().unwrap());
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(body["data"]["id"], body["id"]);
    }
}

/// The types of the events of each code, in the order in which they first arrived.
fn first_arrivals(received: &[Received]) -> BTreeMap<String, Vec<String>> {
    let mut seen = std::collections::BTreeSet::new();
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in received {
        let body = request.json();
        if seen.insert(body["id"].to_string()) {
            let code = body["data"]["code"].as_str().unwrap_or_default().to_owned();
            of.entry(code).or_default().push(body["type"].as_str().unwrap().to_owned());
        }
    }
    of
}

/// Checks that the three events of each code arrived, in order.
fn assert_in_order(received: &[Received], codes: &[String]) {
    let arrivals = first_arrivals(received);
    assert_eq!(arrivals.len(), codes.len());
    for (code, types) in arrivals {
        assert_eq!(types, ["coupon.assigned", "coupon.locked", "coupon.unlocked"], "{code}");
    }
}
