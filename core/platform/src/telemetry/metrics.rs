//! The metrics of the programs. All are listed in [`ALL`] and in `docs/metrics.md`; a test compares the
//! list with the exposition.
//!
//! **Invariant.** The values of labels come from the program: kinds, outcomes, route templates. They never
//! contain a code, a user, an address, a key or any other value that callers choose.

mod audit;
mod list;
mod shares;
mod webhooks;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, SharedString, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use cuponera_domain::job::JobKind;

pub(super) use audit::sealing_lag;
pub use audit::{SealerState, events_sealed, sealer};
pub use list::{ALL, Described, Kind};
pub use shares::{Bound, RESOURCES, Resource};
pub use webhooks::{
    AttemptEnd, webhook_attempt_ended, webhook_attempted, webhook_disabled, webhook_events_read,
};

/// From the time of an index lookup in memory to the timeout of a client.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Up to the maximum number of calls in a batch.
const CALLS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Interval at which samples are aggregated into buckets: until then each sample is kept.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// The limits that can reject a request.
pub const LIMITS: [&str; 6] = ["anonymous", "user", "service", "admin", "misses", "passwords"];
/// The batched writes.
pub const WRITES: [&str; 8] =
    ["assign_random", "assign_named", "lock", "unlock", "redeem", "revoke", "rollback", "void"];
const WRITE_OUTCOMES: [&str; 4] = ["done", "replayed", "refused", "fault"];
const CHUNK_OUTCOMES: [&str; 5] = ["done", "lost", "failed", "retried", "released"];

/// Starts collecting, once for each process. Earlier values are lost.
pub(super) fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_calls".to_owned()), &CALLS))
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        // The programs install no other recorder.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        super::process::set_process_info();
        upkeep_forever(handle.clone());
        handle
    })
}

fn describe() {
    for Described { name, kind, meaning, .. } in ALL {
        match kind {
            Kind::Counter => describe_counter!(*name, *meaning),
            Kind::Gauge => describe_gauge!(*name, *meaning),
            Kind::Histogram => describe_histogram!(*name, *meaning),
        }
    }
}

/// Without this, a process that is not scraped would keep all samples.
fn upkeep_forever(handle: PrometheusHandle) {
    let fold = move || {
        loop {
            std::thread::sleep(UPKEEP_INTERVAL);
            handle.run_upkeep();
        }
    };
    // If no thread can be started, the process has other problems.
    let _ = std::thread::Builder::new().name("metrics".to_owned()).spawn(fold);
}

fn label(name: &'static str, value: impl Into<SharedString>) -> Label {
    Label::new(name, value)
}

/// Sets whether Redis answers; also true if none is configured.
pub fn redis_is_up(is_up: bool) {
    gauge!("cuponera_redis_up").set(if is_up { 1.0 } else { 0.0 });
}

/// Counts an outage of Redis.
pub fn redis_outage() {
    counter!("cuponera_redis_outages_total").increment(1);
}

/// The requests of one method and route.
#[derive(Debug)]
pub struct Route {
    method: &'static str,
    template: &'static str,
    /// By class of status, from 1xx to 5xx; created on first use.
    answered: [OnceLock<Counter>; 5],
    seconds: OnceLock<Histogram>,
}

impl Route {
    /// Creates no series before the first request.
    pub fn new(method: &'static str, template: &'static str) -> Self {
        Self { method, template, answered: Default::default(), seconds: OnceLock::new() }
    }

    /// Counts an answered request.
    pub fn note(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).clamp(1, 5);
        let place = || vec![label("method", self.method), label("route", self.template)];
        let answered = self.answered[class - 1].get_or_init(|| {
            let mut labels = place();
            labels.push(label("status", ["1xx", "2xx", "3xx", "4xx", "5xx"][class - 1]));
            counter!("cuponera_http_requests_total", labels)
        });
        answered.increment(1);
        let seconds =
            self.seconds.get_or_init(|| histogram!("cuponera_http_request_duration_seconds", place()));
        seconds.record(took.as_secs_f64());
    }
}

/// The metrics of the edge.
#[derive(Debug)]
pub struct Edge {
    /// Open connections.
    pub connections: Gauge,
    /// Connections rejected because no slot was free.
    pub connections_refused: Counter,
    /// Requests rejected because no slot was free.
    pub overloaded: Counter,
    /// Requests of users for codes that they do not hold.
    pub misses: Counter,
}

/// The metrics of the edge.
pub fn edge() -> &'static Edge {
    static EDGE: OnceLock<Edge> = OnceLock::new();
    EDGE.get_or_init(|| {
        recorder();
        for limit in LIMITS {
            limited(limit).increment(0);
        }
        Edge {
            connections: gauge!("cuponera_http_connections"),
            connections_refused: counter!("cuponera_http_connections_refused_total"),
            overloaded: counter!("cuponera_http_overloaded_total"),
            misses: counter!("cuponera_coupon_misses_total"),
        }
    })
}

/// Counts a request that a limit rejected.
pub fn rate_limited(limit: &'static str) {
    limited(limit).increment(1);
}

fn limited(limit: &'static str) -> Counter {
    counter!("cuponera_http_rate_limited_total", vec![label("limit", limit)])
}

