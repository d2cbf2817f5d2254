//! Batches of hot writes. Each item gets its own result; a single request is a batch of one.
//!
//! A batch runs in rounds. In a round each code and each idempotency key occurs once. One statement executes all items
//! and writes events and keys in the same commit. A second statement determines why the other items changed nothing. A
//! third stores the rejections under their keys.
//!
//! A batch waits for no coupon that another transaction holds: it skips the coupon (`skip locked`), and the item is
//! [`AttemptResult::Busy`]. For rows that cannot be skipped (a quota or a key that another transaction is writing) it waits at
//! most `lock_timeout`. After that, and after any other error that one item can cause, all items of the statement are
//! busy and nothing has changed. [`Store::run_alone`] then runs each item by itself, so that only the item that
//! causes an error gets it.
//!
//! The calls for codes of SHARED books are executed by one transaction, in which a code may occur many times: see [`shared_calls`]. A code is
//! found to be SHARED by the second statement, or is known to be.
//!
//! **Invariant.** An item's effect and its key's row commit together or not at all. The key is inserted without
//! `on conflict`, so a conflict rolls back the whole statement, and the next round finds the stored answer.

pub(super) mod parameters;
mod shared_calls;
mod verdict;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgPool;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::error::{Error, Result, breaches};
use cuponera_domain::id::BusinessId;
use cuponera_domain::lock::LockNote;
use cuponera_domain::principal::AuditContext;

use super::Store;
use super::request_key::{CallResult, IdempotencyKey};
use super::shared::{SharedAsk, SharedEffect};
use verdict::{AnswersToStore, Verdict, conclude};

pub(super) use verdict::rejection;

/// How long a busy call that runs by itself is retried.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum pause between two attempts of such a call. Each attempt also waits for the coupon.
const PAUSE: Duration = Duration::from_millis(10);
/// The constraints of keys that a concurrent call may have inserted first: the next attempt finds its answer.
const UNIQUE_KEYS: [&str; 3] = ["request_key_pkey", "used_reference_pkey", "recipient_key_pkey"];
/// Maximum number of busy calls of one batch that run at once.
const AT_ONCE: usize = 8;

/// Whether a caller may see coupons of other users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// A trusted backend or an admin: rejections name the actual reason.
    All,
    /// An end user: a coupon of another user is reported as not found.
    OwnOnly,
}

/// One call of a batch.
#[derive(Debug, Clone)]
pub struct Call<T> {
    /// The caller's tenant.
    pub business: BusinessId,
    /// Which coupons the caller may see.
    pub visibility: Visibility,
    /// The caller's data for the event.
    pub audit: AuditContext,
    /// The idempotency key, if the request has one.
    pub key: Option<IdempotencyKey>,
    /// The requested change.
    pub ask: T,
}

/// The result of one attempt of a call.
#[derive(Debug, Clone)]
pub enum AttemptResult<T> {
    /// The call has its answer.
    Answered(CallResult<T>),
    /// Nothing changed and no rule rejects the call: another transaction holds or changed a row that it needs. It may
    /// be attempted again.
    Busy,
    /// The call failed; it may have had its effect.
    Failed(Error),
}

/// Why an item changed nothing: a row of a why-statement.
#[derive(Debug)]
pub struct Why {
    /// The item's index in the batch.
    pub n: i32,
    /// The rule that rejects the item, or `replay`, `key_reused`, `already`, `again`.
    pub verdict: String,
    /// Data of the verdict: a stored answer, a time, a limit.
    pub detail: Option<Value>,
    /// Whether the coupon is not the user's.
    pub foreign: bool,
}

/// A hot write: a statement that executes it, and a statement that determines why an item changed nothing.
pub trait Transition: Clone + Send + Sync {
    /// The result of the effect. It is stored under idempotency keys, so later versions must be able to read its
    /// fields.
    type Outcome: Serialize + DeserializeOwned + Clone + Send + Sync;

    /// The code, which may occur only once in a statement.
    fn code(&self) -> Option<&str>;

    /// The row for which calls compete: a code, or a user whose limit is counted.
    fn row(&self) -> &str;

    /// A permanent key of the caller's, with its scope, which may occur only once in a statement.
    fn natural_key(&self) -> Option<(Uuid, &str)> {
        None
    }

