//! What is counted and measured. Every metric of ours stands in [`ALL`]; `docs/metrics.md` says the same, and a test holds
//! list and exposition equal.
//!
//! **Invariant.** A label's values come from the program: kinds, outcomes, templates of routes. Never a code, a user, an
//! address or a key, nor anything else that callers choose.

mod list;
mod shares;

use std::sync::OnceLock;
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, SharedString, counter, gauge, histogram};
use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::job::{JobKind, JobStatus};

pub use list::{ALL, Described, Kind};
pub use shares::{Bound, RESOURCES, Resource};

/// From what an index finds in memory to what a client gives up on.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Up to the most calls of a batch.
const CALLS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// How often what was measured is folded into buckets: it is kept in full until then.
const FOLD_EVERY: Duration = Duration::from_secs(5);

/// The limits that a request may come up against.
pub const LIMITS: [&str; 5] = ["anonymous", "user", "service", "admin", "misses"];
/// The writes that are batched.
pub const WRITES: [&str; 5] = ["assign_random", "assign_named", "lock", "unlock", "redeem"];
const WRITE_OUTCOMES: [&str; 4] = ["done", "replayed", "refused", "fault"];
const CHUNK_OUTCOMES: [&str; 5] = ["done", "lost", "failed", "retried", "released"];

/// Starts collecting, once a process; what was there before it counts for nothing.
pub(super) fn recorder() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_calls".to_owned()), &CALLS))
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        // There is no other in our programs.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        super::process::introduce();
        fold_for_ever(handle.clone());
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

/// Without this a process that nobody scrapes would keep everything that was ever measured.
fn fold_for_ever(handle: PrometheusHandle) {
    let fold = move || {
        loop {
            std::thread::sleep(FOLD_EVERY);
            handle.run_upkeep();
        }
    };
    // A process that cannot start a thread has other worries.
    let _ = std::thread::Builder::new().name("metrics".to_owned()).spawn(fold);
}

fn label(name: &'static str, value: impl Into<SharedString>) -> Label {
    Label::new(name, value)
}

/// Whether Redis answers, or is not missed.
pub fn redis_is_up(is_up: bool) {
    gauge!("cuponera_redis_up").set(if is_up { 1.0 } else { 0.0 });
}

/// Redis was found to be away.
pub fn redis_went_away() {
    counter!("cuponera_redis_outages_total").increment(1);
}

/// The requests of one method and route.
#[derive(Debug)]
pub struct Route {
    method: &'static str,
    template: &'static str,
    /// By class of status, from 1xx to 5xx; made when they are needed.
    answered: [OnceLock<Counter>; 5],
    seconds: OnceLock<Histogram>,
}

impl Route {
    /// Nothing is shown of it before it is asked for.
    pub fn new(method: &'static str, template: &'static str) -> Self {
        Self { method, template, answered: Default::default(), seconds: OnceLock::new() }
    }

    /// A request was answered.
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

/// What the edge counts.
#[derive(Debug)]
pub struct Edge {
    /// Connections that are open.
    pub connections: Gauge,
    /// Connections that found no place.
    pub connections_refused: Counter,
    /// Requests that found no place.
    pub overloaded: Counter,
    /// Users' requests for codes that are not theirs.
    pub misses: Counter,
}

/// What the edge counts.
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

/// A request was refused by a limit.
pub fn rate_limited(limit: &'static str) {
    limited(limit).increment(1);
}

fn limited(limit: &'static str) -> Counter {
    counter!("cuponera_http_rate_limited_total", vec![label("limit", limit)])
}

/// How many requests run now.
pub fn requests_running(count: usize) {
    gauge!("cuponera_http_requests_in_flight").set(as_f64(count));
}

/// The lanes of one kind of write.
#[derive(Debug, Clone)]
pub struct Lane {
    waiting: Gauge,
    batch: Histogram,
    outcomes: [Counter; 4],
}

/// What became of a call in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It had its effect.
    Done,
    /// It was answered as an earlier one under the same key.
    Replayed,
    /// A rule forbids it.
    Refused,
    /// Nothing is known of it.
    Fault,
}

impl Lane {
    /// Of this kind, one of [`WRITES`].
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