/// Sets the number of running requests.
pub fn requests_running(count: usize) {
    gauge!("cuponera_http_requests_in_flight").set(as_f64(count));
}

/// Sets the number of streams of events.
pub fn followers(count: usize) {
    gauge!("cuponera_event_followers").set(as_f64(count));
}

/// Counts events that were read from the log for streams, by reader: the poller, or a follower that is behind it.
pub fn events_read(reader: &'static str, count: usize) {
    let events = counter!("cuponera_events_read_total", vec![label("reader", reader)]);
    events.increment(u64::try_from(count).unwrap_or(0));
}

/// The lanes of one kind of write.
#[derive(Debug, Clone)]
pub struct Lane {
    waiting: Gauge,
    batch: Histogram,
    outcomes: [Counter; 4],
}

/// The outcome of a call in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was executed.
    Done,
    /// It got the stored answer of an earlier call with the same key.
    Replayed,
    /// A rule rejected it.
    Rejected,
    /// Its outcome is unknown.
    Fault,
}

impl Lane {
    /// The metrics of a kind of write, one of [`WRITES`].
    pub fn new(kind: &'static str) -> Self {
        recorder();
        let kind = || label("kind", kind);
        let outcome = |outcome| {
            let counter = counter!("cuponera_coupon_writes_total", vec![kind(), label("outcome", outcome)]);
            counter.increment(0);
            counter
        };
        Self {
            waiting: gauge!("cuponera_lane_waiting", vec![kind()]),
            batch: histogram!("cuponera_lane_batch_calls", vec![kind()]),
            outcomes: WRITE_OUTCOMES.map(outcome),
        }
    }

    /// Sets the number of calls that wait for a batch, in all lanes of this kind.
    pub fn waiting(&self, calls: usize) {
        self.waiting.set(as_f64(calls));
    }

    /// Counts a batch and its calls.
    pub fn batch(&self, calls: usize) {
        self.batch.record(as_f64(calls));
    }

    /// Counts the outcome of a call.
    pub fn written(&self, outcome: Written) {
        self.outcomes[outcome as usize].increment(1);
    }
}

/// The outcome of a claimed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEnd {
    /// Its effect is committed.
    Done,
    /// The claim was taken over, or the job was stopped.
    Lost,
    /// It is set aside permanently.
    Failed,
    /// It failed and will be retried.
    Retried,
    /// It was released for a later time, which consumes no attempt.
    Released,
}

/// Creates all series of jobs with the value 0.
pub fn prepare_jobs() {
    recorder();
    cuponera_store::metrics::prepare();
    for kind in JobKind::ALL {
        for outcome in CHUNK_OUTCOMES {
            chunks(kind, outcome).increment(0);
        }
    }
    webhooks::prepare();
    audit::prepare();
    counter!("cuponera_locks_expired_total").increment(0);
    counter!("cuponera_redis_outages_total").increment(0);
}

/// Counts the end of a claim and its duration.
pub fn chunk_ended(kind: JobKind, end: ChunkEnd, took: Duration) {
    chunks(kind, CHUNK_OUTCOMES[end as usize]).increment(1);
    let labels = vec![label("kind", kind.as_str())];
    histogram!("cuponera_chunk_duration_seconds", labels).record(took.as_secs_f64());
}

fn chunks(kind: JobKind, outcome: &'static str) -> Counter {
    counter!("cuponera_chunks_total", vec![label("kind", kind.as_str()), label("outcome", outcome)])
}

/// Counts expired locks that were ended.
pub fn locks_expired(count: i64) {
    counter!("cuponera_locks_expired_total").increment(u64::try_from(count).unwrap_or(0));
}

/// Sets the connections of a pool.
pub(super) fn pool(part: &'static str, pool: &'static str, size: u32, idle: usize, most: u32) {
    let of = || vec![label("part", part), label("pool", pool)];
    let idle = u32::try_from(idle).unwrap_or(u32::MAX).min(size);
    for (state, count) in [("idle", idle), ("busy", size - idle)] {
        let mut labels = of();
        labels.push(label("state", state));
        gauge!("cuponera_pool_connections", labels).set(f64::from(count));
    }
    gauge!("cuponera_pool_connections_max", of()).set(f64::from(most));
}

/// Sets how long the last probe waited for a connection of a pool.
pub(super) fn pool_waited(part: &'static str, pool: &'static str, waited: Duration) {
    let labels = vec![label("part", part), label("pool", pool)];
    gauge!("cuponera_pool_wait_seconds", labels).set(waited.as_secs_f64());
}

/// Sets the backlog in the database; `None` if it does not answer.
pub(super) fn backlog(backlog: Option<(i64, Duration, i64, i64)>) {
    gauge!("cuponera_database_up").set(f64::from(u8::from(backlog.is_some())));
    let Some((runnable, oldest, unsent, deliveries)) = backlog else { return };
    gauge!("cuponera_chunks_runnable").set(count(runnable));
    gauge!("cuponera_chunks_oldest_runnable_seconds").set(oldest.as_secs_f64());
    gauge!("cuponera_outbox_unsent").set(count(unsent));
    gauge!("cuponera_webhook_deliveries_pending").set(count(deliveries));
}

fn count(number: i64) -> f64 {
    as_f64(usize::try_from(number).unwrap_or(0))
}

/// The value of a gauge: exact up to four billion, more than any count here.
fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
