//! Batches of hot writes: each item gets its own answer, a request is a batch of one.
//!
//! A batch runs in rounds. In a round each code and each idempotency key stands once; one statement has all the effects
//! and writes events and keys in the same commit. A second statement asks of each item that got nothing why. If nothing
//! refuses it any more (`again`), it goes into the next round.
//!
//! **Invariant.** An item's effect and its key's row commit together or not at all: the key is inserted plainly, so a
//! clash takes the whole statement back, and the next look finds the answer that won.

use std::collections::HashSet;
use std::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cache::LockNote;
use crate::error::{Error, Refusal, Result, breaches};
use crate::id::{BusinessId, EventId};
use crate::principal::Trail;

use super::Store;

/// After so many rounds of its own an item is given up as a passing fault. Each round in which an item gets nothing is one
/// in which another call changed its row, so only a storm on one row comes near.
const MAX_TRIES: usize = 24;

/// An idempotency key as it is stored: who, method, path and key in one hash; the body in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    /// Hash of principal, method, path and key.
    pub id: Uuid,
    /// Hash of the request's body.
    pub fingerprint: Uuid,
}

/// Whether a caller may learn of coupons that are not the named user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// A trusted backend or an admin: is told who stands in the way.
    Whole,
    /// An end user: another's coupon does not exist.
    Own,
}

/// One call of a batch.
#[derive(Debug, Clone)]
pub struct Call<T> {
    /// The caller's tenant.
    pub business: BusinessId,
    /// What the caller may learn.
    pub sight: Sight,
    /// What the event says of the caller.
    pub trail: Trail,
    /// The idempotency key, if one came.
    pub key: Option<RequestKey>,
    /// What is asked.
    pub ask: T,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer<T> {
    /// The effect, or the rule that forbids it.
    pub outcome: Result<T, Refusal>,
    /// Whether this is the stored answer of an earlier call under the same key.
    pub replayed: bool,
}

impl<T> Answer<T> {
    /// The effect that this very call had.
    pub fn effect(&self) -> Option<&T> {
        self.outcome.as_ref().ok().filter(|_| !self.replayed)
    }
}

/// Which form of a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Passes over rows that others hold.
    First,
    /// Waits for them: only now may "there is none" be said.
    Later,
}

/// Why an item changed nothing: a row of a why-statement.
#[derive(Debug)]
pub struct Why {
    /// The item's place in the batch.
    pub n: i32,
    /// The rule, or `replay`, `already`, `again`.
    pub verdict: String,
    /// What the verdict needs: a stored answer, a time, a limit.
    pub detail: Option<Value>,
    /// Whether the coupon is not the user's.
    pub foreign: bool,
}

/// A hot write: a statement that has the effect and one that says why it did not.
pub trait Transition: Sized + Send + Sync {
    /// What the effect answers; stored with idempotency keys, so its fields are for ever.
    type Outcome: Serialize + DeserializeOwned + Send;

    /// The code that may stand only once in a statement.
    fn code(&self) -> Option<&str>;

    /// Has the effect for all items it is allowed for, in one statement: their places and outcomes.
    fn apply(
        pool: &PgPool,
        calls: &[&Call<Self>],
        round: Round,
    ) -> impl Future<Output = sqlx::Result<Vec<(i32, Value)>>> + Send;

    /// Says why the others changed nothing.
    fn why(pool: &PgPool, calls: &[&Call<Self>]) -> impl Future<Output = sqlx::Result<Vec<Why>>> + Send;

    /// What is to be noted of the coupon's lock once a call has had this effect.
    fn lock_note(_: &Call<Self>, _: &Self::Outcome) -> Option<LockNote> {
        None
    }
}

impl Store {
    /// Runs a batch to its end; the answers stand in the order of the calls. An error is one item's own: nothing is known
    /// of it, while the others have their answers. An item with a key may be asked again safely.
    pub async fn settle_each<T: Transition>(&self, calls: &[Call<T>]) -> Vec<Result<Answer<T::Outcome>>> {
        let mut answers: Vec<Option<Answer<T::Outcome>>> = calls.iter().map(|_| None).collect();
        let mut tries = vec![0; calls.len()];
        let fault = loop {
            let places = distinct(calls, |place| answers[place].is_none() && tries[place] < MAX_TRIES);
            if places.is_empty() {
                break too_contended();
            }
            let round =
                if places.iter().any(|place| tries[*place] > 0) { Round::Later } else { Round::First };
            for place in &places {
                tries[*place] += 1;
            }
            if let Err(fault) = self.run_round(calls, &places, round, &mut answers).await {
                break fault;
            }
        };
        answers.into_iter().map(|answer| answer.ok_or_else(|| fault.clone())).collect()
    }

    /// The same for callers who can do nothing with some of the answers.
    pub async fn settle<T: Transition>(&self, calls: &[Call<T>]) -> Result<Vec<Answer<T::Outcome>>> {
        self.settle_each(calls).await.into_iter().collect()
    }

    async fn run_round<T: Transition>(
        &self,
        calls: &[Call<T>],
        places: &[usize],
        round: Round,
        answers: &mut [Option<Answer<T::Outcome>>],
    ) -> Result<()> {
        let items: Vec<&Call<T>> = places.iter().map(|place| &calls[*place]).collect();
        let Some(done) = rerun_if_lost(T::apply(&self.hot, &items, round).await)? else { return Ok(()) };
        for (n, outcome) in done {
            let outcome = serde_json::from_value(outcome).map_err(Error::internal)?;
            answers[places[index(n)]] = Some(Answer { outcome: Ok(outcome), replayed: false });
        }
        let rest: Vec<usize> = places.iter().copied().filter(|place| answers[*place].is_none()).collect();
        if rest.is_empty() {
            return Ok(());
        }
        let items: Vec<&Call<T>> = rest.iter().map(|place| &calls[*place]).collect();
        for why in T::why(&self.hot, &items).await? {
            let place = rest[index(why.n)];
            answers[place] = self.conclude(&calls[place], why).await?;
        }
        Ok(())
    }

