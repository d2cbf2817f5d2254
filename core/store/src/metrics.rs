//! The metrics that the store counts, because only it knows in which transaction a job changed. All metrics are listed
//! in the telemetry of the platform.

use cuponera_domain::job::{JobKind, JobStatus};
use metrics::{Counter, Label, counter};

fn label(name: &'static str, value: &'static str) -> Label {
    Label::from_static_parts(name, value)
}

/// Creates all series with the value 0.
pub fn prepare() {
    for kind in JobKind::ALL {
        submitted(kind).increment(0);
        taken_over(kind).increment(0);
        for status in JobStatus::ALL.into_iter().filter(|status| status.is_over()) {
            finished(kind, status).increment(0);
        }
    }
}

/// Counts a submitted job.
pub fn job_submitted(kind: JobKind) {
    submitted(kind).increment(1);
}

fn submitted(kind: JobKind) -> Counter {
    counter!("cuponera_jobs_submitted_total", vec![label("kind", kind.as_str())])
}

/// Counts a job whose new status is final; ignores other statuses.
pub fn job_ended(kind: JobKind, status: JobStatus) {
    if status.is_over() {
        finished(kind, status).increment(1);
    }
}

fn finished(kind: JobKind, status: JobStatus) -> Counter {
    let labels = vec![label("kind", kind.as_str()), label("status", status.as_str())];
    counter!("cuponera_jobs_finished_total", labels)
}

/// Counts a claim of a chunk whose previous lease had expired.
pub fn lease_taken_over(kind: JobKind) {
    taken_over(kind).increment(1);
}

fn taken_over(kind: JobKind) -> Counter {
    counter!("cuponera_leases_taken_over_total", vec![label("kind", kind.as_str())])
}
