//! A proxy between a client and SQS that injects the faults of a queue: it duplicates, delays and reorders
//! messages, loses deletes, rejects single messages and whole calls, answers late or never, and forgets all
//! messages once.
//!
//! It implements the parts of SQS's JSON protocol that it needs and forwards all other calls.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::emulator::http;

/// Longer than any client's timeout.
const NEVER: Duration = Duration::from_mins(2);
/// Longer than a client waits for a call that is not a long poll.
const TOO_LATE: Duration = Duration::from_millis(3_500);

/// The kinds and rates of faults. Probabilities are between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultConfig {
    /// Maximum number of copies of a message; 1 for no duplicates.
    pub most_copies: u32,
    /// Maximum delay of a copy, in seconds.
    pub most_delay: u32,
    /// Probability that a message of a call is rejected.
    pub refuse_message: f64,
    /// Probability that a call with deletes is confirmed but not executed.
    pub lose_delete: f64,
    /// Probability that an answer arrives after the client's timeout, although the call was executed.
    pub answer_late: f64,
    /// Probability that a receive call is never answered.
    pub hang: f64,
    /// Number of the send call after which all messages are forgotten, once.
    pub forget_after: Option<u32>,
    /// Start and duration of a period in which all calls are rejected.
    pub refuse: Option<(Duration, Duration)>,
}

impl FaultConfig {
    /// Forwards everything unchanged.
    pub const GOOD: Self = Self {
        most_copies: 1,
        most_delay: 0,
        refuse_message: 0.0,
        lose_delete: 0.0,
        answer_late: 0.0,
        hang: 0.0,
        forget_after: None,
        refuse: None,
    };

    /// All faults, with values derived from the seed; all calls are rejected for a period of `rejection`.
    pub fn bad(seed: u64, rejection: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            most_copies: 5,
            most_delay: 2,
            refuse_message: 0.2,
            lose_delete: 0.4,
            answer_late: 0.04,
            hang: 0.03,
            forget_after: Some(random.random_range(1..=4)),
            refuse: Some((Duration::from_millis(random.random_range(500..3_000)), rejection)),
        }
    }
}

/// The proxy. It runs while the value lives.
#[derive(Debug)]
pub struct Adversary {
    shared: Arc<Shared>,
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    fault_config: FaultConfig,
    random: Mutex<StdRng>,
    http: reqwest::Client,
    begun: Instant,
    sends: AtomicU32,
    refuses: AtomicBool,
    hangs: watch::Sender<bool>,
}

