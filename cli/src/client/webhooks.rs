//! `cuponera webhooks`: creates, shows, changes and tests webhooks, and shows their deliveries.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::exchange::{JsonDocument, Request};
use super::fault::ClientError;
use super::show::{CellFormat, Column, card, count, plain, table, text};
use super::{Client, Paging, RunCommand, print};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera webhooks create https://shop.example/hooks --event coupon.redeemed --event coupon.rolled_back
  cuponera webhooks test https://shop.example/hooks
  cuponera webhooks deliveries https://shop.example/hooks --limit 10
  cuponera webhooks replay https://shop.example/hooks --since 2027-06-01T00:00:00Z
  cuponera webhooks replay https://shop.example/hooks --delivery 0199b1f0-0000-7000-8000-000000000000
  cuponera webhooks update https://shop.example/hooks --enabled true

A webhook is given by its id or its exact URL."
);

/// The page size of look-ups: the maximum of the API.
const LOOKUP_PAGE: u32 = 500;
/// Number of deliveries among which a test is looked for.
const NEWEST: u32 = 20;
/// How long the outcome of a test is waited for: an attempt takes at most 10 s.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);
const TEST_PAUSE: Duration = Duration::from_millis(200);

/// Options of `webhooks`.
#[derive(Debug, Args)]
pub(crate) struct Webhooks {
    #[command(subcommand)]
    verb: WebhookVerb,
}

#[derive(Debug, Subcommand)]
enum WebhookVerb {
    /// List webhooks, newest first
    List(Paging),
    /// Show a webhook
    Show(Named),
    /// Create a webhook, and print its secret
    Create(Create),
    /// Change a webhook
    Update(Update),
    /// Delete a webhook
    Delete(Named),
    /// Replace the secret, and print the new one; the old one stays valid for 24 hours
    RotateSecret(Named),
    /// Send a test event, and print the outcome
    Test(Named),
    /// Attempt failed deliveries again
    Replay(Replay),
    /// List the deliveries of a webhook, newest first
    Deliveries(Deliveries),
}

/// A webhook.
#[derive(Debug, Args)]
struct Named {
    /// The webhook's id, or its exact URL
    webhook: String,
}

#[derive(Debug, Args)]
struct Create {
    /// The URL of the receiver
    receiver: String,
    /// A type of event that it gets, such as coupon.redeemed; may be repeated. All types if absent
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// The description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Send the events that bulk jobs write for each code
    #[arg(long)]
    per_code: bool,
    /// Create it disabled
    #[arg(long)]
    disabled: bool,
}

#[derive(Debug, Args)]
struct Update {
    #[command(flatten)]
    named: Named,
    /// The new URL of the receiver
    #[arg(long, value_name = "URL")]
    receiver: Option<String>,
    /// A type of event that it gets; may be repeated, and replaces the present types. * for all
    #[arg(long = "event", value_name = "TYPE")]
    events: Vec<String>,
    /// The new description; an empty one removes it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Whether it gets the events that bulk jobs write for each code
    #[arg(long, value_name = "true|false")]
    per_code: Option<bool>,
    /// Whether it gets events
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
}

#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    named: Named,
    /// Failed deliveries that were created from this time on, such as 2027-06-01T00:00:00Z
    #[arg(long, value_name = "TIME", required_unless_present = "delivery")]
    since: Option<String>,
    /// The delivery with this id, also if it was delivered
    #[arg(long, value_name = "ID", conflicts_with = "since")]
    delivery: Option<Uuid>,
}

#[derive(Debug, Args)]
struct Deliveries {
    #[command(flatten)]
    named: Named,
    #[command(flatten)]
    paging: Paging,
}

