//! One transaction of calls for SHARED codes.

use std::collections::HashSet;

use serde_json::Value;
use sqlx::{PgConnection, PgPool, query_file};

use cuponera_domain::id::BusinessId;
use cuponera_domain::rejection::Rejection;

use super::SharedEffect;
use super::decide::{Batch, Decision};
use super::state::{BatchState, Found, Item};
use crate::batch::parameters::WhyColumns;
use crate::batch::{Call, Transition};
use crate::hot_transaction::HotTransaction;
use crate::request_key::to_stored;

/// Whether to wait for codes that other transactions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Skip them.
    No,
    /// Wait for 200 ms: the other calls of the lane wait too.
    Briefly,
    /// Wait for a second: no call for another code waits.
    Long,
}

impl Waits {
    /// Begins the transaction. For everything else it waits as long as for the codes.
    fn begin(self) -> &'static str {
        match self {
            Self::No => "begin",
            Self::Briefly => "begin; set local lock_timeout = '200ms'",
            Self::Long => "begin; set local lock_timeout = '1s'",
        }
    }
}

/// The result of a call of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum RoundResult {
    /// It was decided, and its effect is committed.
    Decided(Decision),
    /// Another transaction holds the code; or, with [`Waits::No`], the code is not SHARED.
    Skipped,
    /// The code is not SHARED.
    OtherKind,
    /// The state has changed since it was read. Nothing was written.
    Changed,
}

/// Decides and executes calls in one transaction. Codes may be repeated; each key, and each reference of a code, occurs once. The results are
/// in the order of the calls.
pub(crate) async fn run_round<T: Transition>(
    pool: &PgPool,
    items: &[Item<'_, T>],
    waits: Waits,
) -> sqlx::Result<Vec<RoundResult>> {
    let mut transaction = HotTransaction::begin(pool, waits.begin()).await?;
    match execute(transaction.connection(), items, waits).await {
        Ok(results) if results.iter().any(|result| matches!(result, RoundResult::Decided(_))) => {
            transaction.commit().await?;
            Ok(results)
        }
        other => {
            // If this fails, the connection is closed.
            let _ = transaction.roll_back().await;
            other
        }
    }
}

async fn execute<T: Transition>(
    connection: &mut PgConnection,
    items: &[Item<'_, T>],
    waits: Waits,
) -> sqlx::Result<Vec<RoundResult>> {
    let locked = lock(connection, items, waits).await?;
    let is_locked = |item: &Item<'_, T>| locked.contains(&(item.call.business, item.code.to_owned()));
    let absent = if waits == Waits::No { RoundResult::Skipped } else { RoundResult::OtherKind };
    let mut results: Vec<RoundResult> = items.iter().map(|_| absent.clone()).collect();
    if locked.is_empty() {
        return Ok(results);
    }
    // In the order of the calls, which is that of their arrival.
    let (state, found) = BatchState::read(&mut *connection, items).await?;
    let mut batch = Batch::of(state);
    for found in &found {
        let item = items.get(found.n).ok_or_else(|| fault("a row of no call"))?;
        if is_locked(item) {
            results[found.n] = RoundResult::Decided(decide(&mut batch, item, found)?);
        }
    }
    let (state, writes) = batch.into_parts();
    if !writes.is_empty() && !writes.write(connection, &state).await? {
        return Ok(items.iter().map(|_| RoundResult::Changed).collect());
    }
    Ok(results)
}

/// Decides a call, and collects its answer under its key.
fn decide<T: Transition>(batch: &mut Batch, item: &Item<'_, T>, found: &Found) -> sqlx::Result<Decision> {
    let decision = batch.decide(item, found);
    if let (Some(key), Decision::Done(effect)) = (&item.call.key, &decision) {
        batch.writes.answer(key, stored::<T>(effect)?);
    }
    Ok(decision)
}

/// The answer of an effect, as it is stored under a key.
fn stored<T: Transition>(effect: &SharedEffect) -> sqlx::Result<Value> {
    let outcome = T::outcome_of_shared(effect.clone()).ok_or_else(|| fault("the effect of another call"))?;
    to_stored(&Ok::<_, Rejection>(outcome)).map_err(fault)
}

/// An error of this program.
pub(super) fn fault(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> sqlx::Error {
    sqlx::Error::Decode(error.into())
}

/// Locks the codes, and returns those that are locked and SHARED.
async fn lock<T: Transition>(
    connection: &mut PgConnection,
    items: &[Item<'_, T>],
    waits: Waits,
) -> sqlx::Result<HashSet<(BusinessId, String)>> {
    let calls: Vec<&Call<T>> = items.iter().map(|item| item.call).collect();
    let WhyColumns { business, .. } = WhyColumns::of(&calls);
    let codes: Vec<String> = items.iter().map(|item| item.code.to_owned()).collect();
    let users: Vec<Option<String>> =
        items.iter().map(|item| item.ask.counted_user().map(str::to_owned)).collect();
    let locked =
        query_file!("src/sql/shared_lock.sql", &business, &codes, &users as _, waits != Waits::No)
            .fetch_all(connection)
            .await?;
    Ok(locked.into_iter().map(|row| (BusinessId(row.business_id), row.code)).collect())
}