    /// So many calls wait for a batch, in all lanes of the kind.
    pub fn waiting(&self, calls: usize) {
        self.waiting.set(as_f64(calls));
    }

    /// A batch is about to run.
    pub fn batch(&self, calls: usize) {
        self.batch.record(as_f64(calls));
    }

    /// A call has its answer.
    pub fn written(&self, outcome: Written) {
        self.outcomes[outcome as usize].increment(1);
    }
}

/// What became of a chunk that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkEnd {
    /// Its effect is committed.
    Done,
    /// It is another's by now, or its job was stopped.
    Lost,
    /// It is set aside for good.
    Failed,
    /// It failed and is tried again.
    Retried,
    /// It was given back for a later time, and that spends no attempt.
    Released,
}

/// Shows all series of jobs, from 0 on.
pub fn prepare_jobs() {
    recorder();
    for kind in JobKind::ALL {
        submitted(kind).increment(0);
        taken_over(kind).increment(0);
        for status in JobStatus::ALL.into_iter().filter(|status| status.is_over()) {
            finished(kind, status).increment(0);
        }
        for outcome in CHUNK_OUTCOMES {
            chunks(kind, outcome).increment(0);
        }
    }
    counter!("cuponera_locks_expired_total").increment(0);
    counter!("cuponera_redis_outages_total").increment(0);
}

/// A job was written.
pub fn job_submitted(kind: JobKind) {
    submitted(kind).increment(1);
}

fn submitted(kind: JobKind) -> Counter {
    counter!("cuponera_jobs_submitted_total", vec![label("kind", kind.as_str())])
}

/// A job came to stand so; counted if that is the end of it.
pub fn job_stands(kind: JobKind, status: JobStatus) {
    if status.is_over() {
        finished(kind, status).increment(1);
    }
}

fn finished(kind: JobKind, status: JobStatus) -> Counter {
    let labels = vec![label("kind", kind.as_str()), label("status", status.as_str())];
    counter!("cuponera_jobs_finished_total", labels)
}

/// A claim of a chunk ended so, after this time.
pub fn chunk_ended(kind: JobKind, end: ChunkEnd, took: Duration) {
    chunks(kind, CHUNK_OUTCOMES[end as usize]).increment(1);
    let labels = vec![label("kind", kind.as_str())];
    histogram!("cuponera_chunk_duration_seconds", labels).record(took.as_secs_f64());
}

fn chunks(kind: JobKind, outcome: &'static str) -> Counter {
    counter!("cuponera_chunks_total", vec![label("kind", kind.as_str()), label("outcome", outcome)])
}

/// A chunk was claimed whose last claim had run out.
pub fn lease_taken_over(kind: JobKind) {
    taken_over(kind).increment(1);
}

fn taken_over(kind: JobKind) -> Counter {
    counter!("cuponera_leases_taken_over_total", vec![label("kind", kind.as_str())])
}

/// So many lapsed locks were ended.
pub fn locks_expired(count: i64) {
    counter!("cuponera_locks_expired_total").increment(u64::try_from(count).unwrap_or(0));
}

/// The connections of one pool.
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

/// How long the last look at a pool waited for a connection of it.
pub(super) fn pool_waited(part: &'static str, pool: &'static str, waited: Duration) {
    let labels = vec![label("part", part), label("pool", pool)];
    gauge!("cuponera_pool_wait_seconds", labels).set(waited.as_secs_f64());
}

/// What waits in the database; `None` if it does not answer.
pub(super) fn backlog(backlog: Option<(i64, Duration, i64)>) {
    gauge!("cuponera_database_up").set(f64::from(u8::from(backlog.is_some())));
    let Some((runnable, oldest, unsent)) = backlog else { return };
    gauge!("cuponera_chunks_runnable").set(count(runnable));
    gauge!("cuponera_chunks_oldest_runnable_seconds").set(oldest.as_secs_f64());
    gauge!("cuponera_outbox_unsent").set(count(unsent));
}

fn count(number: i64) -> f64 {
    as_f64(usize::try_from(number).unwrap_or(0))
}

/// A gauge's number: exact up to four billion, which nothing here comes near.
fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
