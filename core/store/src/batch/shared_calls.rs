//! The calls of a batch for SHARED codes, of which many may be for the same code.
//!
//! A transaction executes all of them ([`crate::shared`]). Unlike a batch of other codes it waits for a code that another transaction holds
//! ([`Waits`]): the other transaction is another batch for the same hot code, of another process or for another kind of
//! call, and has ended in milliseconds. Batches for one code queue in Postgres and take turns. With several codes, the transaction first skips those that
//! are held, and then waits for one after the other, so that a code that is held for long does not delay the others.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use cuponera_domain::id::BusinessId;
use cuponera_domain::rejection::Rejection;

use super::verdict::Verdict;
use super::{AttemptResult, Attempts, CodeKnowledge, Transition, failed_attempts, is_unique_key};
use crate::error::{Error, Result};
use crate::request_key::CallResult;
use crate::shared::{Decision, Item, KnownCodes, RoundResult, Waits, run_round};

/// How often a transaction is repeated that failed because a concurrent call inserted one of its keys first, or changed a code.
const ATTEMPTS: usize = 3;
/// How long a batch waits for codes that other transactions hold, before the calls for the others are busy.
const PATIENCE: Duration = Duration::from_millis(100);

impl<T: Transition> Attempts<'_, T> {
    /// Attempts the calls for SHARED codes. Those whose codes turn out not to be SHARED have no result afterwards.
    pub(super) async fn run_shared(&mut self, pool: &PgPool, waits: bool, known: &KnownCodes) {
        loop {
            let places = self.distinct_shared();
            if places.is_empty() {
                break;
            }
            let codes = self.codes_of(&places);
            for (business, code) in &codes {
                known.insert(*business, code);
            }
            let first = if waits {
                Waits::Long
            } else if codes.len() == 1 {
                Waits::Briefly
            } else {
                Waits::No
            };
            let mut held = self.transact(pool, places, first, known).await;
            let begun = Instant::now();
            while let Some(first) = held.first().copied() {
                let code = self.code_of(first);
                let (now, later): (Vec<usize>, Vec<usize>) =
                    held.into_iter().partition(|place| self.code_of(*place) == code);
                if begun.elapsed() >= PATIENCE {
                    self.all_busy(&now);
                } else {
                    self.transact(pool, now, Waits::Briefly, known).await;
                }
                held = later;
            }
        }
    }

    /// The indexes of the open calls for SHARED codes, with each key and each reference of a code at most once.
    fn distinct_shared(&self) -> Vec<usize> {
        let (mut keys, mut references) = (HashSet::new(), HashSet::new());
        (0..self.calls.len())
            .filter(|place| self.is_open(*place, true))
            .filter(|place| {
                let call = &self.calls[*place];
                let reference = call.ask.of_shared().and_then(|ask| ask.reference().map(str::to_owned));
                call.key.as_ref().is_none_or(|key| keys.insert(key.id))
                    && reference.is_none_or(|reference| references.insert((self.code_of(*place), reference)))
            })
            .collect()
    }

    fn code_of(&self, place: usize) -> (BusinessId, String) {
        let call = &self.calls[place];
        (call.business, call.ask.code().unwrap_or_default().to_owned())
    }

    fn codes_of(&self, places: &[usize]) -> HashSet<(BusinessId, String)> {
        places.iter().map(|place| self.code_of(*place)).collect()
    }

    fn all_busy(&mut self, places: &[usize]) {
        for place in places {
            self.tried[*place].get_or_insert(AttemptResult::Busy);
        }
    }

    /// Executes these calls in one transaction. Returns those whose codes other transactions hold, of a transaction that skips them.
    async fn transact(
        &mut self,
        pool: &PgPool,
        places: Vec<usize>,
        waits: Waits,
        known: &KnownCodes,
    ) -> Vec<usize> {
        for _ in 0..ATTEMPTS {
            let items: Vec<Item<'_, T>> =
                places.iter().filter_map(|place| Item::of(&self.calls[*place])).collect();
            match run_round(pool, &items, waits).await {
                // The next attempt finds the answer of the other call.
                Err(fault) if is_unique_key(&fault) => {}
                Err(fault) => {
                    let failed = failed_attempts(fault, places.len());
                    for place in places {
                        self.tried[place] = Some(failed.clone());
                    }
                    return Vec::new();
                }
                Ok(results) if results.iter().any(|result| matches!(result, RoundResult::Changed)) => {}
                Ok(results) => return self.take(pool, &places, results, known).await,
            }
        }
        self.all_busy(&places);
        Vec::new()
    }

    /// Takes the results of a transaction; returns the calls whose codes were skipped.
    async fn take(
        &mut self,
        pool: &PgPool,
        places: &[usize],
        results: Vec<RoundResult>,
        known: &KnownCodes,
    ) -> Vec<usize> {
        let (mut held, mut verdicts) = (Vec::new(), Vec::new());
        for (place, result) in places.iter().copied().zip(results) {
            match result {
                RoundResult::Decided(decision) => verdicts.push((place, verdict::<T>(decision))),
                RoundResult::Skipped => held.push(place),
                RoundResult::Changed => {}
                RoundResult::OtherKind => {
                    let (business, code) = self.code_of(place);
                    known.remove(business, &code);
                    self.kinds[place] = CodeKnowledge::NotShared;
                }
            }
        }
        let decided: Vec<usize> = verdicts.iter().map(|(place, _)| *place).collect();
        if let Err(fault) = self.settle(pool, verdicts).await {
            let failed = failed_attempts(fault, places.len());
            for place in &decided {
                self.tried[*place].get_or_insert_with(|| failed.clone());
            }
        }
        // A concurrent call with the same key has stored its answer first.
        self.all_busy(&decided);
        held
    }
}

/// The verdict on a call that was decided.
fn verdict<T: Transition>(decision: Decision) -> Result<Verdict<T::Outcome>> {
    let known = |outcome| Verdict::Known(CallResult { outcome, replayed: false });
    let effect = |effect| {
        T::outcome_of_shared(effect).ok_or_else(|| Error::internal("the effect of another kind of call"))
    };
    Ok(match decision {
        // Its answer was stored with its effect.
        Decision::Done(done) => known(Ok(effect(done)?)),
        Decision::Already(done) => Verdict::New(Ok(effect(done)?)),
        Decision::Rejected(rejection) => Verdict::New(Err(rejection)),
        Decision::Incomplete(rejection) => known(Err(rejection)),
        Decision::KeyReused => known(Err(Rejection::KeyReused)),
        Decision::Replayed(answer) => {
            let outcome = serde_json::from_value(answer).map_err(Error::internal)?;
            Verdict::Known(CallResult { outcome, replayed: true })
        }
    })
}
