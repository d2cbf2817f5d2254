//! Generation: the codes of a range of the code space, at reserved positions of the book.
//!
//! A repeated chunk generates the same codes. Codes that already exist are replaced by others of the space. The indexes
//! of these are stored with the chunk before they are used, so that a repetition uses the same ones.

use std::ops::Range;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::space::{CodeSpace, Codes};
use cuponera_domain::job::generate::{Chunk, Spec};
use cuponera_store::{BulkOutcome, Claim, Store};
use cuponera_store::{Error, Result};
use tracing::info;

use crate::runtime::ChunkOutcome;

/// Generates the chunk's codes and finishes the chunk.
pub async fn work(store: &Store, claim: &Claim, spec: &Spec, chunk: &Chunk) -> Result<ChunkOutcome> {
    let pattern = Pattern::parse(&spec.pattern).map_err(Error::internal)?;
    let space = store.find_space(claim.business, &spec.pattern).await?;
    let space = space.ok_or_else(|| Error::internal("the job's code space does not exist"))?;
    let space = CodeSpace::new(pattern.clone(), &space.key);
    let mut top_ups = chunk.top_ups.clone();
    if top_ups.is_empty() {
        let codes = codes(&space, std::slice::from_ref(&chunk.indexes), Order::Sorted).await?;
        match store.finish_generated(claim, &codes[0], chunk.first_position, chunk.edge).await? {
            BulkOutcome::Finished => return Ok(ChunkOutcome::Done),
            BulkOutcome::Lost => return Ok(ChunkOutcome::Lost),
            BulkOutcome::Conflict | BulkOutcome::MissingCodes(_) => info!("some codes already exist"),
        }
    }
    loop {
        let ranges: Vec<_> = std::iter::once(chunk.indexes.clone()).chain(top_ups.iter().cloned()).collect();
        let candidates = codes(&space, &ranges, Order::ByIndex).await?;
        let wanted = chunk.indexes.end - chunk.indexes.start;
        let taken = store
            .finish_generated_around(claim, &candidates, wanted, chunk.first_position, chunk.edge)
            .await?;
        match taken {
            BulkOutcome::Finished => return Ok(ChunkOutcome::Done),
            BulkOutcome::Lost => return Ok(ChunkOutcome::Lost),
            BulkOutcome::Conflict => {}
            BulkOutcome::MissingCodes(missing) => {
                match store.reserve_top_up_if_held(claim, &pattern, missing).await? {
                    Some(range) => top_ups.push(range),
                    None => return Ok(ChunkOutcome::Lost),
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    /// In byte order, which is the fastest to insert.
    Sorted,
    /// The chunk's indexes, then its top-ups.
    ByIndex,
}

/// The codes of the ranges. Generated on a blocking thread, because small spaces take tens of milliseconds.
async fn codes(space: &CodeSpace, ranges: &[Range<u64>], order: Order) -> Result<Vec<Codes>> {
    let (space, ranges) = (space.clone(), ranges.to_vec());
    let made = tokio::task::spawn_blocking(move || {
        ranges
            .into_iter()
            .map(|range| {
                let mut codes = space.codes(range).map_err(Error::internal)?;
                if matches!(order, Order::Sorted) {
                    codes.sort();
                }
                Ok(codes)
            })
            .collect()
    });
    made.await.map_err(Error::internal)?
}
