//! A request that is repeated under its key has one effect, and all its answers are the same.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use serde_json::Value;

use super::{Oracle, Verdict};
use crate::evidence::{Event, Evidence};
use crate::history::{Entry, Response};

pub(super) const IDEMPOTENCY: Oracle =
    Oracle { name: "idempotency", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut effects: HashMap<&str, usize> = HashMap::new();
    let uses: HashSet<_> =
        evidence.events.iter().filter(|event| is_use(event)).map(|event| place(event, 0)).collect();
    for event in &evidence.events {
        // EXPIRE is not counted: a request may write it beside its effect, and for the unlock of an expired lock it is the only event. The
        // ASSIGN of a code of a BEARER book is a part of the lock or the redemption that follows.
        let is_counted = match event.action.as_str() {
            "EXPIRE" => false,
            "ASSIGN" => !uses.contains(&place(event, 1)),
            _ => true,
        };
        if let Some(request) = event.request_id.as_deref().filter(|_| is_counted) {
            *effects.entry(request).or_default() += 1;
        }
    }
    for (key, entries) in evidence.by_key() {
        let had: usize = entries.iter().filter_map(|entry| effects.get(entry.request_id.as_str())).sum();
        verdict.check(had <= 1, || format!("{key} had {had} effects: {}", description(&entries)));
        let answers: HashSet<(u16, String)> =
            entries.iter().filter_map(|entry| entry.verdict()).map(what_it_says).collect();
        verdict.check(answers.len() <= 1, || {
            format!("{key} was answered in different ways: {}", description(&entries))
        });
    }
    verdict
}

fn is_use(event: &Event) -> bool {
    matches!(event.action.as_str(), "LOCK" | "REDEEM")
}

/// The request and the place in the history of its code of the event that is `after` versions later.
fn place(event: &Event, after: i32) -> (Option<&str>, &str, &str, i32) {
    (event.request_id.as_deref(), &event.business, &event.code, event.version + after)
}

/// The part of an answer that is the same for each repetition. A job continues meanwhile, so only its id is
/// compared.
fn what_it_says(answer: &Response) -> (u16, String) {
    let mut body = answer.body.clone();
    if body["progress"].is_object() {
        body = body["id"].take();
    }
    if let Value::Object(fields) = &mut body {
        fields.remove("requestId");
    }
    (answer.status, body.to_string())
}

fn description(entries: &[&Entry]) -> String {
    entries.iter().map(|entry| entry.description()).collect::<Vec<_>>().join("\n    ")
}
