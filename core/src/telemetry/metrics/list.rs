//! All metrics there are, in the order of `docs/metrics.md`.

/// What a metric's number does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It falls into buckets.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Described {
    /// As it is exposed.
    pub name: &'static str,
    /// What its number does.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in one sentence.
    pub meaning: &'static str,
}

impl Kind {
    /// As Prometheus spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

const fn metric(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Described {
    Described { name, kind, labels, meaning }
}

/// All of them.
#[rustfmt::skip]
pub const ALL: &[Described] = &[
    metric("cuponera_http_requests_total", Kind::Counter, &["method", "route", "status"],
           "Requests answered, by template of the path and class of the status"),
    metric("cuponera_http_request_duration_seconds", Kind::Histogram, &["method", "route"],
           "Time from a request's head to the beginning of its answer"),
    metric("cuponera_http_requests_in_flight", Kind::Gauge, &[],
           "Requests that run now, the scrape itself among them; at most 2048"),
    metric("cuponera_http_overloaded_total", Kind::Counter, &[],
           "Requests refused because 2048 ran already (503 overloaded)"),
    metric("cuponera_http_rate_limited_total", Kind::Counter, &["limit"],
           "Requests refused by a limit (429), by the limit"),
    metric("cuponera_coupon_misses_total", Kind::Counter, &[],
           "Requests of users for codes that they do not hold"),
    metric("cuponera_http_connections", Kind::Gauge, &[],
           "Open connections of clients"),
    metric("cuponera_http_connections_refused_total", Kind::Counter, &[],
           "Connections refused because all slots, or those of one address, were in use"),
    metric("cuponera_coupon_writes_total", Kind::Counter, &["kind", "outcome"],
           "Assignments, locks (renewals too), unlocks and redemptions, by what became of them"),
    metric("cuponera_lane_batch_calls", Kind::Histogram, &["kind"],
           "Calls in a batch of these writes"),
    metric("cuponera_lane_waiting", Kind::Gauge, &["kind"],
           "Calls that wait for a batch; at most 4096 in a lane"),
    metric("cuponera_locks_expired_total", Kind::Counter, &[],
           "Expired locks that were ended"),
    metric("cuponera_jobs_submitted_total", Kind::Counter, &["kind"],
           "Jobs submitted to this process"),
    metric("cuponera_jobs_finished_total", Kind::Counter, &["kind", "status"],
           "Jobs that ended in this process; a retried job ends again"),
    metric("cuponera_chunks_total", Kind::Counter, &["kind", "outcome"],
           "Claims of chunks that ended in this process, by outcome"),
    metric("cuponera_chunk_duration_seconds", Kind::Histogram, &["kind"],
           "Time from a chunk's claim to its end"),
    metric("cuponera_leases_taken_over_total", Kind::Counter, &["kind"],
           "Chunks claimed because the lease of the previous claim ended"),
    metric("cuponera_chunks_runnable", Kind::Gauge, &[],
           "Runnable chunks of all jobs that no worker has claimed"),
    metric("cuponera_chunks_oldest_runnable_seconds", Kind::Gauge, &[],
           "Time since the oldest of them became runnable; 0 if there is none"),
    metric("cuponera_outbox_unsent", Kind::Gauge, &[],
           "Messages not yet sent to the queue; always 0 if the queue is Postgres"),
    metric("cuponera_database_up", Kind::Gauge, &[],
           "1 if the database answered the last check, else 0"),
    metric("cuponera_redis_up", Kind::Gauge, &[],
           "1 if Redis answers or is not configured; 0 while it is unavailable"),
    metric("cuponera_redis_outages_total", Kind::Counter, &[],
           "Times that Redis became unavailable: a call failed or took too long"),
    metric("cuponera_pool_connections", Kind::Gauge, &["part", "pool", "state"],
           "Connections to the database, by part, pool and state"),
    metric("cuponera_pool_connections_max", Kind::Gauge, &["part", "pool"],
           "Maximum number of connections of the pool"),
    metric("cuponera_pool_wait_seconds", Kind::Gauge, &["part", "pool"],
           "Wait for a connection of the pool at the last check, at most 1 s"),
    metric("cuponera_build_info", Kind::Gauge, &["version"],
           "1, with the version of the program"),
    metric("process_start_time_seconds", Kind::Gauge, &[],
           "When the process started, in seconds since 1970"),
    metric("process_cpu_seconds_total", Kind::Counter, &[],
           "CPU time of the process, in whole seconds"),
    metric("process_resident_memory_bytes", Kind::Gauge, &[],
           "Resident memory of the process"),
    metric("process_open_fds", Kind::Gauge, &[],
           "Open files and connections of the process"),
];
