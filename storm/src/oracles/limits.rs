//! `sold_out` and `user_limit_reached` are correct only if requests sent before the answer took the codes.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures::FutureExt;

use super::{Oracle, Verdict};
use crate::evidence::{Event, Evidence};
use crate::world::{FREE_CODES, MAX_CODES_PER_USER, MAX_FLYERS_PER_USER};

pub(super) const LIMITS: Oracle =
    Oracle { name: "limits", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

/// An assignment: when its request was sent, and its user.
struct Assignment<'a> {
    code: &'a str,
    called_at: DateTime<Utc>,
    user: Option<&'a str>,
}

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let called: HashMap<&str, DateTime<Utc>> =
        evidence.history.iter().map(|entry| (entry.request_id.as_str(), entry.called_at)).collect();
    let mut taken: [Vec<Assignment>; 2] = [Vec::new(), Vec::new()];
    // A void takes a code too, if it was free.
    let is_taking = |event: &&Event| {
        event.from_status == "AVAILABLE" && event.to_status != "AVAILABLE" && limit_of(&event.code).is_some()
    };
    for event in evidence.events.iter().filter(is_taking) {
        let called_at = event.request_id.as_deref().and_then(|id| called.get(id));
        if let Some(tenant) = evidence.tenant(&event.business) {
            // The event of a job has no request. It began before its event.
            let called_at = called_at.copied().unwrap_or(event.at);
            taken[tenant].push(Assignment { code: &event.code, called_at, user: event.user_id.as_deref() });
        }
    }
    for entry in evidence.history {
        let Some(answer) = entry.verdict().filter(|answer| !answer.is_replay) else { continue };
        let taken = taken[entry.ask.caller.tenant()].iter().filter(|taken| taken.called_at < entry.ended_at);
        let user = entry.ask.about.user.as_deref();
        match answer.code() {
            // Revoked codes are taken more than once.
            "sold_out" => {
                let codes: HashSet<&str> =
                    taken.map(|taken| taken.code).filter(|code| code.starts_with("FREE")).collect();
                verdict.check(u32::try_from(codes.len()) == Ok(FREE_CODES), || {
                    format!("sold_out before all codes were taken: {}", entry.description())
                });
            }
            "user_limit_reached" => {
                // A random assignment names no code.
                let code = entry.ask.about.code.as_deref().unwrap_or("FREE");
                let Some((prefix, limit)) = limit_of(code) else { continue };
                let held = taken.filter(|taken| taken.user == user && taken.code.starts_with(prefix)).count();
                verdict.check(held >= limit, || {
                    format!("user_limit_reached with {held} codes: {}", entry.description())
                });
            }
            _ => {}
        }
    }
    verdict
}

/// The prefix of the codes of the book, and the number of codes that a user may hold.
fn limit_of(code: &str) -> Option<(&'static str, usize)> {
    [("FREE", MAX_CODES_PER_USER), ("FLYR", MAX_FLYERS_PER_USER)]
        .into_iter()
        .find(|(prefix, _)| code.starts_with(prefix))
}
