//! Followers: one of each tenant follows the events of its codes from the first one on, and resumes after each interruption.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::world::{Caller, World};

/// The position before all events.
const START: &str = "1.0.00000000-0000-0000-0000-000000000000";
/// A follower without data for this time connects anew: its program may be frozen.
const SILENCE: Duration = Duration::from_secs(2);
/// Pause before an interrupted follower connects anew.
const PAUSE: Duration = Duration::from_millis(50);

/// The followers of a run. They end when this is dropped.
pub(crate) struct Followers {
    received: [Arc<Mutex<Vec<String>>>; 2],
    _tasks: JoinSet<()>,
}

impl Followers {
    pub(crate) fn start(apis: &[String], world: &World) -> crate::Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let received: [Arc<Mutex<Vec<String>>>; 2] = [Arc::default(), Arc::default()];
        let mut tasks = JoinSet::new();
        for (tenant, received) in received.iter().enumerate() {
            let credentials = world.credentials(&Caller::Service(tenant));
            let (http, apis, received) = (http.clone(), apis.to_vec(), Arc::clone(received));
            tasks.spawn(async move { follow(&http, &apis, credentials, &received).await });
        }
        Ok(Self { received, _tasks: tasks })
    }

    /// The ids of the events that a tenant's follower has received, in this order.
    pub(crate) fn received(&self, tenant: usize) -> Vec<String> {
        self.received[tenant].lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Follows through the APIs in turn. Each connection resumes after the last complete event of the one before.
async fn follow(
    http: &reqwest::Client,
    apis: &[String],
    (name, value): (&str, String),
    received: &Mutex<Vec<String>>,
) {
    let mut last = START.to_owned();
    for api in apis.iter().cycle() {
        let request = http.get(format!("http://{api}/api/v1/events?follow=true")).header(name, &value);
        let stream = timeout(SILENCE, request.header("Last-Event-ID", &last).send()).await;
        if let Ok(Ok(mut stream)) = stream
            && stream.status().is_success()
        {
            let mut text = Vec::new();
            while let Ok(Ok(Some(piece))) = timeout(SILENCE, stream.chunk()).await {
                text.extend_from_slice(&piece);
                while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                    let message: Vec<u8> = text.drain(..end + 2).collect();
                    take(&String::from_utf8_lossy(&message), &mut last, received);
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// A message without data is a heartbeat.
fn take(message: &str, last: &mut String, received: &Mutex<Vec<String>>) {
    let field = |name| message.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let data = field("data:").filter(|data| !data.is_empty());
    if let Some(event) = data.and_then(|data| serde_json::from_str::<serde_json::Value>(data).ok()) {
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        received.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }
    if let Some(position) = field("id:") {
        position.clone_into(last);
    }
}
