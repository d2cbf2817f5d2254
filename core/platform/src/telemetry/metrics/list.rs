//! All metrics, in the order of `docs/metrics.md`.

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Increases until the process ends.
    Counter,
    /// Increases and decreases.
    Gauge,
    /// Counts samples in buckets.
    Histogram,
}

/// A metric.
#[derive(Debug)]
pub struct Described {
    /// The exposed name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// Its meaning, in one sentence.
    pub meaning: &'static str,
}

impl Kind {
    /// The name in Prometheus.
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

/// All metrics.
#[rustfmt::skip]
pub const ALL: &[Described] = &[
    metric("cuponera_http_requests_total", Kind::Counter, &["method", "route", "status"],
           "Requests answered, by template of the path and class of the status"),
    metric("cuponera_http_request_duration_seconds", Kind::Histogram, &["method", "route"],
           "Time from a request's head to the beginning of its answer"),
    metric("cuponera_http_requests_in_flight", Kind::Gauge, &[],
           "Requests of the API that run now: from the end of their bodies, without those that wait for a job"),
    metric("cuponera_http_overloaded_total", Kind::Counter, &[],
           "Requests rejected because a share of requests, bodies or uploads was used up (503 overloaded)"),
    metric("cuponera_http_rate_limited_total", Kind::Counter, &["limit"],
           "Requests rejected by a rate limit (429), by limit"),
    metric("cuponera_coupon_misses_total", Kind::Counter, &[],
           "Requests of users for codes that they do not hold"),
    metric("cuponera_http_connections", Kind::Gauge, &[],
           "Open client connections"),
    metric("cuponera_http_connections_refused_total", Kind::Counter, &[],
           "Connections rejected because all slots, or those of one address, were in use"),
    metric("cuponera_event_followers", Kind::Gauge, &[],
           "Open streams of the event log"),
    metric("cuponera_events_read_total", Kind::Counter, &["reader"],
           "Events read from the event log for streams, by reader: the poller, or a follower behind it"),
    metric("cuponera_share_in_use", Kind::Gauge, &["resource"],
           "Use of a shared resource now; bodies in units of 16 KiB"),
    metric("cuponera_share_refused_total", Kind::Counter, &["resource", "bound"],
           "Rejections because this bound of a shared resource was reached"),
    metric("cuponera_coupon_writes_total", Kind::Counter, &["kind", "outcome"],
           "Assignments, locks (renewals too), unlocks and redemptions, by outcome"),
    metric("cuponera_lane_batch_calls", Kind::Histogram, &["kind"],
           "Calls in a batch of such writes"),
    metric("cuponera_lane_waiting", Kind::Gauge, &["kind"],
           "Calls that wait for a batch; at most 4096 in each lane"),
    metric("cuponera_locks_expired_total", Kind::Counter, &[],
           "Expired locks that were ended"),
    metric("cuponera_jobs_submitted_total", Kind::Counter, &["kind"],
           "Jobs submitted by this process"),
    metric("cuponera_jobs_finished_total", Kind::Counter, &["kind", "status"],
           "Jobs finished by this process; a retried job finishes again"),
    metric("cuponera_chunks_total", Kind::Counter, &["kind", "outcome"],
           "Claims of chunks that ended in this process, by outcome"),
    metric("cuponera_chunk_duration_seconds", Kind::Histogram, &["kind"],
           "Time from the claim of a chunk to the end of the claim"),
    metric("cuponera_leases_taken_over_total", Kind::Counter, &["kind"],
           "Chunks claimed because the lease of their last worker expired"),
    metric("cuponera_chunks_runnable", Kind::Gauge, &[],
           "Runnable chunks of all jobs that no worker has claimed"),
    metric("cuponera_chunks_oldest_runnable_seconds", Kind::Gauge, &[],
           "Time since the oldest of them became runnable; 0 if there is none"),
    metric("cuponera_outbox_unsent", Kind::Gauge, &[],
           "Messages not yet sent to the queue; always 0 if the queue is Postgres"),
    metric("cuponera_webhook_events_read_total", Kind::Counter, &[],
           "Events read from the event log for webhooks by this worker"),
    metric("cuponera_webhook_reader_lag_seconds", Kind::Gauge, &[],
           "Age of the first event that is not read for webhooks; 0 if all are read, and on workers that do not read"),
    metric("cuponera_webhook_attempts_total", Kind::Counter, &["outcome"],
           "Attempts of this worker to deliver events to webhooks, by outcome"),
    metric("cuponera_webhook_attempt_duration_seconds", Kind::Histogram, &[],
           "Time from the beginning of such an attempt to the response or the error"),
    metric("cuponera_webhooks_disabled_total", Kind::Counter, &["reason"],
           "Webhooks that this worker disabled, by reason: the receiver answered 410 (GONE), or failed for three days (FAILING)"),
    metric("cuponera_webhook_deliveries_pending", Kind::Gauge, &[],
           "Deliveries to webhooks that have not ended, at most 100,000"),
    metric("cuponera_audit_events_sealed_total", Kind::Counter, &[],
           "Events that this worker has sealed"),
    metric("cuponera_audit_sealer", Kind::Gauge, &["state"],
           "1 for the state of this worker: ready, without an audit key, or with another key than the chain"),
    metric("cuponera_audit_lag_seconds", Kind::Gauge, &[],
           "Age of the oldest event that could be sealed and is not; 0 if there is none"),
    metric("cuponera_oldest_writer_seconds", Kind::Gauge, &[],
           "Age of the oldest open transaction of the Postgres server that has written: readers of events stop there"),
    metric("cuponera_database_up", Kind::Gauge, &[],
           "1 if the last probe of the database succeeded, else 0"),
    metric("cuponera_redis_up", Kind::Gauge, &[],
           "1 if Redis answers or is not configured; 0 while it is unavailable"),
    metric("cuponera_redis_outages_total", Kind::Counter, &[],
           "Outages of Redis, detected by a call that failed or timed out"),
    metric("cuponera_pool_connections", Kind::Gauge, &["part", "pool", "state"],
           "Database connections of the API or the worker, by pool and state"),
    metric("cuponera_pool_connections_max", Kind::Gauge, &["part", "pool"],
           "Maximum number of connections of the pool"),
    metric("cuponera_pool_wait_seconds", Kind::Gauge, &["part", "pool"],
           "How long the last probe waited for a connection of the pool, at most 1 s"),
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
