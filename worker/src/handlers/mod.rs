//! What each kind of chunk does.

pub mod delete;
pub mod generate;
pub mod import;

use cuponera_core::error::{Error, Result};
use cuponera_core::files::Files;
use cuponera_core::job::{ChunkWork, Work};
use cuponera_core::store::{Claim, Store};

use crate::runtime::Outcome;

/// Works a chunk to its settling.
pub async fn handle(store: &Store, files: &Files, claim: &Claim) -> Result<Outcome> {
    match (&claim.work, &claim.chunk) {
        (
            Work::GenerateCodes { pattern, .. },
            ChunkWork::Generate { indexes, first_position, edge, top_ups },
        ) => {
            let chunk = generate::Chunk {
                pattern,
                indexes: indexes.clone(),
                first_position: *first_position,
                edge: *edge,
                top_ups: top_ups.clone(),
            };
            generate::generate(store, claim, chunk).await
        }
        (
            Work::ImportCodes { columns, delimiter, first_position, dry_run, .. },
            ChunkWork::Import { file, first_line },
        ) => {
            let bytes = files.get(file).await?;
            let part = import::parse(bytes, columns.clone(), *delimiter, *first_line).await?;
            let target =
                if *dry_run { import::Target::Nowhere } else { import::Target::Book(*first_position) };
            import::import(store, claim, &part, target).await
        }
        (Work::DeleteBook { .. }, ChunkWork::Delete(step)) => delete::delete(store, claim, *step).await,
        _ => Err(Error::internal("a chunk of another kind than its job")),
    }
}
