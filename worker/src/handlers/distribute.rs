//! Distribution: a step for each chunk. A step that is done again finds what its last commit has left to do.

use cuponera_domain::job::distribute::{Chunk, Spec};
use cuponera_store::Result;
use cuponera_store::{Claim, Step, Store};

use crate::runtime::ChunkOutcome;

/// Takes a step and settles its chunk.
pub async fn work(store: &Store, claim: &Claim, spec: &Spec, step: Chunk) -> Result<ChunkOutcome> {
    let taken = match step {
        Chunk::NoteMembers if spec.dry_run => store.finish_previewed(claim, spec).await?,
        Chunk::NoteMembers => store.finish_noted_members(claim, spec).await?,
        Chunk::Reserve { needed, from_position, waits } => {
            store.finish_reserved_codes(claim, spec, needed, from_position, waits).await?
        }
        Chunk::Allocate { needed } => store.finish_allocated(claim, spec, needed).await?,
        Chunk::Assign { slice } => store.finish_assigned_slice(claim, spec, slice).await?,
    };
    Ok(match taken {
        Step::Finished => ChunkOutcome::Done,
        Step::Stopped => ChunkOutcome::Stopped,
        Step::Lost => ChunkOutcome::Lost,
    })
}