impl RunCommand for Webhooks {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        match self.verb {
            WebhookVerb::List(paging) => list(client, paging).await,
            WebhookVerb::Show(named) => {
                let id = find(client, &named.webhook).await?;
                let webhook = client.ask(Request::get(&["webhooks", &id])).await?;
                client.show(&webhook, webhook_card)
            }
            WebhookVerb::Create(create) => create.run(client).await,
            WebhookVerb::Update(update) => update.run(client).await,
            WebhookVerb::Delete(named) => {
                let id = find(client, &named.webhook).await?;
                client.ask(Request::delete(&["webhooks", &id])).await?;
                if client.json {
                    Ok(())
                } else {
                    print::print(&format!("{} is deleted.", plain(&named.webhook)))
                }
            }
            WebhookVerb::RotateSecret(named) => {
                let id = find(client, &named.webhook).await?;
                let webhook =
                    client.ask(Request::post(&["webhooks", &id, "rotate-secret"], Value::Null)).await?;
                client.show(&webhook, with_secret)
            }
            WebhookVerb::Test(named) => test(client, &named.webhook).await,
            WebhookVerb::Replay(replay) => {
                let id = find(client, &replay.named.webhook).await?;
                if let Some(delivery) = replay.delivery {
                    let path = ["webhooks", &*id, "deliveries", &delivery.to_string(), "replay"];
                    let replayed = client.ask(Request::post(&path, Value::Null)).await?;
                    return client.show(&replayed, |_| "the delivery is attempted again".to_owned());
                }
                let body = json!({"since": replay.since});
                let replayed = client.ask(Request::post(&["webhooks", &id, "replay"], body)).await?;
                client.show(&replayed, |replayed| {
                    let number = count(replayed["count"].as_u64().unwrap_or_default());
                    format!("{number} deliveries are attempted again")
                })
            }
            WebhookVerb::Deliveries(deliveries) => deliveries.run(client).await,
        }
    }
}

async fn list(client: &Client, paging: Paging) -> Result<(), ClientError> {
    const COLUMNS: [Column; 5] = [
        Column("ID", "/id", CellFormat::Text),
        Column("URL", "/url", CellFormat::Text),
        Column("ENABLED", "/enabled", CellFormat::Text),
        Column("EVENTS", "/eventTypes", CellFormat::Text),
        Column("LAST", "/lastDelivery/status", CellFormat::Text),
    ];
    let page = client.ask_page(Request::get(&["webhooks"]), paging).await?;
    client.show_page(&page, |items| table(&COLUMNS, items))
}

fn webhook_card(webhook: &Value) -> String {
    const FIELDS: [Column; 11] = [
        Column("URL", "/url", CellFormat::Text),
        Column("Id", "/id", CellFormat::Text),
        Column("Description", "/description", CellFormat::Text),
        Column("Events", "/eventTypes", CellFormat::Text),
        Column("Events of jobs", "/perCode", CellFormat::Text),
        Column("Enabled", "/enabled", CellFormat::Text),
        Column("Disabled because", "/disabledReason", CellFormat::Text),
        Column("Created", "/createdAt", CellFormat::Time),
        Column("Last delivery", "/lastDelivery/at", CellFormat::Time),
        Column("Its event", "/lastDelivery/type", CellFormat::Text),
        Column("Its status", "/lastDelivery/status", CellFormat::Text),
    ];
    card(&FIELDS, webhook)
}

/// The webhook, and its secret, which only this response contains.
fn with_secret(webhook: &Value) -> String {
    format!(
        "{}\n\nThe secret that signs the requests; it is not shown again:\n{}",
        webhook_card(webhook),
        text(webhook, "/secret")
    )
}

impl Create {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let mut body = json!({"url": self.receiver, "perCode": self.per_code, "enabled": !self.disabled});
        if !self.events.is_empty() {
            body["eventTypes"] = self.events.into();
        }
        if let Some(description) = self.description {
            body["description"] = description.into();
        }
        let webhook = client.ask(Request::post(&["webhooks"], body)).await?;
        client.show(&webhook, with_secret)
    }
}

