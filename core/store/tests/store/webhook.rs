//! Webhooks: which events become deliveries, and in which order deliveries are claimed and end.

mod deliveries;
mod reader;

use std::time::Duration;

use chrono::Utc;
use cuponera_domain::id::{BusinessId, WebhookId};
use cuponera_domain::webhook::NewWebhook;
use cuponera_domain::webhook::delivery::{Attempt, Delivery};
use cuponera_domain::webhook::signature::Secret;
use cuponera_store::{AttemptOutcome, ClaimLimits, ClaimedDelivery, Finish};
use cuponera_testkit::{World, eventually};
use sqlx::query;

const LEASE: Duration = Duration::from_mins(10);
const PAGE: i64 = 100;

fn new_webhook(types: &[&str]) -> NewWebhook {
    NewWebhook {
        url: "https://receiver.example/hooks".to_owned(),
        description: None,
        event_types: types.iter().map(|name| (*name).to_owned()).collect(),
        per_code: false,
        enabled: true,
    }
}

async fn create(world: &World, business: BusinessId, new: NewWebhook) -> WebhookId {
    let created = world.store().create_webhook(None, business, &new, &Secret::new([7; 32])).await;
    created.unwrap().outcome.unwrap().webhook.id
}

/// A webhook of all events.
pub(crate) async fn webhook(world: &World) -> WebhookId {
    create(world, world.business, new_webhook(&["*"])).await
}

/// Reads the log until this many deliveries were created. Transactions in other databases of the server delay a reader too.
async fn read(world: &World, deliveries: u64) {
    let mut created = 0;
    eventually("the deliveries to be created", async || {
        created += world.store().read_webhook_events(PAGE).await.unwrap().created;
        (created >= deliveries).then_some(())
    })
    .await;
    assert_eq!(created, deliveries);
}

/// Reads the log to its end: until an event that is committed now has been read. Returns the number of deliveries created.
async fn read_to_end(world: &World) -> u64 {
    let end = world.store().event_log_end().await.unwrap().last;
    // The log has no end after `end` until another transaction has one.
    query("select pg_current_xact_id()").execute(world.pool()).await.unwrap();
    let mut created = 0;
    eventually("the log to be read", async || {
        created += world.store().read_webhook_events(PAGE).await.unwrap().created;
        (world.store().event_log_end().await.unwrap().committed > end
            && world.store().read_webhook_events(PAGE).await.unwrap().examined == 0)
            .then_some(())
    })
    .await;
    created
}

/// A webhook's deliveries, oldest first.
pub(crate) async fn deliveries(world: &World, webhook: WebhookId) -> Vec<Delivery> {
    let page = world.store().list_deliveries(world.business, webhook, None, 500).await.unwrap();
    page.items.into_iter().rev().collect()
}

fn types(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.event_type.as_str()).collect()
}

async fn claim(world: &World) -> Vec<ClaimedDelivery> {
    world.store().claim_deliveries(&ClaimLimits::at_most(100), LEASE).await.unwrap()
}

fn attempt(status: u16) -> Attempt {
    let error = (status >= 300).then(|| format!("the receiver answered {status}"));
    Attempt { at: Utc::now(), status: Some(status), error, duration_ms: 7, answer: Some("ok".into()) }
}

async fn finish(world: &World, claimed: &ClaimedDelivery, outcome: AttemptOutcome) -> Finish {
    let status = match outcome {
        AttemptOutcome::Delivered => 200,
        AttemptOutcome::Gone => 410,
        AttemptOutcome::Retry(_) | AttemptOutcome::Failed => 500,
    };
    world.store().finish_attempt_if_held(claimed, &attempt(status), outcome).await.unwrap()
}

/// Deletes all deliveries and webhooks that are due for deletion; returns their number.
async fn forget(world: &World) -> u64 {
    let mut deleted = 0;
    loop {
        match world.store().forget_deliveries().await.unwrap() {
            0 => return deleted,
            slice => deleted += slice,
        }
    }
}
