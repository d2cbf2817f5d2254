//! Waits for the end of a job and shows its progress.

use std::time::Duration;

use chrono::DateTime;
use serde_json::Value;

use super::exchange::{JsonDocument, Request};
use super::fault::ClientError;
use super::print::{print, print_error};
use super::show::{count, plain, plain_json, text};
use super::{Client, progress::Progress};

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A submitted job, and whether to wait for its end.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) job: JsonDocument,
    pub(super) waits: bool,
}

/// A job, as the server returned it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) answer: JsonDocument,
}

/// Waits for the end of a job, if `submitted.waits`, and prints the result; `words` describes a job that succeeded.
pub(super) async fn wait_for_job(
    client: &Client,
    submitted: Submitted,
    words: impl FnOnce(&Job) -> String,
) -> Result<Job, ClientError> {
    let job = Job { answer: submitted.job };
    if !client.json {
        job.warn();
    }
    if !submitted.waits {
        client.show(&job.answer, |_| {
            let id = job.id();
            format!("The job {id} is submitted. To watch it: cuponera jobs watch {id}")
        })?;
        return Ok(job);
    }
    let job = until_over(client, &job.id(), |_| Ok(())).await?;
    let said =
        if client.json || job.has_succeeded() { client.show(&job.answer, |_| words(&job)) } else { Ok(()) };
    job.verdict()?;
    said.map(|()| job)
}

/// Polls a job, with growing pauses, until it ends. Calls `seen` for each change.
pub(super) async fn until_over(
    client: &Client,
    id: &str,
    mut seen: impl FnMut(&Job) -> Result<(), ClientError>,
) -> Result<Job, ClientError> {
    client.on_interrupt(format!("the job continues; to watch it again: cuponera jobs watch {id}"));
    let (progress, mut pause, mut last) = (client.progress(), FIRST_PAUSE, String::new());
    loop {
        let answer =
            client.ask(Request::get(&["jobs", id])).await.map_err(|fault| add_job_hint(fault, id))?;
        let job = Job { answer };
        if job.answer.text != last {
            seen(&job)?;
            last.clone_from(&job.answer.text);
        }
        if job.is_over() {
            return Ok(job);
        }
        job.report(&progress);
        tokio::time::sleep(pause).await;
        pause = pause.mul_f64(1.3).min(MAX_PAUSE);
    }
}

/// Adds to an unavailable server's fault that the job is not lost.
fn add_job_hint(fault: ClientError, id: &str) -> ClientError {
    match fault {
        ClientError::Unavailable(message) => ClientError::Unavailable(format!(
            "{message}\n  The job is not lost; to watch it again: cuponera jobs watch {id}"
        )),
        other => other,
    }
}

impl Job {
    pub(super) fn id(&self) -> String {
        text(&self.answer.value, "/id")
    }

    pub(super) fn result(&self, name: &str) -> u64 {
        self.answer.value["result"][name].as_u64().unwrap_or_default()
    }

    fn status(&self) -> &str {
        self.answer.value["status"].as_str().unwrap_or_default()
    }

    fn is_over(&self) -> bool {
        matches!(self.status(), "SUCCEEDED" | "FAILED" | "CANCELLED")
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.status() == "SUCCEEDED"
    }

    /// Prints the JSON document on one line.
    pub(super) fn print_line(&self) -> Result<(), ClientError> {
        print(&plain_json(&self.answer.text))
    }

    /// An error if the job failed or was cancelled.
    pub(super) fn verdict(&self) -> Result<(), ClientError> {
        let id = self.id();
        match self.status() {
            "FAILED" => {
                let error = &self.answer.value["error"];
                let why = format!("{} ({})", text(error, "/detail"), text(error, "/code"));
                Err(ClientError::JobEnded(format!(
                    "the job {id} failed: {why}\n  To run its unfinished part again: cuponera jobs retry {id}"
                )))
            }
            "CANCELLED" => {
                Err(ClientError::JobEnded(format!("the job {id} was cancelled; what it has done stays")))
            }
            _ => Ok(()),
        }
    }

    /// Prints the warnings of the job.
    pub(super) fn warn(&self) {
        for warning in self.answer.value["warnings"].as_array().into_iter().flatten() {
            print_error(&format!("careful: {} ({})", text(warning, "/detail"), text(warning, "/code")));
        }
    }

    /// ` in 3.2 s`, once the job has ended.
    pub(super) fn in_time(&self) -> String {
        let at = |name: &str| DateTime::parse_from_rfc3339(self.answer.value[name].as_str()?).ok();
        match (at("startedAt"), at("finishedAt")) {
            (Some(started), Some(finished)) => {
                let seconds = (finished - started).as_seconds_f64().max(0.0);
                format!(" in {seconds:.1} s")
            }
            _ => String::new(),
        }
    }

    fn report(&self, progress: &Progress) {
        let counts = &self.answer.value["progress"];
        let done = counts["processed"].as_u64().unwrap_or_default();
        progress.at(done, counts["total"].as_u64(), || describe(self.status(), counts));
    }
}

/// `34.5% · 345,000 of 1,000,000 · 41,200/s · 16 s left`
fn describe(status: &str, counts: &Value) -> String {
    let number = |name: &str| counts[name].as_f64();
    let whole = |name: &str| counts[name].as_u64().map(count);
    let percent = number("percent").map(|percent| format!("{percent:.1}%"));
    let done = whole("processed").unwrap_or_default();
    let rows = whole("total").map_or_else(|| done.clone(), |total| format!("{done} of {total}"));
    let rate = number("ratePerSecond").map(|rate| format!("{}/s", HumanRate(rate)));
    let left = number("etaSeconds").map(|seconds| format!("{seconds:.0} s left"));
    let parts = [Some(plain(&status.to_lowercase())), percent, Some(rows), rate, left];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// A rate rounded to a whole number.
struct HumanRate(f64);

impl std::fmt::Display for HumanRate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        indicatif::HumanFloatCount(self.0.round()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_yet_is_left_out() {
        let counts = json!({"total": 1000, "processed": 345, "percent": 34.5, "ratePerSecond": 41_200.4, "etaSeconds": 16.2});
        assert_eq!(describe("RUNNING", &counts), "running · 34.5% · 345 of 1,000 · 41,200/s · 16 s left");
        let counts = json!({"total": null, "processed": 0, "percent": null, "ratePerSecond": null, "etaSeconds": null});
        assert_eq!(describe("QUEUED", &counts), "queued · 0");
    }
}
