//! Each coupon behaves as if its requests were executed one after the other, each at a time between its
//! call and its answer.
//!
//! The events of a coupon give the order of the effects. This order must agree with the clients: a request
//! that was answered before another was called precedes it, and each answer is correct for the state before
//! its effect. A request without an effect must be correct for a state that the coupon had while the
//! request ran.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use serde_json::Value;

use super::model::{Coupon, Lock, Observation};
use super::{Oracle, Verdict};
use crate::evidence::{Event, Evidence};
use crate::history::{Entry, Response};

pub(super) const LINEARIZABLE: Oracle =
    Oracle { name: "linearizable", check: |evidence, _| async move { Ok(check(evidence)) }.boxed_local() };

/// The requests on one coupon and its events.
#[derive(Default)]
struct CouponHistory<'a> {
    events: Vec<&'a Event>,
    entries: Vec<&'a Entry>,
}

fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    let mut lives: HashMap<(usize, &str), CouponHistory> = HashMap::new();
    for event in &evidence.events {
        if let Some(tenant) = evidence.tenant(&event.business) {
            lives.entry((tenant, event.code.as_str())).or_default().events.push(event);
        }
    }
    for entry in evidence.history {
        if let Some(code) = code_of(entry) {
            lives.entry((entry.ask.caller.tenant(), code)).or_default().entries.push(entry);
        }
    }
    let answers = evidence.answers();
    for (&(tenant, code), life) in &lives {
        life.check(tenant, code, &answers, &mut verdict);
    }
    verdict
}

/// The coupon that the request names or that the answer returns.
fn code_of(entry: &Entry) -> Option<&str> {
    let given = || {
        let answer = entry.answer.as_ref().filter(|answer| answer.is_success())?;
        answer.body["code"].as_str()
    };
    entry.ask.about.code.as_deref().or_else(given)
}

impl CouponHistory<'_> {
    fn check(&self, tenant: usize, code: &str, answers: &HashMap<&str, &Response>, verdict: &mut Verdict) {
        let states = self.states(tenant, code, answers, verdict);
        // The last event of a request is its effect. An EXPIRE before it only records that the lock had
        // expired.
        let effects: HashMap<&str, usize> = (0..self.events.len())
            .filter_map(|place| Some((self.events[place].request_id.as_deref()?, place)))
            .collect();
        let placed: Vec<(&Entry, usize)> = self
            .entries
            .iter()
            .filter_map(|entry| Some((*entry, *effects.get(entry.request_id.as_str())?)))
            .collect();
        for entry in &self.entries {
            let Some(answer) = entry.verdict().filter(|answer| !answer.is_replay) else { continue };
            // The bounds: effects of requests that were answered before this one was called, and of
            // requests that were called after its answer. A repeated request may have been decided when it
            // was first called.
            let called_at = self.first_call(entry);
            let before = placed.iter().filter(|(other, _)| is_answered_before(other, called_at));
            let least = before.map(|(_, place)| place + 1).max().unwrap_or(0);
            let after = placed.iter().filter(|(other, _)| other.called_at > entry.ended_at);
            let most = after.map(|(_, place)| *place).min().unwrap_or(self.events.len());
            let agrees = |before: usize, after, from, to| {
                let observation = Observation { before: &states[before], after, from, to };
                (entry.operation.agrees)(entry, answer, &observation)
            };
            let is_right = match effects.get(entry.request_id.as_str()) {
                Some(&place) => {
                    let at = self.events[place].at;
                    (least..most.max(least)).contains(&place)
                        && agrees(place, Some(&states[place + 1]), at, at)
                }
                None => (least..=most).any(|place| agrees(place, None, called_at, entry.ended_at)),
            };
            verdict.check(is_right, || {
                let met: Vec<&Coupon> = states[least..=most.max(least)].iter().take(5).collect();
                format!(
                    "{code}: no order of requests explains this answer: {}; states {met:?}",
                    entry.description()
                )
            });
        }
    }

    /// When the request of an entry was first sent.
    fn first_call(&self, entry: &Entry) -> DateTime<Utc> {
        let same = |other: &&&Entry| entry.ask.key.is_some() && other.ask.key == entry.ask.key;
        self.entries.iter().filter(same).map(|other| other.called_at).min().unwrap_or(entry.called_at)
    }

    /// All states, first to last. Checks that each event follows from the state before it.
    fn states(
        &self,
        tenant: usize,
        code: &str,
        answers: &HashMap<&str, &Response>,
        verdict: &mut Verdict,
    ) -> Vec<Coupon> {
        let free = Coupon {
            version: 0,
            status: "AVAILABLE".to_owned(),
            holder: None,
            redeem_count: 0,
            rolled_back: Vec::new(),
            lock: None,
        };
        let rolls_back: HashMap<&str, &str> = self
            .entries
            .iter()
            .filter_map(|entry| Some((entry.request_id.as_str(), entry.ask.about.redemption.as_deref()?)))
            .collect();
        let mut states = vec![free];
        for event in &self.events {
            let before = states.last().expect("states has a first element");
            let answer = event.request_id.as_deref().and_then(|id| answers.get(id));
            let mut after = next(before, event, answer.map(|answer| &answer.body));
            if event.action == "ROLLBACK" {
                let redemption = event.request_id.as_deref().and_then(|id| rolls_back.get(id));
                after.rolled_back.extend(redemption.map(|id| (*id).to_owned()));
            }
            verdict.check(follows(before, event, &after), || {
                format!("{code} of business {tenant}: {event:?} does not follow from {before:?}")
            });
            states.push(after);
        }
        states
    }
}

