//! Distribution: a step for each chunk. A step that is done again finds what its last commit has left to do.

use cuponera_core::error::Result;
use cuponera_core::job::distribute::{Chunk, Spec};
use cuponera_core::store::{Claim, Step, Store};

use crate::runtime::Outcome;

/// Takes a step and settles its chunk.
pub async fn work(store: &Store, claim: &Claim, spec: &Spec, step: Chunk) -> Result<Outcome> {
    let taken = match step {
        Chunk::NoteMembers if spec.dry_run => store.settle_previewed(claim, spec).await?,
        Chunk::NoteMembers => store.settle_noted_members(claim, spec).await?,
        Chunk::Reserve { needed, from_position, waits } => {
            store.settle_reserved_codes(claim, spec, needed, from_position, waits).await?
        }
        Chunk::Allocate { needed } => store.settle_allocated(claim, spec, needed).await?,
        Chunk::Assign { slice } => store.settle_assigned_slice(claim, spec, slice).await?,
    };
    Ok(match taken {
        Step::Settled => Outcome::Done,
        Step::Stopped => Outcome::Stopped,
        Step::Lost => Outcome::Lost,
    })
}