impl Adversary {
    /// Starts a proxy in front of `upstream`.
    pub async fn before(upstream: &str, seed: u64, fault_config: FaultConfig) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has no free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            fault_config,
            random: Mutex::new(StdRng::seed_from_u64(seed)),
            http: http(),
            begun: Instant::now(),
            sends: AtomicU32::new(0),
            refuses: AtomicBool::new(false),
            hangs: watch::Sender::new(false),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, shared.clone()));
        Self { shared, address, _tasks: tasks }
    }

    /// The URL for clients.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Rejects all calls from now on.
    pub fn refuse(&self) {
        self.shared.refuses.store(true, Ordering::SeqCst);
    }

    /// Answers no call from now on.
    pub fn hang(&self) {
        self.shared.hangs.send_replace(true);
    }

    /// Returns to the faults of its `FaultConfig` alone. Calls that hang are rejected.
    pub fn reset_faults(&self) {
        self.shared.refuses.store(false, Ordering::SeqCst);
        self.shared.hangs.send_replace(false);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            // A client that disconnects is not an error.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// The response to the client.
type CallResult = Response<Full<Bytes>>;

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> CallResult {
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return rejection() };
        let (headers, body) = (head.headers, body.to_bytes());
        let action = headers.get("x-amz-target").and_then(|target| target.to_str().ok());
        let action = action.and_then(|target| target.split('.').nth(1)).unwrap_or_default().to_owned();
        if *self.hangs.borrow() {
            let _ = tokio::time::timeout(NEVER, self.hangs.subscribe().wait_for(|hangs| !hangs)).await;
            return rejection();
        }
        if self.is_refusing() {
            return rejection();
        }
        let call: Value = serde_json::from_slice(&body).unwrap_or_default();
        let answer = match action.as_str() {
            "SendMessageBatch" => self.send(&headers, call).await,
            "DeleteMessageBatch" if self.happens(self.fault_config.lose_delete) => confirmed(&call),
            "ReceiveMessage" if self.happens(self.fault_config.hang) => {
                tokio::time::sleep(NEVER).await;
                rejection()
            }
            _ => self.pass_on(&headers, &call).await,
        };
        if action != "ReceiveMessage" && self.happens(self.fault_config.answer_late) {
            tokio::time::sleep(TOO_LATE).await;
        }
        answer
    }

    fn is_refusing(&self) -> bool {
        let by_clock = self.fault_config.refuse.is_some_and(|(from, time)| {
            let now = self.begun.elapsed();
            now >= from && now < from + time
        });
        by_clock || self.refuses.load(Ordering::SeqCst)
    }

    /// Sends several copies of each message, each with its own delay, except rejected messages.
    async fn send(&self, headers: &HeaderMap, call: Value) -> CallResult {
        let entries = call["Entries"].as_array().cloned().unwrap_or_default();
        let (rejected, taken): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|_| self.happens(self.fault_config.refuse_message));
        for round in 0..self.fault_config.most_copies {
            // At least two copies if duplicates are enabled.
            let copies: Vec<Value> = taken
                .iter()
                .filter(|_| round < 2 || self.happens(0.6))
                .map(|entry| {
                    let mut copy = entry.clone();
                    copy["DelaySeconds"] = self.between(0, self.fault_config.most_delay).into();
                    copy
                })
                .collect();
            if !copies.is_empty() {
                let answer =
                    self.pass_on(headers, &json!({"QueueUrl": call["QueueUrl"], "Entries": copies})).await;
                if answer.status() != StatusCode::OK {
                    return answer;
                }
            }
        }
        let nth = self.sends.fetch_add(1, Ordering::SeqCst) + 1;
        if self.fault_config.forget_after == Some(nth) {
            self.forget(headers, &call["QueueUrl"]).await;
        }
        let id = |entry: &Value| entry["Id"].clone();
        let taken = taken
            .iter()
            .map(|entry| json!({"Id": id(entry), "MessageId": id(entry), "MD5OfMessageBody": ""}));
        let rejected = rejected
            .iter()
            .map(|entry| json!({"Id": id(entry), "Code": "InternalError", "SenderFault": false}));
        json_answer(&json!({"Successful": taken.collect::<Vec<_>>(), "Failed": rejected.collect::<Vec<_>>()}))
    }

    async fn forget(&self, headers: &HeaderMap, queue: &Value) {
        let mut headers = headers.clone();
        headers.insert("x-amz-target", "AmazonSQS.PurgeQueue".parse().expect("a plain header"));
        self.pass_on(&headers, &json!({"QueueUrl": queue})).await;
    }

    async fn pass_on(&self, headers: &HeaderMap, call: &Value) -> CallResult {
        let mut headers = headers.clone();
        headers.remove(HOST);
        headers.remove(CONTENT_LENGTH);
        let sent = self.http.post(&self.upstream).headers(headers).body(call.to_string()).send().await;
        let Ok(answer) = sent else { return rejection() };
        let (status, kind) = (answer.status(), answer.headers().get(CONTENT_TYPE).cloned());
        let Ok(body) = answer.bytes().await else { return rejection() };
        let mut passed = Response::new(Full::new(body));
        *passed.status_mut() = status;
        if let Some(kind) = kind {
            passed.headers_mut().insert(CONTENT_TYPE, kind);
        }
        passed
    }

    fn happens(&self, chance: f64) -> bool {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_bool(chance)
    }

    fn between(&self, least: u32, most: u32) -> u32 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).random_range(least..=most)
    }
}

/// Confirms all deletes.
fn confirmed(call: &Value) -> CallResult {
    let entries = call["Entries"].as_array().cloned().unwrap_or_default();
    let gone: Vec<Value> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
    json_answer(&json!({"Successful": gone, "Failed": []}))
}

fn rejection() -> CallResult {
    let mut answer = json_answer(&json!({"__type": "com.amazonaws.sqs#ServiceUnavailable"}));
    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    answer
}

fn json_answer(body: &Value) -> CallResult {
    let mut answer = Response::new(Full::new(Bytes::from(body.to_string())));
    answer.headers_mut().insert(CONTENT_TYPE, "application/x-amz-json-1.0".parse().expect("a plain header"));
    answer
}
