//! Generation: the codes of a range of the code space, at reserved positions of the book.
//!
//! Redoing a chunk makes the same codes. Foreign codes in the way are replaced from the space, by indexes noted on the
//! chunk before they are used, so that none is lost to a redo.

use std::ops::Range;

use cuponera_core::coupon::pattern::Pattern;
use cuponera_core::coupon::space::{CodeSpace, Codes};
use cuponera_core::error::{Error, Result};
use cuponera_core::job::Edge;
use cuponera_core::store::{Claim, Store, Taken};
use tracing::info;

use crate::runtime::Outcome;

/// What a generation chunk makes.
#[derive(Debug, Clone)]
pub struct Chunk<'a> {
    /// The pattern in its canonical form.
    pub pattern: &'a str,
    /// Indexes of the space.
    pub indexes: Range<u64>,
    /// The position of the first code.
    pub first_position: i32,
    /// Whether it is the first or last of its job.
    pub edge: Edge,
    /// Further indexes that were reserved for it.
    pub top_ups: Vec<Range<u64>>,
}

/// Makes the chunk's codes and settles it.
pub async fn generate(store: &Store, claim: &Claim, mut chunk: Chunk<'_>) -> Result<Outcome> {
    let pattern = Pattern::parse(chunk.pattern).map_err(Error::internal)?;
    let space = store.find_space(claim.business, chunk.pattern).await?;
    let space = space.ok_or_else(|| Error::internal("the job's code space is gone"))?;
    let space = CodeSpace::new(pattern.clone(), &space.key);
    if chunk.top_ups.is_empty() {
        let codes = codes(&space, &[chunk.indexes.clone()], Order::Sorted).await?;
        match store.settle_generated(claim, &codes[0], chunk.first_position, chunk.edge).await? {
            Taken::Settled => return Ok(Outcome::Done),
            Taken::Lost => return Ok(Outcome::Lost),
            Taken::Clash | Taken::Short(_) => info!("foreign codes stand in the way"),
        }
    }
    loop {
        let ranges: Vec<_> =
            std::iter::once(chunk.indexes.clone()).chain(chunk.top_ups.iter().cloned()).collect();
        let candidates = codes(&space, &ranges, Order::ByIndex).await?;
        let wanted = chunk.indexes.end - chunk.indexes.start;
        let taken = store
            .settle_generated_around(claim, &candidates, wanted, chunk.first_position, chunk.edge)
            .await?;
        match taken {
            Taken::Settled => return Ok(Outcome::Done),
            Taken::Lost => return Ok(Outcome::Lost),
            Taken::Clash => {}
            Taken::Short(missing) => match store.reserve_top_up_if_held(claim, &pattern, missing).await? {
                Some(range) => chunk.top_ups.push(range),
                None => return Ok(Outcome::Lost),
            },
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Order {
    /// As they go fastest into the table.
    Sorted,
    /// The chunk's own before its top-ups.
    ByIndex,
}

/// The codes of the ranges, made off the runtime's threads: small spaces take tens of milliseconds.
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
