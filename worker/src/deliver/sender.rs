//! Sends an event to its receiver: one signed request, without redirects and proxies, with a timeout.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use cuponera_domain::webhook::address::AllowedNetworks;
use cuponera_domain::webhook::delivery::{Attempt, MAX_ANSWER_BYTES, Verdict, kept_answer};
use cuponera_domain::webhook::receiver::{Receiver, Transport};
use cuponera_domain::webhook::schedule::parse_retry_after;
use cuponera_domain::webhook::signature::signatures;
use cuponera_store::ClaimedDelivery;
use reqwest::dns::Resolve;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use tokio::time::{Instant as Deadline, timeout_at};

use super::resolve::{CheckedResolver, ForbiddenName, SystemResolver};

/// Timeout of an attempt, from the resolution of the name to the head of the response.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// The HTTP clients of webhooks.
#[derive(Debug, Clone)]
pub struct Sender {
    allowed: AllowedNetworks,
    /// The error if this machine has no trusted certificates.
    clients: Result<Clients, String>,
}

#[derive(Debug, Clone)]
struct Clients {
    https: Client,
    http: Client,
}

/// The result of an attempt.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The attempt, to be stored.
    pub attempt: Attempt,
    /// What follows from it.
    pub verdict: Verdict,
}

/// A response or an error, without its time.
struct Exchange {
    status: Option<u16>,
    error: Option<String>,
    answer: Option<String>,
    verdict: Verdict,
}

impl Sender {
    /// A sender that resolves names as the operating system does.
    pub fn new(allowed: AllowedNetworks) -> Self {
        Self::with_resolver(allowed, SystemResolver)
    }

    /// A sender with another resolver, whose addresses are checked.
    pub fn with_resolver(allowed: AllowedNetworks, resolver: impl Resolve + 'static) -> Self {
        let resolver: Arc<dyn Resolve> = Arc::new(resolver);
        let client = |transport| {
            let checked = CheckedResolver { inner: resolver.clone(), allowed: allowed.clone(), transport };
            Client::builder()
                .user_agent(concat!("cuponera/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                // A proxy would resolve the name itself, without the check.
                .no_proxy()
                .dns_resolver(Arc::new(checked))
                .build()
                .map_err(|error| innermost(&error))
        };
        let clients =
            client(Transport::Https).and_then(|https| Ok(Clients { https, http: client(Transport::Http)? }));
        Self { allowed, clients }
    }

    /// Makes an attempt.
    pub async fn send(&self, delivery: &ClaimedDelivery) -> Sent {
        let (at, begun) = (Utc::now(), Instant::now());
        let Exchange { status, error, answer, verdict } = match self.exchange(delivery).await {
            Ok(exchange) => exchange,
            Err(error) => Exchange {
                status: None,
                error: Some(error),
                answer: None,
                verdict: Verdict::Failed { retry_after: None },
            },
        };
        let duration_ms = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
        Sent { attempt: Attempt { at, status, error, duration_ms, answer }, verdict }
    }

    async fn exchange(&self, delivery: &ClaimedDelivery) -> Result<Exchange, String> {
        let receiver = Receiver::parse(&delivery.url, &self.allowed)
            .map_err(|fault| format!("the URL of the webhook {fault}"))?;
        let clients = self.clients.as_ref().map_err(|fault| format!("the worker cannot use TLS: {fault}"))?;
        let client = match receiver.transport {
            Transport::Https => &clients.https,
            Transport::Http => &clients.http,
        };
        let timestamp = Utc::now().timestamp();
        let request = client
            .post(receiver.url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", delivery.event.to_string())
            .header("webhook-timestamp", timestamp)
            .header(
                "webhook-signature",
                signatures(&delivery.secrets, delivery.event, timestamp, &delivery.body),
            )
            .body(delivery.body.clone());
        let deadline = Deadline::now() + TIMEOUT;
        match timeout_at(deadline, request.send()).await {
            Err(_) => Err(format!("no response within {} s", TIMEOUT.as_secs())),
            Ok(Err(error)) => Err(describe(&error)),
            Ok(Ok(response)) => Ok(judge(response, deadline).await),
        }
    }
}

/// The verdict on a response, with the beginning of its body as far as it arrives in time.
async fn judge(mut response: Response, deadline: Deadline) -> Exchange {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let verdict = Verdict::of_response(
        status.as_u16(),
        retry_after.and_then(|text| parse_retry_after(text, Utc::now())),
    );
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES)]),
            Ok(Ok(None) | Err(_)) | Err(_) => break,
        }
    }
    let error = match verdict {
        Verdict::Delivered => None,
        Verdict::Gone => Some("the receiver wants no more events (410)".to_owned()),
        Verdict::Failed { .. } if status.is_redirection() => {
            Some(format!("redirects are not followed ({})", status.as_u16()))
        }
        Verdict::Failed { .. } => Some(format!("the receiver answered {}", status.as_u16())),
    };
    Exchange { status: Some(status.as_u16()), error, answer: kept_answer(&body), verdict }
}

/// The cause of a failed request, without addresses.
fn describe(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(forbidden) = current.downcast_ref::<ForbiddenName>() {
            return forbidden.to_string();
        }
        cause = current.source();
    }
    let reason = innermost(error);
    if error.is_connect() {
        format!("cannot connect: {reason}")
    } else {
        format!("the request failed: {reason}")
    }
}

fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
