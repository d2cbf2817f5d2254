//! Deletion of a book: a step for each chunk. Taking a step again finds less to delete, or nothing.

use cuponera_core::error::Result;
use cuponera_core::job::DeletionStep;
use cuponera_core::store::{Claim, Step, Store};

use crate::runtime::Outcome;

/// Takes a step and settles its chunk.
pub async fn delete(store: &Store, claim: &Claim, step: DeletionStep) -> Result<Outcome> {
    let taken = match step {
        DeletionStep::CheckUnused { status_before } => {
            store.settle_unused_check(claim, status_before).await?
        }
        DeletionStep::DeleteCodes { from_position } => {
            store.settle_deleted_codes(claim, from_position).await?
        }
        DeletionStep::DeleteBook => store.settle_deleted_book(claim).await?,
    };
    Ok(match taken {
        Step::Settled => Outcome::Done,
        Step::Stopped => Outcome::Stopped,
        Step::Lost => Outcome::Lost,
    })
}