    /// Executes all items that no rule rejects, in one statement, and returns their indexes and outcomes. `waits`: wait
    /// for a named coupon that another transaction holds instead of skipping it. Random assignment never waits for a
    /// coupon.
    fn apply(
        pool: &PgPool,
        calls: &[&Call<Self>],
        waits: bool,
    ) -> impl Future<Output = sqlx::Result<Vec<(i32, Value)>>> + Send;

    /// Determines why the other items changed nothing.
    fn why(pool: &PgPool, calls: &[&Call<Self>]) -> impl Future<Output = sqlx::Result<Vec<Why>>> + Send;

    /// The call as one for a SHARED code. `None` if the statements of [`Self::apply`] execute it for codes of all kinds.
    fn of_shared(&self) -> Option<SharedAsk> {
        None
    }

    /// The outcome of an effect on a SHARED code; `None` for the effect of another call.
    fn outcome_of_shared(_: SharedEffect) -> Option<Self::Outcome> {
        None
    }

    /// The lock note to write to Redis after this effect.
    fn lock_note(_: &Call<Self>, _: &Self::Outcome) -> Option<LockNote> {
        None
    }
}

impl Store {
    /// Attempts each call once, as one batch. The results are in the order of the calls. A call with a key may be
    /// attempted again after any result.
    pub async fn try_each<T: Transition>(&self, calls: &[Call<T>]) -> Vec<AttemptResult<T::Outcome>> {
        self.try_on(&self.hot, calls, false).await
    }

    /// Attempts a call by itself, at least once, until it has an answer or the deadline has passed. The first attempt
    /// skips held coupons. Later attempts wait for them briefly, on the connections of the pool `solo`.
    pub async fn run_alone<T: Transition>(
        &self,
        call: &Call<T>,
        deadline: Instant,
    ) -> Result<CallResult<T::Outcome>> {
        let calls = std::slice::from_ref(call);
        self.run_together(calls, &[deadline]).await.pop().unwrap_or(Err(Error::Busy))
    }

    /// The same for several calls for one SHARED code, as a batch, each until its own deadline. The results are in the order of the calls.
    pub async fn run_together<T: Transition>(
        &self,
        calls: &[Call<T>],
        deadlines: &[Instant],
    ) -> Vec<Result<CallResult<T::Outcome>>> {
        let mut results: Vec<_> = calls.iter().map(|_| Err(Error::Busy)).collect();
        let mut open: Vec<usize> = (0..calls.len()).collect();
        let mut tried = self.try_on(&self.hot, calls, false).await;
        loop {
            let now = Instant::now();
            let mut busy = Vec::new();
            for (place, tried) in open.into_iter().zip(tried) {
                match tried {
                    AttemptResult::Answered(answer) => results[place] = Ok(answer),
                    AttemptResult::Failed(fault) => results[place] = Err(fault),
                    AttemptResult::Busy if now >= deadlines[place] => {}
                    AttemptResult::Busy => busy.push(place),
                }
            }
            if busy.is_empty() {
                return results;
            }
            sleep(PAUSE.mul_f64(rand::random_range(0.0..1.0))).await;
            let again: Vec<Call<T>> = busy.iter().map(|place| calls[*place].clone()).collect();
            tried = self.try_on(&self.solo, &again, true).await;
            open = busy;
        }
    }

    /// Whether the call is for a code that is known to be SHARED.
    pub fn is_for_shared_code<T: Transition>(&self, call: &Call<T>) -> bool {
        let is_known = call.ask.code().is_some_and(|code| self.known_codes.contains(call.business, code));
        is_known && call.ask.of_shared().is_some()
    }

