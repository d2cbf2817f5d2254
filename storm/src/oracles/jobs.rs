//! Each job that was answered with 202 has ended with the requested result, and no other job exists.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;

use super::{Oracle, Verdict};
use crate::evidence::{Evidence, Job};

pub(super) const JOBS: Oracle =
    Oracle { name: "jobs", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let jobs: HashMap<&str, &Job> = evidence.jobs.iter().map(|job| (job.id.as_str(), job)).collect();
    for job in &evidence.jobs {
        let has_ended = matches!(job.status.as_str(), "SUCCEEDED" | "CANCELLED");
        verdict.check(has_ended || is_rejected(job), || {
            let Job { id, status, story, .. } = job;
            format!("job {id} is {status}: {story}")
        });
    }
    let mut description = HashSet::new();
    for entry in evidence.history.iter().filter(|entry| entry.ask.about.submits) {
        let Some(answer) = entry.verdict().filter(|answer| answer.status == 202) else { continue };
        let id = answer.body["id"].as_str().unwrap_or_default();
        description.insert(id);
        let job = jobs.get(id);
        verdict.check(job.is_some(), || format!("an answered job does not exist: {}", entry.description()));
        let quantity = entry.ask.about.quantity;
        let is_whole = quantity.is_none()
            || job.is_none_or(|job| job.status != "SUCCEEDED" || Some(job.succeeded) == quantity);
        verdict.check(is_whole, || format!("{job:?} has another result: {}", entry.description()));
    }
    // Requests with a key were repeated until they were answered. Unanswered requests without a key may
    // have created a job.
    let unheard = evidence
        .history
        .iter()
        .filter(|entry| entry.ask.about.submits && entry.ask.key.is_none() && entry.verdict().is_none());
    // All other imports are of the setup.
    let made = |job: &&&Job| {
        job.kind != "IMPORT_CODES"
            || evidence.world.tenants.iter().any(|tenant| job.book.as_deref() == Some(&tenant.made))
    };
    let untold = jobs.values().filter(made).filter(|job| !description.contains(job.id.as_str())).count();
    let unheard = unheard.count();
    verdict.check(untold <= unheard, || {
        format!("no answer names {untold} jobs, but only {unheard} requests without a key are unanswered")
    });
    verdict
}

/// Whether a rule stopped the job: a distribution found too few codes, or a take-back its distribution running again.
fn is_rejected(job: &Job) -> bool {
    let why = match job.kind.as_str() {
        "DISTRIBUTE" => "not_enough_codes",
        "TAKE_BACK" => "wrong_job_state",
        _ => return false,
    };
    job.status == "FAILED" && job.error.as_deref() == Some(why)
}