    /// The answer that a verdict means, or none if the item is to run again.
    async fn conclude<T: Transition>(&self, call: &Call<T>, why: Why) -> Result<Option<Answer<T::Outcome>>> {
        let stored = |detail: Option<Value>| {
            serde_json::from_value::<Result<T::Outcome, Refusal>>(detail.unwrap_or_default())
                .map_err(Error::internal)
        };
        match why.verdict.as_str() {
            "again" => Ok(None),
            "replay" => Ok(Some(Answer { outcome: stored(why.detail)?, replayed: true })),
            "key_reused" => Ok(Some(Answer { outcome: Err(Refusal::KeyReused), replayed: false })),
            "already" => self.remember(call, stored(why.detail)?).await,
            _ => {
                let refusal = if why.foreign && call.sight == Sight::Own {
                    Refusal::not_found("coupon")
                } else {
                    refusal(&why.verdict, why.detail)?
                };
                self.remember(call, Err(refusal)).await
            }
        }
    }

    /// Keeps an answer that has no effect under its key. If another call was first, its answer counts: look again.
    async fn remember<T: Transition>(
        &self,
        call: &Call<T>,
        outcome: Result<T::Outcome, Refusal>,
    ) -> Result<Option<Answer<T::Outcome>>> {
        if let Some(key) = &call.key {
            let answer = serde_json::to_value(&outcome).map_err(Error::internal)?;
            if !super::request_key::insert_if_absent(&self.hot, key, &answer).await? {
                return Ok(None);
            }
        }
        Ok(Some(Answer { outcome, replayed: false }))
    }
}

/// The places still to do, each code and each key once.
fn distinct<T: Transition>(calls: &[Call<T>], open: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut codes = HashSet::new();
    let mut keys = HashSet::new();
    (0..calls.len())
        .filter(|place| open(*place))
        .filter(|place| {
            let call = &calls[*place];
            let code_is_new = call.ask.code().is_none_or(|code| codes.insert((call.business, code)));
            code_is_new && call.key.as_ref().is_none_or(|key| keys.insert(key.id))
        })
        .collect()
}

/// `None` if the statement lost against another and is to run again: a key that somebody else has just stored, or a
/// deadlock.
fn rerun_if_lost<T>(result: sqlx::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if breaches(&error, "request_key_pkey") || is_deadlock(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_deadlock(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(cause) if matches!(cause.code().as_deref(), Some("40P01" | "40001")))
}

fn too_contended() -> Error {
    Error::unavailable("too many calls want the same row at once")
}

fn index(n: i32) -> usize {
    usize::try_from(n).unwrap_or_default()
}

/// The refusal that a why-statement's word stands for.
pub(super) fn refusal(verdict: &str, detail: Option<Value>) -> Result<Refusal> {
    let detail = detail.unwrap_or_default();
    Ok(match verdict {
        "book_not_found" => Refusal::not_found("coupon book"),
        "coupon_not_found" => Refusal::not_found("coupon"),
        "book_not_active" => Refusal::BookNotActive,
        "book_not_started" => Refusal::BookNotStarted,
        "book_expired" => Refusal::BookExpired,
        "user_limit_reached" => {
            Refusal::UserLimitReached { limit: serde_json::from_value(detail).map_err(Error::internal)? }
        }
        "sold_out" => Refusal::SoldOut,
        "not_assigned" => Refusal::NotAssigned,
        "already_assigned" => Refusal::AlreadyAssigned,
        "not_holder" => Refusal::NotHolder,
        "coupon_locked" => {
            Refusal::CouponLocked { locked_until: serde_json::from_value(detail).map_err(Error::internal)? }
        }
        "coupon_already_redeemed" => Refusal::CouponAlreadyRedeemed,
        "coupon_void" => Refusal::CouponVoid,
        "lock_required" => Refusal::LockRequired,
        "lock_stale" => Refusal::LockStale,
        "lock_expired" => Refusal::LockExpired,
        unknown => return Err(Error::internal(format!("a why-statement said {unknown:?}"))),
    })
}

/// The columns that every batch statement starts with, as arrays: `$1` to `$9`.
pub(super) struct Columns {
    pub n: Vec<i32>,
    pub business: Vec<Uuid>,
    pub event: Vec<Uuid>,
    pub actor: Vec<String>,
    pub ip: Vec<Option<String>>,
    pub user_agent: Vec<Option<String>>,
    pub request: Vec<Option<String>>,
    pub key: Vec<Option<Uuid>>,
    pub fingerprint: Vec<Option<Uuid>>,
}

impl Columns {
    pub(super) fn of<T>(calls: &[&Call<T>]) -> Self {
        Self {
            n: (0..).take(calls.len()).collect(),
            business: column(calls, |call| call.business.0),
            event: column(calls, |_| EventId::new().0),
            actor: column(calls, |call| call.trail.actor.clone()),
            ip: column(calls, |call| call.trail.ip.map(|ip| ip.to_string())),
            user_agent: column(calls, |call| call.trail.user_agent.clone()),
            request: column(calls, |call| call.trail.request_id.clone()),
            key: column(calls, |call| call.key.map(|key| key.id)),
            fingerprint: column(calls, |call| call.key.map(|key| key.fingerprint)),
        }
    }
}

/// One column of a batch.
pub(super) fn column<T, C>(calls: &[&Call<T>], value: impl Fn(&Call<T>) -> C) -> Vec<C> {
    calls.iter().map(|call| value(call)).collect()
}