    /// Runs a batch: first all calls together, then each busy call by itself; busy calls for one row run in sequence, and those for a SHARED
    /// code together.
    /// The answers are in the order of the calls. An error concerns only its own call.
    pub async fn run_each<T: Transition>(&self, calls: &[Call<T>]) -> Vec<Result<CallResult<T::Outcome>>> {
        let deadline = Instant::now() + TIMEOUT;
        let mut rows: HashMap<_, Vec<usize>> = HashMap::new();
        let mut results: Vec<Option<Result<CallResult<T::Outcome>>>> = Vec::with_capacity(calls.len());
        for (place, tried) in self.try_each(calls).await.into_iter().enumerate() {
            if matches!(tried, AttemptResult::Busy) {
                rows.entry((calls[place].business, calls[place].ask.row())).or_default().push(place);
            }
            results.push(match tried {
                AttemptResult::Answered(answer) => Some(Ok(answer)),
                AttemptResult::Failed(fault) => Some(Err(fault)),
                AttemptResult::Busy => None,
            });
        }
        let one_row = async |places: Vec<usize>| {
            if places.first().is_some_and(|place| self.is_for_shared_code(&calls[*place])) {
                let together: Vec<Call<T>> = places.iter().map(|place| calls[*place].clone()).collect();
                let results = self.run_together(&together, &vec![deadline; together.len()]).await;
                return places.into_iter().zip(results).collect();
            }
            let mut answers = Vec::with_capacity(places.len());
            for place in places {
                answers.push((place, self.run_alone(&calls[place], deadline).await));
            }
            answers
        };
        let mut answers = stream::iter(rows.into_values()).map(one_row).buffer_unordered(AT_ONCE);
        while let Some(answers) = answers.next().await {
            for (place, answer) in answers {
                results[place] = Some(answer);
            }
        }
        results.into_iter().map(|answer| answer.unwrap_or(Err(Error::Busy))).collect()
    }

    /// Like [`Self::run_each`], but returns the first error instead of a partial result.
    pub async fn run_batch<T: Transition>(&self, calls: &[Call<T>]) -> Result<Vec<CallResult<T::Outcome>>> {
        self.run_each(calls).await.into_iter().collect()
    }

    async fn try_on<T: Transition>(
        &self,
        pool: &PgPool,
        calls: &[Call<T>],
        waits: bool,
    ) -> Vec<AttemptResult<T::Outcome>> {
        let mut attempts = Attempts::of(calls, |call| self.is_for_shared_code(call));
        attempts.run(pool, waits).await;
        attempts.run_shared(pool, waits, &self.known_codes).await;
        // Codes that are not SHARED any more.
        attempts.run(pool, waits).await;
        attempts.tried.into_iter().map(|tried| tried.unwrap_or(AttemptResult::Busy)).collect()
    }
}

/// What is known of the kind of a call's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodeKnowledge {
    /// Nothing: the second statement determines it.
    None,
    /// The code is SHARED.
    Shared,
    /// The code was thought to be SHARED, and is not.
    NotShared,
}

/// The calls of a batch, and their results so far.
struct Attempts<'c, T: Transition> {
    calls: &'c [Call<T>],
    kinds: Vec<CodeKnowledge>,
    tried: Vec<Option<AttemptResult<T::Outcome>>>,
}

impl<'c, T: Transition> Attempts<'c, T> {
    fn of(calls: &'c [Call<T>], is_shared: impl Fn(&Call<T>) -> bool) -> Self {
        let kind = |call| if is_shared(call) { CodeKnowledge::Shared } else { CodeKnowledge::None };
        Self {
            calls,
            kinds: calls.iter().map(kind).collect(),
            tried: calls.iter().map(|_| None).collect(),
        }
    }

    /// Whether the call has no result, and its code is or is not known to be SHARED.
    fn is_open(&self, place: usize, is_shared: bool) -> bool {
        self.tried[place].is_none() && (self.kinds[place] == CodeKnowledge::Shared) == is_shared
    }

    /// Attempts the calls whose codes are not known to be SHARED. Those whose codes turn out to be SHARED have no result afterwards.
    async fn run(&mut self, pool: &PgPool, waits: bool) {
        let mut busy = HashSet::new();
        loop {
            let places = distinct(self.calls, |place| self.is_open(place, false));
            if places.is_empty() {
                break;
            }
            // A row that is busy now is busy for the next call of the batch too.
            let (held, places): (Vec<_>, Vec<_>) =
                places.into_iter().partition(|place| busy.contains(&row(&self.calls[*place])));
            for place in held {
                self.tried[place] = Some(AttemptResult::Busy);
            }
            let result = self.run_round(pool, &places, waits).await;
            let rest = result.err().map_or(AttemptResult::Busy, |fault| failed_attempts(fault, places.len()));
            for place in places.into_iter().filter(|place| self.kinds[*place] != CodeKnowledge::Shared) {
                if matches!(self.tried[place].get_or_insert_with(|| rest.clone()), AttemptResult::Busy) {
                    busy.insert(row(&self.calls[place]));
                }
            }
        }
    }

