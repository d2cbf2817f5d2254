//! The handlers of chunks: one file for each kind, and an entry in [`handle`].

pub mod assign_codes;
pub mod delete_book;
pub mod distribute;
pub mod export;
pub mod generate;
pub mod import;
pub mod import_members;
pub mod take_back;
pub mod void_codes;

use cuponera_domain::job::Task;
use cuponera_platform::files::Files;
use cuponera_store::{Claim, Store};
use cuponera_store::{Error, Result};

use crate::runtime::ChunkOutcome;

/// Executes a chunk and finishes it.
pub async fn handle(store: &Store, files: &Files, claim: &Claim) -> Result<ChunkOutcome> {
    match &claim.task {
        Task::GenerateCodes(spec, chunk) => generate::work(store, claim, spec, chunk).await,
        Task::ImportCodes(spec, chunk) => import::work(store, files, claim, spec, chunk).await,
        Task::ImportMembers(spec, chunk) => import_members::work(store, files, claim, spec, chunk).await,
        Task::Distribute(spec, step) => distribute::work(store, claim, spec, *step).await,
        Task::Export(spec, chunk) => export::work(store, files, claim, spec, chunk).await,
        Task::DeleteBook(_, step) => delete_book::work(store, claim, *step).await,
        Task::VoidCodes(spec, chunk) => void_codes::work(store, claim, spec, chunk).await,
        Task::TakeBack(spec, step) => take_back::work(store, claim, spec, step).await,
        Task::AssignCodes(spec, chunk) => assign_codes::work(store, files, claim, spec, chunk).await,
        Task::Unreadable { reason, .. } => Err(Error::internal(reason.clone())),
    }
}
