//! HTTP load: a closed loop for throughput, an open loop for latency. A rejected or failed request ends the
//! run, because it does not count as throughput.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use crate::Result;

/// An HTTP call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<String>,
}

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None }
    }

    pub(crate) fn post(path: impl Into<String>, body: String) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body) }
    }
}

/// The server and the API key of the load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) address: String,
    pub(crate) api_key: String,
}

/// A keep-alive connection.
pub(crate) struct Connection {
    target: Target,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(crate) async fn open(target: &Target) -> Result<Self> {
        let stream = TcpStream::connect(&target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { target: target.clone(), sender })
    }

    fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Makes a call. Any status other than 2xx is an error.
    pub(crate) async fn call(&mut self, call: Call) -> Result<Bytes> {
        let body = call.body.map(Bytes::from).unwrap_or_default();
        let request = Request::builder()
            .method(call.method)
            .uri(&call.path)
            .header("Host", &self.target.address)
            .header("X-API-Key", &self.target.api_key)
            .header("Content-Type", "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(rejected(&call.path, status, &body)) }
    }
}

fn rejected(path: &str, status: StatusCode, body: &Bytes) -> Box<dyn std::error::Error + Send + Sync> {
    format!("{path} answered {status}: {}", String::from_utf8_lossy(body)).into()
}

/// Makes `count` calls over `connections` connections. Each connection sends its next call after the
/// previous answer. Returns calls per second.
pub(crate) async fn closed_loop(
    target: &Target,
    connections: u64,
    count: u64,
    call: impl Fn(u64) -> Call + Send + Sync + 'static,
) -> Result<f64> {
    let call = Arc::new(call);
    let opened = try_join_all((0..connections).map(|_| Connection::open(target))).await?;
    let begun = Instant::now();
    let clients = (0..).zip(opened).map(|(client, mut connection)| {
        let call = call.clone();
        joined(async move {
            for number in (client..count).step_by(usize::try_from(connections)?) {
                connection.call(call(number)).await?;
            }
            Ok(())
        })
    });
    try_join_all(clients).await?;
    Ok(rate(count, begun.elapsed()))
}

/// Sends calls at a constant rate, even while earlier calls are unanswered. A latency is measured from the
/// time at which the call was due. Returns all latencies, sorted.
pub(crate) async fn open_loop(
    target: &Target,
    connections: u64,
    rate: u64,
    time: Duration,
    call: impl Fn(u64) -> Call,
) -> Result<Vec<Duration>> {
    let idle = Arc::new(Mutex::new(try_join_all((0..connections).map(|_| Connection::open(target))).await?));
    let begun = tokio::time::Instant::now();
    let mut calls = Vec::new();
    for number in 0..rate * time.as_secs() {
        let due = begun + Duration::from_secs(1) * u32::try_from(number)? / u32::try_from(rate)?;
        tokio::time::sleep_until(due).await;
        let (call, idle, target) = (call(number), idle.clone(), target.clone());
        calls.push(joined(async move {
            let waiting = idle.lock().await.pop();
            // The server closes connections that were idle for long; the pool is a stack, so these are at
            // its bottom.
            let mut connection = match waiting.filter(Connection::is_open) {
                Some(connection) => connection,
                None => Connection::open(&target).await?,
            };
            connection.call(call).await?;
            let latency = due.elapsed();
            idle.lock().await.push(connection);
            Ok(latency)
        }));
    }
    let mut latencies = try_join_all(calls).await?;
    latencies.sort_unstable();
    Ok(latencies)
}

/// The given percentile of the latencies, in milliseconds.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
}

/// Spawns the work at once, so that the clients use all cores.
fn joined<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> impl Future<Output = Result<T>> {
    let task = tokio::spawn(work);
    async move { task.await? }
}

/// Number of calls or other units of work per second.
#[expect(clippy::cast_precision_loss, reason = "rates, not sums")]
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