    /// Executes these calls, whose codes and keys are distinct, and determines why the others changed nothing. A call
    /// without a result afterwards is busy, or for a SHARED code.
    async fn run_round(&mut self, pool: &PgPool, places: &[usize], waits: bool) -> sqlx::Result<()> {
        let items: Vec<&Call<T>> = places.iter().map(|place| &self.calls[*place]).collect();
        for (n, outcome) in T::apply(pool, &items, waits).await? {
            self.tried[places[index(n)]] = Some(match serde_json::from_value(outcome) {
                Ok(outcome) => AttemptResult::Answered(CallResult { outcome: Ok(outcome), replayed: false }),
                Err(fault) => AttemptResult::Failed(Error::internal(fault)),
            });
        }
        let rest: Vec<usize> = places.iter().copied().filter(|place| self.tried[*place].is_none()).collect();
        if rest.is_empty() {
            return Ok(());
        }
        let items: Vec<&Call<T>> = rest.iter().map(|place| &self.calls[*place]).collect();
        let mut concluded = Vec::with_capacity(rest.len());
        for why in T::why(pool, &items).await? {
            let place = rest[index(why.n)];
            concluded.push((place, conclude(&self.calls[place], why)));
        }
        self.settle(pool, concluded).await
    }

    /// Takes the verdicts on these calls as their results, and stores those that are to be stored under their keys.
    async fn settle(
        &mut self,
        pool: &PgPool,
        verdicts: Vec<(usize, Result<Verdict<T::Outcome>>)>,
    ) -> sqlx::Result<()> {
        let mut kept = AnswersToStore::default();
        for (place, verdict) in verdicts {
            match verdict {
                Err(fault) => self.tried[place] = Some(AttemptResult::Failed(fault)),
                Ok(Verdict::Again) => {}
                Ok(Verdict::Shared) if self.kinds[place] == CodeKnowledge::NotShared => {}
                Ok(Verdict::Shared) => self.kinds[place] = CodeKnowledge::Shared,
                Ok(Verdict::Known(answer)) => self.tried[place] = Some(AttemptResult::Answered(answer)),
                Ok(Verdict::New(outcome)) => match &self.calls[place].key {
                    Some(key) => kept.add(key, place, outcome),
                    None => {
                        let answer = CallResult { outcome, replayed: false };
                        self.tried[place] = Some(AttemptResult::Answered(answer));
                    }
                },
            }
        }
        for (place, outcome) in kept.keep(pool).await? {
            self.tried[place] = Some(AttemptResult::Answered(CallResult { outcome, replayed: false }));
        }
        Ok(())
    }
}

/// The indexes of the remaining calls, with each code and each key at most once. A code excludes its references.
fn distinct<T: Transition>(calls: &[Call<T>], open: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut codes = HashSet::new();
    let mut keys = HashSet::new();
    let mut natural_keys = HashSet::new();
    (0..calls.len())
        .filter(|place| open(*place))
        .filter(|place| {
            let call = &calls[*place];
            let code_is_new = call.ask.code().is_none_or(|code| codes.insert((call.business, code)));
            code_is_new
                && call.key.as_ref().is_none_or(|key| keys.insert(key.id))
                && call.ask.natural_key().is_none_or(|key| natural_keys.insert(key))
        })
        .collect()
}

fn row<T: Transition>(call: &Call<T>) -> (BusinessId, &str) {
    (call.business, call.ask.row())
}

/// The result of the items of a statement that failed. If a single item can cause the error, all items are busy.
fn failed_attempts<T>(fault: sqlx::Error, items: usize) -> AttemptResult<T> {
    let sqlx::Error::Database(cause) = &fault else { return AttemptResult::Failed(fault.into()) };
    let code = cause.code().unwrap_or_default();
    // lock_timeout, statement_timeout, deadlock, serialization failure.
    let is_conflict = is_unique_key(&fault)
        || matches!(code.as_ref(), "55P03" | "57014" | "40P01" | "40001");
    // Errors of connections, resources or a stopping server, which no item causes.
    let is_of_the_server = matches!(code.get(..2), Some("08" | "53" | "57" | "58"));
    if is_conflict || items > 1 && !is_of_the_server {
        AttemptResult::Busy
    } else {
        AttemptResult::Failed(fault.into())
    }
}

/// Whether a concurrent call inserted one of the statement's keys first.
fn is_unique_key(fault: &sqlx::Error) -> bool {
    UNIQUE_KEYS.iter().any(|constraint| breaches(fault, constraint))
}

/// The index that a row of a batch statement names.
pub(super) fn index(n: i32) -> usize {
    usize::try_from(n).unwrap_or_default()
}
