//! Calls for SHARED codes, which have no holder and may occur many times in a batch.
//!
//! A batch of them is one transaction of three statements. The first locks the rows of the codes, and the users whose codes of a book are
//! counted. The second, with a new snapshot, reads what the calls depend on. Then each call is decided, one after the other, by
//! [`cuponera_domain::coupon::shared`], and the third statement writes the effects of all of them: each code once. A statement that ranked
//! the calls of a batch by itself could not decide several limits at once: a call that one limit rejects would use up a rank of another.
//!
//! **Invariants.** All changes of [`shared_use`](../../../migrations/0079_shared_codes.sql) and of the counters of a code are made under the
//! lock of the code's row, with a new version of it. Rows are locked in one order: coupons by key, users of books by their hash, redemptions,
//! keys.

mod decide;
mod known;
mod round;
mod settings;
mod state;
mod write;

use serde_json::Value;
use sqlx::PgPool;

use cuponera_domain::id::{LockId, RedemptionId};
use cuponera_domain::rejection::Rejection;

pub(super) use decide::Decision;
pub(super) use known::KnownCodes;
pub(super) use round::{RoundResult, Waits, run_round};
pub use settings::NewSharedCode;
pub(super) use state::Item;

use self::decide::Batch;
use self::state::BatchState;
use super::batch::Call;
use super::error::Result;
use super::lock::{LockOwner, Locked, Unlocked};
use super::redeem::{Redeem, Redeemed};
use super::rollback::RolledBack;

/// A call for a SHARED code.
#[derive(Debug, Clone)]
pub enum SharedAsk {
    /// Lock a use, or renew the user's lock.
    Lock {
        /// The user.
        user: String,
        /// Duration of the lock; by default that of the book.
        ttl_seconds: Option<i32>,
    },
    /// Release a lock.
    Unlock {
        /// Whose lock to release.
        owner: LockOwner,
        /// The id of the lock.
        lock: Option<LockId>,
    },
    /// Redeem a use.
    Redeem {
        /// The user; none is rejected.
        user: Option<String>,
        /// The id of the caller's lock.
        lock: Option<LockId>,
        /// The caller's reference.
        reference: Option<String>,
        /// Data that the caller stores with the redemption.
        metadata: Option<Value>,
    },
    /// Give the use of a redemption back.
    RollBack {
        /// The redemption.
        redemption: RedemptionId,
        /// The user that must have made it; any if absent.
        user: Option<String>,
        /// The reason, for the event.
        reason: String,
    },
}

impl SharedAsk {
    /// The user whose codes of the book the call may increase. It is locked, because its other codes are counted.
    fn counted_user(&self) -> Option<&str> {
        match self {
            Self::Lock { user, .. } => Some(user),
            Self::Redeem { user, .. } => user.as_deref(),
            Self::Unlock { .. } | Self::RollBack { .. } => None,
        }
    }

    /// The user that the call names.
    fn user(&self) -> Option<&str> {
        match self {
            Self::Lock { user, .. } | Self::Unlock { owner: LockOwner::User(user), .. } => Some(user),
            Self::Redeem { user, .. } | Self::RollBack { user, .. } => user.as_deref(),
            Self::Unlock { owner: LockOwner::Anyone, .. } => None,
        }
    }

    /// The id of a lock to release, of any user.
    fn forced_lock(&self) -> Option<LockId> {
        match self {
            Self::Unlock { owner: LockOwner::Anyone, lock } => *lock,
            Self::Unlock { .. } | Self::Lock { .. } | Self::Redeem { .. } | Self::RollBack { .. } => None,
        }
    }

    /// The caller's reference of a redemption. It may occur only once in a transaction.
    pub(super) fn reference(&self) -> Option<&str> {
        match self {
            Self::Redeem { reference, .. } => reference.as_deref(),
            Self::Lock { .. } | Self::Unlock { .. } | Self::RollBack { .. } => None,
        }
    }

    /// The redemption to roll back.
    fn redemption(&self) -> Option<RedemptionId> {
        match self {
            Self::RollBack { redemption, .. } => Some(*redemption),
            Self::Lock { .. } | Self::Unlock { .. } | Self::Redeem { .. } => None,
        }
    }
}

/// The effect of a call for a SHARED code.
#[derive(Debug, Clone, PartialEq)]
pub enum SharedEffect {
    /// Of [`SharedAsk::Lock`].
    Locked(Locked),
    /// Of [`SharedAsk::Unlock`].
    Unlocked(Unlocked),
    /// Of [`SharedAsk::Redeem`].
    Redeemed(Redeemed),
    /// Of [`SharedAsk::RollBack`].
    RolledBack(RolledBack),
}

/// Whether a redemption of a SHARED code would be allowed now. Decides on the same state, without a lock, and writes nothing.
pub(super) async fn validate_shared(pool: &PgPool, call: &Call<Redeem>) -> Result<()> {
    let not_found = || Rejection::not_found("coupon");
    let item = Item::of(call).ok_or_else(not_found)?;
    let (state, found) = BatchState::read(pool, std::slice::from_ref(&item)).await?;
    let found = found.first().ok_or_else(not_found)?;
    match Batch::of(state).decide(&item, found) {
        Decision::Rejected(rejection) | Decision::Incomplete(rejection) => Err(rejection.into()),
        Decision::Done(_) | Decision::Already(_) | Decision::Replayed(_) | Decision::KeyReused => Ok(()),
    }
}
