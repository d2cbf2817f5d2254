//! The verdicts of why-statements, and the answers without an effect that are stored under keys.

use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use cuponera_domain::rejection::Rejection;

use super::{Call, Transition, Visibility, Why};
use crate::error::{Error, Result};
use crate::request_key::{CallResult, IdempotencyKey, insert_absent, to_stored};

/// The meaning of a why-statement's verdict.
pub(super) enum Verdict<T> {
    /// No rule rejects the call any more.
    Again,
    /// The code is SHARED: another statement executes the call.
    Shared,
    /// An answer that is already stored under the key, or that must not be stored.
    Known(CallResult<T>),
    /// An answer without an effect, to be stored under the call's key.
    New(Result<T, Rejection>),
}

pub(super) fn conclude<T: Transition>(call: &Call<T>, why: Why) -> Result<Verdict<T::Outcome>> {
    let stored = |detail: Option<Value>| {
        serde_json::from_value::<Result<T::Outcome, Rejection>>(detail.unwrap_or_default())
            .map_err(Error::internal)
    };
    Ok(match why.verdict.as_str() {
        "again" => Verdict::Again,
        "shared" => Verdict::Shared,
        "replay" => Verdict::Known(CallResult { outcome: stored(why.detail)?, replayed: true }),
        "key_reused" => Verdict::Known(CallResult { outcome: Err(Rejection::KeyReused), replayed: false }),
        // Not stored, like other invalid fields.
        "user_required" => {
            let outcome = Err(rejection("user_required", None)?);
            Verdict::Known(CallResult { outcome, replayed: false })
        }
        "already" => Verdict::New(stored(why.detail)?),
        _ if why.foreign && call.visibility == Visibility::OwnOnly => {
            Verdict::New(Err(Rejection::not_found("coupon")))
        }
        verdict => Verdict::New(Err(rejection(verdict, why.detail)?)),
    })
}

/// Answers without an effect that are to be stored under their keys, as columns.
pub(super) struct AnswersToStore<T> {
    keys: Vec<Uuid>,
    fingerprints: Vec<Uuid>,
    answers: Vec<(usize, Result<T, Rejection>)>,
}

impl<T> Default for AnswersToStore<T> {
    fn default() -> Self {
        Self { keys: Vec::new(), fingerprints: Vec::new(), answers: Vec::new() }
    }
}

impl<T: Serialize> AnswersToStore<T> {
    pub(super) fn add(&mut self, key: &IdempotencyKey, place: usize, outcome: Result<T, Rejection>) {
        self.keys.push(key.id);
        self.fingerprints.push(key.fingerprint);
        self.answers.push((place, outcome));
    }

    /// Stores all of them in one statement and returns those that were stored. For the others, a concurrent call with
    /// the same key has stored its answer first.
    pub(super) async fn keep(self, pool: &PgPool) -> sqlx::Result<Vec<(usize, Result<T, Rejection>)>> {
        if self.keys.is_empty() {
            return Ok(Vec::new());
        }
        let answers: Result<Vec<Value>, _> =
            self.answers.iter().map(|(_, outcome)| to_stored(outcome)).collect();
        let answers = answers.map_err(|fault| sqlx::Error::Encode(fault.into()))?;
        let new = insert_absent(pool, &self.keys, &self.fingerprints, &answers).await?;
        let answers = self.keys.iter().zip(self.answers);
        Ok(answers.filter(|(key, _)| new.contains(key)).map(|(_, answer)| answer).collect())
    }
}

/// The rejection for a verdict of a why-statement.
pub(crate) fn rejection(verdict: &str, detail: Option<Value>) -> Result<Rejection> {
    let detail = detail.unwrap_or_default();
    Ok(match verdict {
        "book_not_found" => Rejection::not_found("coupon book"),
        "coupon_not_found" => Rejection::not_found("coupon"),
        "redemption_not_found" => Rejection::not_found("redemption"),
        "book_not_active" => Rejection::BookNotActive,
        "book_not_started" => Rejection::BookNotStarted,
        "book_expired" => Rejection::BookExpired,
        "user_limit_reached" => {
            Rejection::UserLimitReached { limit: serde_json::from_value(detail).map_err(Error::internal)? }
        }
        "sold_out" => Rejection::SoldOut,
        "user_required" => Rejection::invalid("userId", "is required: the code is not of a BEARER book"),
        "not_assigned" => Rejection::NotAssigned,
        "not_assignable" => Rejection::NotAssignable,
        "already_assigned" => Rejection::AlreadyAssigned,
        "coupon_reserved" => Rejection::CouponReserved,
        "not_holder" => Rejection::NotHolder,
        "coupon_locked" => {
            Rejection::CouponLocked { locked_until: serde_json::from_value(detail).map_err(Error::internal)? }
        }
        "coupon_already_redeemed" => Rejection::CouponAlreadyRedeemed,
        "coupon_expired" => Rejection::CouponExpired,
        "coupon_not_started" => Rejection::CouponNotStarted,
        "coupon_suspended" => Rejection::CouponSuspended,
        "coupon_void" => Rejection::CouponVoid,
        "already_rolled_back" => Rejection::AlreadyRolledBack,
        "reference_used" => Rejection::ReferenceUsed,
        "recipient_key_used" => Rejection::RecipientKeyUsed,
        "lock_required" => Rejection::LockRequired,
        "lock_stale" => Rejection::LockStale,
        "lock_expired" => Rejection::LockExpired,
        unknown => {
            return Err(Error::internal(format!("a why-statement returned the unknown verdict {unknown:?}")));
        }
    })
}