impl Update {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let id = find(client, &self.named.webhook).await?;
        let mut body = json!({});
        if let Some(url) = self.receiver {
            body["url"] = url.into();
        }
        if !self.events.is_empty() {
            body["eventTypes"] = self.events.into();
        }
        if let Some(description) = self.description {
            body["description"] = if description.is_empty() { Value::Null } else { description.into() };
        }
        for (name, value) in [("perCode", self.per_code), ("enabled", self.enabled)] {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let webhook = client.ask(Request::patch(&["webhooks", &id], body)).await?;
        client.show(&webhook, webhook_card)
    }
}

impl Deliveries {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let id = find(client, &self.named.webhook).await?;
        let page = client.ask_page(Request::get(&["webhooks", &id, "deliveries"]), self.paging).await?;
        client.show_page(&page, deliveries_table)
    }
}

fn deliveries_table(items: &[Value]) -> String {
    const COLUMNS: [Column; 7] = [
        Column("CREATED", "/createdAt", CellFormat::Time),
        Column("EVENT", "/type", CellFormat::Text),
        Column("CODE", "/request/data/code", CellFormat::Text),
        Column("STATUS", "/status", CellFormat::Text),
        Column("ATTEMPTS", "/attemptCount", CellFormat::Count),
        Column("NEXT", "/nextAttemptAt", CellFormat::Time),
        Column("LAST ERROR", "/lastError", CellFormat::Text),
    ];
    let rows: Vec<Value> = items
        .iter()
        .map(|item| {
            let attempts = item["attempts"].as_array().map_or(&[][..], Vec::as_slice);
            let mut row = item.clone();
            row["attemptCount"] = attempts.len().into();
            row["lastError"] = attempts.last().map_or(Value::Null, |attempt| attempt["error"].clone());
            row
        })
        .collect();
    table(&COLUMNS, &rows)
}

/// Sends a test event and waits for its attempt.
async fn test(client: &Client, webhook: &str) -> Result<(), ClientError> {
    let id = find(client, webhook).await?;
    let sent = client.ask(Request::post(&["webhooks", &id, "test"], Value::Null)).await?;
    let delivery = text(&sent.value, "/id");
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let path = ["webhooks", &*id, "deliveries"];
        let page = client.ask(Request::get(&path).with("limit", Some(NEWEST))).await?;
        let found = page.items().iter().find(|item| item["id"] == *delivery);
        match found {
            Some(item) if item["status"] != "PENDING" => return show_test(client, item),
            _ if Instant::now() >= deadline => {
                return Err(ClientError::Unavailable(
                    "no worker has attempted the test within 30 s: is `cuponera up` or cuponera-worker running?"
                        .to_owned(),
                ));
            }
            _ => sleep(TEST_PAUSE).await,
        }
    }
}

fn show_test(client: &Client, delivery: &Value) -> Result<(), ClientError> {
    let attempt = &delivery["attempts"][0];
    let document = JsonDocument { text: delivery.to_string(), value: delivery.clone() };
    if client.json || delivery["status"] == "DELIVERED" {
        client.show(&document, |_| {
            format!("delivered: {} in {} ms", attempt["status"], attempt["durationMs"])
        })?;
    }
    if delivery["status"] == "DELIVERED" {
        return Ok(());
    }
    Err(ClientError::JobEnded(format!("the test event was not delivered: {}", text(attempt, "/error"))))
}

/// Finds the id of a webhook given by its id or its exact URL.
async fn find(client: &Client, webhook: &str) -> Result<String, ClientError> {
    if let Ok(id) = webhook.trim().parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let normalized = webhook.parse::<reqwest::Url>().map_or_else(|_| webhook.to_owned(), String::from);
    let page = client.ask(Request::get(&["webhooks"]).with("limit", Some(LOOKUP_PAGE))).await?;
    let mut found = page.items().iter().filter(|item| item["url"] == *normalized);
    match (found.next(), found.next()) {
        (Some(item), None) => Ok(text(item, "/id")),
        (Some(_), Some(_)) => Err(ClientError::Local(format!(
            "several webhooks have the URL {}: give the id of one",
            plain(webhook)
        ))),
        (None, _) => Err(ClientError::not_found(format!(
            "no webhook has the URL {}; see `cuponera webhooks list`",
            plain(webhook)
        ))),
    }
}
