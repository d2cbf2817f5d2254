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
           "Requests of the API that run now: from the end of their bodies, without those that wait for a job"),
    metric("cuponera_http_overloaded_total", Kind::Counter, &[],
           "Requests refused because a share of requests, bodies or uploads was used up (503 overloaded)"),
    metric("cuponera_http_rate_limited_total", Kind::Counter, &["limit"],
           "Requests refused by a limit (429), by the limit"),
    metric("cuponera_coupon_misses_total", Kind::Counter, &[],
           "Requests of users for codes that are not theirs"),
    metric("cuponera_http_connections", Kind::Gauge, &[],
           "Connections of clients that are open"),
    metric("cuponera_http_connections_refused_total", Kind::Counter, &[],
           "Connections refused because all slots, or those of one address, were in use"),
    metric("cuponera_share_in_use", Kind::Gauge, &["resource"],
           "Use of a shared resource now; bodies in units of 16 KiB"),
    metric("cuponera_share_refused_total", Kind::Counter, &["resource", "bound"],
           "What was refused because this bound of a shared resource was reached"),
    metric("cuponera_coupon_writes_total", Kind::Counter, &["kind", "outcome"],
           "Assignments, locks (renewals too), unlocks and redemptions, by what became of them"),
    metric("cuponera_lane_batch_calls", Kind::Histogram, &["kind"],
           "Calls in a batch of such writes"),
    metric("cuponera_lane_waiting", Kind::Gauge, &["kind"],
           "Calls that wait for a batch; at most 4096 a lane"),
    metric("cuponera_locks_expired_total", Kind::Counter, &[],
           "Locks ended because their time had passed"),
    metric("cuponera_jobs_submitted_total", Kind::Counter, &["kind"],
           "Jobs written by this process"),
    metric("cuponera_jobs_finished_total", Kind::Counter, &["kind", "status"],
           "Jobs that this process brought to their end; one that is retried ends again"),
    metric("cuponera_chunks_total", Kind::Counter, &["kind", "outcome"],
           "Claims of chunks that ended in this process, by what became of them"),
    metric("cuponera_chunk_duration_seconds", Kind::Histogram, &["kind"],
           "Time from a chunk's claim to its settling"),
    metric("cuponera_leases_taken_over_total", Kind::Counter, &["kind"],
           "Chunks claimed because the lease of their last worker ran out"),
    metric("cuponera_chunks_runnable", Kind::Gauge, &[],
           "Chunks of all jobs that could run and are in nobody's hands"),
    metric("cuponera_chunks_oldest_runnable_seconds", Kind::Gauge, &[],
           "How long the oldest of them could have run; 0 if there is none"),
    metric("cuponera_outbox_unsent", Kind::Gauge, &[],
           "Messages that the queue does not have yet; always 0 where the queue is Postgres"),
    metric("cuponera_database_up", Kind::Gauge, &[],
           "1 if the database answered the last look, else 0"),
    metric("cuponera_redis_up", Kind::Gauge, &[],
           "1 if Redis answers, or none is in the settings; 0 while it is away"),
    metric("cuponera_redis_outages_total", Kind::Counter, &[],
           "Times that Redis was found to be away, by a call that failed or took too long"),
    metric("cuponera_pool_connections", Kind::Gauge, &["part", "pool", "state"],
           "Connections to the database, of the API or the worker, by what they are for"),
    metric("cuponera_pool_connections_max", Kind::Gauge, &["part", "pool"],
           "The most connections that the pool opens"),
    metric("cuponera_pool_wait_seconds", Kind::Gauge, &["part", "pool"],
           "How long the last look waited for a connection of the pool, at most 1 s"),
    metric("cuponera_build_info", Kind::Gauge, &["version"],
           "1, with the version of the program"),
    metric("process_start_time_seconds", Kind::Gauge, &[],
           "When the process started, in seconds since 1970"),
    metric("process_cpu_seconds_total", Kind::Counter, &[],
           "CPU time that the process has used, in whole seconds"),
    metric("process_resident_memory_bytes", Kind::Gauge, &[],
           "Memory of the process that is in RAM"),
    metric("process_open_fds", Kind::Gauge, &[],
           "Files and connections that the process has open"),
];
