//! A request that is repeated under its key has its effect once, and every answer is the first one.

use std::collections::{HashMap, HashSet};

use futures::FutureExt;
use serde_json::Value;

use super::{Oracle, Verdict};
use crate::evidence::Evidence;
use crate::history::{Answer, Entry};

pub(super) const IDEMPOTENCY: Oracle =
    Oracle { name: "idempotency", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut effects: HashMap<&str, usize> = HashMap::new();
    // An EXPIRE may stand beside the effect of its request, and an unlock of a lock that has run out has no other.
    for event in evidence.events.iter().filter(|event| event.action != "EXPIRE") {
        if let Some(request) = &event.request_id {
            *effects.entry(request).or_default() += 1;
        }
    }
    for (key, entries) in evidence.by_key() {
        let had: usize = entries.iter().filter_map(|entry| effects.get(entry.request_id.as_str())).sum();
        verdict.check(had <= 1, || format!("{key} had {had} effects: {}", told(&entries)));
        let answers: HashSet<(u16, String)> =
            entries.iter().filter_map(|entry| entry.verdict()).map(what_it_says).collect();
        verdict.check(answers.len() <= 1, || {
            format!("{key} was answered in different ways: {}", told(&entries))
        });
    }
    verdict
}

/// What every answer to a key says alike. A job goes on meanwhile, and is shown as it is.
fn what_it_says(answer: &Answer) -> (u16, String) {
    let mut body = answer.body.clone();
    if body["progress"].is_object() {
        body = body["id"].take();
    }
    if let Value::Object(fields) = &mut body {
        fields.remove("requestId");
    }
    (answer.status, body.to_string())
}

fn told(entries: &[&Entry]) -> String {
    entries.iter().map(|entry| entry.told()).collect::<Vec<_>>().join("\n    ")
}