fn is_answered_before(entry: &Entry, called_at: DateTime<Utc>) -> bool {
    entry.verdict().is_some() && entry.ended_at < called_at
}

/// The state after an event. The id and the expiry of a lock are known only from its answer.
fn next(before: &Coupon, event: &Event, answer: Option<&Value>) -> Coupon {
    let holder = if event.to_status == "AVAILABLE" { None } else { event.user_id.clone() };
    let redeem_count = event.redeem_count.map_or(before.redeem_count, i64::from);
    let granted = || Lock {
        id: answer.and_then(|body| body["lockId"].as_str()).map(str::to_owned),
        until: answer.and_then(|body| body["lockedUntil"].as_str()?.parse().ok()),
    };
    let lock = match event.action.as_str() {
        "ROLLBACK" => before.lock.clone(),
        _ => (event.to_status == "LOCKED").then(granted),
    };
    Coupon {
        version: i64::from(event.version),
        status: event.to_status.clone(),
        holder,
        redeem_count,
        rolled_back: before.rolled_back.clone(),
        lock,
    }
}

/// Whether the event is a valid transition from this state.
fn follows(before: &Coupon, event: &Event, after: &Coupon) -> bool {
    let is_same_holder = before.holder == after.holder;
    let adds = after.redeem_count - before.redeem_count;
    let observation = Observation { before, after: None, from: event.at, to: event.at };
    let is_next = after.version == before.version + 1 && event.from_status == before.status;
    is_next
        && match event.action.as_str() {
            "ASSIGN" => before.is_free() && after.holder.is_some() && adds == 0,
            "LOCK" => is_same_holder && adds == 0 && is_right_lock(&observation, after),
            "UNLOCK" => is_same_holder && adds == 0 && observation.may_be_locked(),
            "EXPIRE" => is_same_holder && adds == 0 && before.is_locked() && observation.may_be_unlocked(),
            "REDEEM" => is_same_holder && adds == 1 && before.may_be_used(),
            "REVOKE" => after.is_free() && adds == 0 && before.status == "ASSIGNED" && !before.was_used(),
            "ROLLBACK" => is_same_holder && adds == -1 && is_right_after_rollback(before, after),
            "VOID" => is_same_holder && adds == 0 && !before.is_void() && !before.is_redeemed(),
            _ => false,
        }
}

/// A rollback makes a redeemed code usable again, keeps any other status, and takes no redemption twice.
fn is_right_after_rollback(before: &Coupon, after: &Coupon) -> bool {
    let status = if before.is_redeemed() { "ASSIGNED" } else { before.status.as_str() };
    let is_new = after.rolled_back.last().is_some_and(|id| !before.rolled_back.contains(id));
    after.status == status && is_new
}

/// Renewing a live lock keeps its id; a new lock has a new id.
fn is_right_lock(observation: &Observation, after: &Coupon) -> bool {
    let id = after.lock.as_ref().and_then(|lock| lock.id.as_deref());
    match &observation.before.lock {
        Some(_) => id.map_or_else(|| observation.may_be_locked(), |id| observation.may_be_locked_by(id)),
        None => true,
    }
}
