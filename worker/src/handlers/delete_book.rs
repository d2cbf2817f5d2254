//! Deletion of a book: one step in each chunk. A repeated step finds less to delete, or nothing.

use cuponera_domain::job::delete_book::Chunk;
use cuponera_store::Result;
use cuponera_store::{Claim, Step, Store};

use crate::runtime::ChunkOutcome;

/// Executes a step and finishes its chunk.
pub async fn work(store: &Store, claim: &Claim, step: Chunk) -> Result<ChunkOutcome> {
    let taken = match step {
        Chunk::CheckUnused { status_before } => store.finish_unused_check(claim, status_before).await?,
        Chunk::DeleteCodes { from_position } => store.finish_deleted_codes(claim, from_position).await?,
        Chunk::DeleteBook => store.finish_deleted_book(claim).await?,
    };
    Ok(match taken {
        Step::Finished => ChunkOutcome::Done,
        Step::Stopped => ChunkOutcome::Stopped,
        Step::Lost => ChunkOutcome::Lost,
    })
}
