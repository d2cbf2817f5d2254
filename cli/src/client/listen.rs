//! `cuponera listen`: follows the events and sends them to a local receiver, signed as webhooks are.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use cuponera_domain::webhook::event_type::EventType;
use cuponera_domain::webhook::payload;
use cuponera_domain::webhook::signature::{Secret, signatures};
use cuponera_platform::credential::webhook_secret;
use reqwest::redirect::Policy;
use serde_json::Value;
use uuid::Uuid;

use super::address::innermost;
use super::events::line;
use super::exchange::Request;
use super::fault::ClientError;
use super::follow::follow;
use super::print::{note, print};
use super::show::plain_json;
use super::{Client, RunCommand, plain};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera listen
  cuponera listen --forward-to http://localhost:3000/hooks

Prints each event that is committed from now on, also after the connection was lost. With --forward-to it also sends the event to a receiver
under development, once, in the form and with the signature of a webhook; the secret is generated for the command and printed first. No
webhook is created. The events that bulk jobs write for each code are sent too, as with perCode. Under --json each line is the body of a request. Ctrl-C ends it."
);

/// Timeout of a request to the receiver, as for webhooks.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of redemptions of the user among which the redemption of an event is searched.
const MAX_REDEMPTIONS: u32 = 500;

/// Options of `listen`.
#[derive(Debug, Args)]
pub(crate) struct Listen {
    /// Send the events to this URL
    #[arg(long, value_name = "URL", value_parser = receiver)]
    forward_to: Option<reqwest::Url>,
}

/// Parses the URL of a receiver. Any address is allowed, because this machine sends the requests.
fn receiver(text: &str) -> Result<reqwest::Url, String> {
    let url: reqwest::Url = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err("must begin with http:// or https://".to_owned())
    }
}

/// The receiver, and what is needed to send to it.
struct Forward {
    http: reqwest::Client,
    url: reqwest::Url,
    secret: Secret,
}

/// An event in the form of a webhook.
struct Message {
    id: Uuid,
    body: String,
}

impl RunCommand for Listen {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let forward = self.forward_to.map(Forward::new).transpose()?;
        if let Some(forward) = &forward {
            note(&format!("The requests are signed with the secret {}", forward.secret.to_text()));
        }
        let query = [("follow", "true".to_owned())];
        follow(client, &query, async |data| {
            let event: Value = serde_json::from_str(data).unwrap_or_default();
            let Some(message) = message(client, event).await else { return Ok(()) };
            print(&if client.json { plain_json(&message.body) } else { line(data) })?;
            if let Some(forward) = &forward {
                note(&forward.send(&message).await);
            }
            Ok(())
        })
        .await
    }
}

/// The event as a webhook gets it. None if it has an unknown form.
async fn message(client: &Client, mut event: Value) -> Option<Message> {
    let id = event["id"].as_str()?.parse().ok()?;
    let at: DateTime<Utc> = event["at"].as_str()?.parse().ok()?;
    let event_type = EventType::of_action(event["action"].as_str()?)?;
    if matches!(event_type, EventType::CouponRedeemed | EventType::CouponRolledBack)
        && let Some(redemption) = redemption(client, &event, event_type).await
    {
        event["redemptionId"] = redemption;
    }
    Some(Message { id, body: payload::body(id, event_type.as_str(), at, &event) })
}

/// The redemption of an event: the one of the code whose time is the time of the event. None if it is not among the last ones of the user.
async fn redemption(client: &Client, event: &Value, event_type: EventType) -> Option<Value> {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    let time = if event_type == EventType::CouponRedeemed { "redeemedAt" } else { "rolledBackAt" };
    let ask = Request::get(&["redemptions"]).with("couponBookId", text("couponBookId"));
    let ask = ask.with("userId", text("userId")).with("limit", Some(MAX_REDEMPTIONS));
    let Ok(page) = client.server.send(ask).await else {
        note("  without redemptionId: the redemptions cannot be read (permission redemptions:read)");
        return None;
    };
    let of_event = |item: &&Value| item["code"] == event["code"] && item[time] == event["at"];
    page.items().iter().find(of_event).map(|item| item["id"].clone())
}

impl Forward {
    fn new(url: reqwest::Url) -> Result<Self, ClientError> {
        let secret = webhook_secret().map_err(|error| ClientError::Local(error.chain()))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("cuponera/", env!("CARGO_PKG_VERSION")))
            .timeout(TIMEOUT)
            .redirect(Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Local(innermost(&error)))?;
        Ok(Self { http, url, secret })
    }

    /// Sends an event; returns the outcome in words.
    async fn send(&self, message: &Message) -> String {
        let (begun, timestamp) = (Instant::now(), Utc::now().timestamp());
        let request = self
            .http
            .post(self.url.clone())
            .header("content-type", "application/json")
            .header("webhook-id", message.id.to_string())
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures([&self.secret], message.id, timestamp, &message.body))
            .body(message.body.clone());
        match request.send().await {
            Ok(response) => format!("  {} in {} ms", response.status().as_u16(), begun.elapsed().as_millis()),
            Err(error) if error.is_timeout() => format!("  no response within {} s", TIMEOUT.as_secs()),
            Err(error) => format!("  not sent: {}", plain(&innermost(&error))),
        }
    }
}
