//! Idempotency keys: the answer of a request is stored in the commit that has its effect.

use std::collections::HashSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{PgPool, PgTransaction, query, query_scalar};
use uuid::Uuid;

use crate::error::{Error, Result, breaches};
use cuponera_domain::rejection::Rejection;

use super::Store;

/// An idempotency key as it is stored: two hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Hash of principal, method, path and key.
    pub id: Uuid,
    /// Hash of the request's body.
    pub fingerprint: Uuid,
}

/// The result of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallResult<T> {
    /// The effect, or the rejection.
    pub outcome: Result<T, Rejection>,
    /// Whether this is the stored answer of an earlier call under the same key.
    pub replayed: bool,
}

impl<T> CallResult<T> {
    /// The effect of this call; `None` for a rejection or a replayed answer.
    pub fn effect(&self) -> Option<&T> {
        self.outcome.as_ref().ok().filter(|_| !self.replayed)
    }
}

/// Stores answers that have no effect, unless their keys already have answers. Returns the keys of the stored answers.
pub(super) async fn insert_absent(
    pool: &PgPool,
    keys: &[Uuid],
    fingerprints: &[Uuid],
    answers: &[Value],
) -> sqlx::Result<HashSet<Uuid>> {
    let kept = query_scalar!(
        "insert into request_key (id, fingerprint, answer)
         select * from unnest($1::uuid[], $2::uuid[], $3::jsonb[]) k (id, fingerprint, answer) order by id
         on conflict do nothing returning id",
        keys,
        fingerprints,
        answers
    );
    Ok(kept.fetch_all(pool).await?.into_iter().collect())
}

impl Store {
    /// The answer stored under a key.
    pub async fn find_call_result<T: DeserializeOwned>(
        &self,
        key: &IdempotencyKey,
    ) -> Result<Option<CallResult<T>>> {
        let row = query!("select fingerprint, answer from request_key where id = $1", key.id)
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        if row.fingerprint != key.fingerprint {
            return Ok(Some(CallResult { outcome: Err(Rejection::KeyReused), replayed: false }));
        }
        let outcome = serde_json::from_value(row.answer).map_err(Error::internal)?;
        Ok(Some(CallResult { outcome, replayed: true }))
    }

    /// Begins the transaction of a change that is executed once for each key, or returns the key's stored answer.
    pub(super) async fn attempt<T: DeserializeOwned>(
        &self,
        key: Option<IdempotencyKey>,
    ) -> Result<KeyedChange<T>> {
        if let Some(key) = &key
            && let Some(answer) = self.find_call_result(key).await?
        {
            return Ok(KeyedChange::Answered(answer));
        }
        Ok(KeyedChange::Begun(Begun { store: self.clone(), key, transaction: self.begin().await? }))
    }
}

/// Whether the change is still to be executed.
pub(super) enum KeyedChange<T> {
    /// The transaction to execute it in.
    Begun(Begun),
    /// The change was executed or rejected before.
    Answered(CallResult<T>),
}

/// The transaction of a change, and its key.
pub(super) struct Begun {
    store: Store,
    key: Option<IdempotencyKey>,
    /// The transaction of the change.
    pub(super) transaction: PgTransaction<'static>,
}

impl Begun {
    /// Commits the effect together with its key. A rejection rolls the effect back and is stored under the key too. If
    /// a concurrent request has stored an answer under the key first, returns that answer.
    pub(super) async fn commit<T: Serialize + DeserializeOwned>(
        mut self,
        outcome: Result<T>,
    ) -> Result<CallResult<T>> {
        let outcome = match outcome {
            Ok(outcome) => Ok(outcome),
            Err(Error::Rejected(rejection)) => {
                self.transaction.rollback().await?;
                self.transaction = self.store.pool.begin().await?;
                Err(rejection)
            }
            Err(fault) => return Err(fault),
        };
        if let Some(key) = &self.key
            && !insert(&mut self.transaction, key, &outcome).await?
        {
            self.transaction.rollback().await?;
            let answer = self.store.find_call_result(key).await?;
            return answer.ok_or_else(|| Error::unavailable("the stored answer of the key was deleted"));
        }
        self.transaction.commit().await?;
        Ok(CallResult { outcome, replayed: false })
    }
}

/// Inserts without `on conflict`; `false` if the key exists, which also aborts the transaction.
async fn insert<T: Serialize>(
    transaction: &mut PgTransaction<'static>,
    key: &IdempotencyKey,
    outcome: &Result<T, Rejection>,
) -> Result<bool> {
    let answer = to_stored(outcome).map_err(Error::internal)?;
    let inserted = query!(
        "insert into request_key (id, fingerprint, answer) values ($1, $2, $3)",
        key.id,
        key.fingerprint,
        answer
    )
    .execute(&mut **transaction)
    .await;
    match inserted {
        Ok(_) => Ok(true),
        Err(error) if breaches(&error, "request_key_pkey") => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The JSON of an answer as it is stored under its key.
pub(super) fn to_stored<T: Serialize>(outcome: &Result<T, Rejection>) -> serde_json::Result<Value> {
    Ok(match outcome {
        Ok(effect) => json!({ "Ok": serde_json::to_value(effect)? }),
        Err(rejection) => json!({ "Err": rejection.to_stored()? }),
    })
}
