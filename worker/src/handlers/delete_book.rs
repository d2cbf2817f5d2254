//! Deletion of a book: a step for each chunk. Taking a step again finds less to delete, or nothing.

use cuponera_domain::job::delete_book::Chunk;
use cuponera_store::Result;
use cuponera_store::{Claim, Step, Store};

use crate::runtime::Outcome;

/// Takes a step and settles its chunk.
pub async fn work(store: &Store, claim: &Claim, step: Chunk) -> Result<Outcome> {
    let taken = match step {
        Chunk::CheckUnused { status_before } => store.settle_unused_check(claim, status_before).await?,
        Chunk::DeleteCodes { from_position } => store.settle_deleted_codes(claim, from_position).await?,
        Chunk::DeleteBook => store.settle_deleted_book(claim).await?,
    };
    Ok(match taken {
        Step::Settled => Outcome::Done,
        Step::Stopped => Outcome::Stopped,
        Step::Lost => Outcome::Lost,
    })
}
