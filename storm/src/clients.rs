//! The clients: each sends one request at a time and repeats a request under its key until it is answered.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::Utc;
use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::Result;
use crate::history::{Body, Entry, Request, Response};
use crate::operations::{ClientState, Operation};
use crate::world::{Caller, World};

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_millis(2_500);
/// Share of attempts that a client cancels early, as if its connection broke, and their maximum duration.
const CANCELED_SHARE: f64 = 0.03;
const MAX_CANCELED_MS: u64 = 30;
/// Pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(50);
/// Every n-th client is an end user.
const END_USER_EVERY: usize = 5;

/// Sends the requests of clients to the APIs in turn.
pub(crate) struct ApiClient<'a> {
    http: reqwest::Client,
    apis: &'a [String],
    pub(crate) world: &'a World,
    attempts: AtomicU32,
}

impl<'a> ApiClient<'a> {
    pub(crate) fn to(apis: &'a [String], world: &'a World) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { http, apis, world, attempts: AtomicU32::new(0) })
    }

    /// Sends a request once. Without an answer within `patience`, the entry has none.
    pub(crate) async fn ask(
        &self,
        operation: &'static Operation,
        ask: &Request,
        patience: Duration,
    ) -> Entry {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let request_id = format!("storm-{attempt}");
        let api = &self.apis[usize::try_from(attempt).unwrap_or(0) % self.apis.len()];
        let (name, value) = self.world.credentials(&ask.caller);
        let mut request = self.http.request(ask.method.clone(), format!("http://{api}/api/v1/{}", ask.path));
        request = request.header(name, value).header("X-Request-Id", &request_id);
        if let Some(key) = &ask.key {
            request = request.header("Idempotency-Key", key);
        }
        request = match &ask.body {
            Body::Empty => request,
            Body::Json(body) => request.json(body),
            Body::Csv(body) => request.header("Content-Type", "text/csv").body(body.clone()),
        };
        let called_at = Utc::now();
        let answer = timeout(patience, answer_of(request)).await.ok().flatten();
        let entry =
            Entry { operation, ask: ask.clone(), request_id, called_at, ended_at: Utc::now(), answer };
        if let Some(answer) = entry.verdict() {
            (operation.learns)(&entry.ask, answer, &mut self.world.known());
        }
        entry
    }
}

async fn answer_of(request: reqwest::RequestBuilder) -> Option<Response> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    let is_replay = answer.headers().contains_key("Idempotent-Replayed");
    let text = answer.text().await.ok()?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Some(Response { status, body, is_replay })
}

/// Runs all clients concurrently until `end`.
pub(crate) async fn run(
    api_client: &ApiClient<'_>,
    clients: usize,
    random: &mut StdRng,
    end: Instant,
) -> Vec<Entry> {
    let seeds: Vec<u64> = (0..clients).map(|_| random.random()).collect();
    let all = seeds.into_iter().enumerate().map(|(number, seed)| client(api_client, number, seed, end));
    join_all(all).await.concat()
}

async fn client(api_client: &ApiClient<'_>, number: usize, seed: u64, end: Instant) -> Vec<Entry> {
    let random = StdRng::seed_from_u64(seed);
    let tenant = number % 2;
    let caller = if number.is_multiple_of(END_USER_EVERY) {
        Caller::User(tenant, u32::from((number / END_USER_EVERY).is_multiple_of(2)))
    } else {
        Caller::Service(tenant)
    };
    let mut client_state = ClientState { world: api_client.world, caller, client: number, asked: 0, random };
    let mut entries = Vec::new();
    while Instant::now() < end {
        let (operation, ask) = client_state.next();
        loop {
            let is_broken_off = client_state.random.random_bool(CANCELED_SHARE);
            let early = Duration::from_millis(client_state.random.random_range(0..MAX_CANCELED_MS));
            let entry = api_client.ask(operation, &ask, if is_broken_off { early } else { TIMEOUT }).await;
            let is_done = entry.verdict().is_some() || ask.key.is_none();
            let is_answered = entry.answer.is_some();
            entries.push(entry);
            if is_done || Instant::now() >= end {
                break;
            }
            if !is_answered {
                sleep(PAUSE).await;
            }
        }
    }
    entries
}
