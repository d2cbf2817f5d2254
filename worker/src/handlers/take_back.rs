//! Take-back: a piece of the codes of a distribution for each chunk. Running a chunk again finds its codes taken back.

use cuponera_domain::job::take_back::{Chunk, Spec};
use cuponera_store::{Claim, ClaimState, Result, Store};

use crate::runtime::ChunkOutcome;

/// Takes a step and finishes its chunk.
pub async fn work(store: &Store, claim: &Claim, spec: &Spec, step: &Chunk) -> Result<ChunkOutcome> {
    let finished = match step {
        Chunk::Divide => store.finish_divided(claim, spec).await?,
        Chunk::Part(part) => store.finish_taken_back_part(claim, spec, part).await?,
        Chunk::Held { codes } => store.finish_taken_back_held(claim, spec, codes).await?,
    };
    Ok(match finished {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}
