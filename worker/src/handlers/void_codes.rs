//! Bulk void: a piece of the codes for each chunk. Running a chunk again finds its codes void, or none.

use cuponera_domain::job::void_codes::{Chunk, Spec};
use cuponera_store::{Claim, ClaimState, Result, Store};

use crate::runtime::ChunkOutcome;

/// Voids the codes of a chunk and finishes it.
pub async fn work(store: &Store, claim: &Claim, spec: &Spec, chunk: &Chunk) -> Result<ChunkOutcome> {
    let finished = match chunk {
        Chunk::Listed { codes, waits } => store.finish_voided_list(claim, spec, codes, *waits).await?,
        Chunk::Positions { positions, ends_at_other_job, waits } => {
            store.finish_voided_positions(claim, spec, positions, *ends_at_other_job, *waits).await?
        }
    };
    Ok(match finished {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}
