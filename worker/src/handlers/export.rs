//! Export: a part of the file for each chunk, and a last chunk that joins the parts. A repeated chunk reads its rows again and writes
//! a part of its own.

use cuponera_domain::export::{CsvRows, ExportKind};
use cuponera_domain::job::export::{Chunk, Place, Spec};
use cuponera_domain::money::sums::SumsByCurrency;
use cuponera_platform::files::Files;
use cuponera_store::{Claim, ClaimState, ExportPart, ExportRow, Exported, Result, Store};
use tracing::warn;

use crate::runtime::ChunkOutcome;

/// Number of rows read after which a part ends.
const ROWS_PER_PART: usize = 50_000;
/// Number of bytes after which a part ends. It is exceeded by at most one page.
const BYTES_PER_PART: usize = 4 * 1024 * 1024;

/// Writes a part or joins all, and finishes the chunk.
pub async fn work(
    store: &Store,
    files: &Files,
    claim: &Claim,
    spec: &Spec,
    chunk: &Chunk,
) -> Result<ChunkOutcome> {
    let finished = match chunk {
        Chunk::Write { from } => write_part(store, files, claim, spec, from.clone()).await?,
        Chunk::Join => join(store, files, claim).await?,
    };
    Ok(match finished {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}

async fn write_part(
    store: &Store,
    files: &Files,
    claim: &Claim,
    spec: &Spec,
    from: Place,
) -> Result<ClaimState> {
    let what = Exported {
        business: claim.business,
        kind: spec.export,
        book: spec.book,
        filter: &spec.filter,
        snapshot: &spec.snapshot,
    };
    let read_from = store.read_clock().await?;
    let lacks_amounts = from.lacks_amounts();
    let csv = CsvRows::new(spec.export, spec.format.clone());
    let mut csv = if lacks_amounts { csv.without_amounts() } else { csv };
    let mut amounts = SumsByCurrency::default();
    if claim.number == 0 {
        csv.header();
    }
    let (mut rows, mut examined, mut next) = (0, 0, Some(from));
    while examined < ROWS_PER_PART && csv.len() < BYTES_PER_PART {
        let Some(place) = next.take() else { break };
        let page = store.export_page(&what, Some(claim.job), place).await?;
        (examined, next) = (examined + page.examined, page.next);
        rows += page.rows.len() as u64;
        for row in &page.rows {
            push(&mut csv, &mut amounts, row);
        }
    }
    let read_to = store.read_clock().await?;
    let bytes = csv.len() as u64;
    let name = Files::export_part_name(claim.job, claim.number, claim.epoch);
    files.put(&name, csv.into_bytes().into()).await?;
    let has_amounts = spec.export == ExportKind::Redemptions && !lacks_amounts;
    let amounts = has_amounts.then(|| amounts.into_sums());
    store.finish_exported_part(claim, &ExportPart { rows, bytes, amounts, read_from, read_to, next }).await
}

fn push(csv: &mut CsvRows, amounts: &mut SumsByCurrency, row: &ExportRow) {
    match row {
        ExportRow::Coupon(coupon) => csv.coupon(coupon),
        ExportRow::Redemption(redemption) => {
            csv.redemption(redemption);
            if let Some(of_redemption) = redemption.amounts {
                amounts.add_redemption(of_redemption, redemption.rolled_back_at.is_some());
            }
        }
        ExportRow::Event(event) => csv.event(&event.0, event.1, &event.2),
    }
}

/// Joins the parts. They are deleted afterwards; if that fails, housekeeping deletes them with the file.
async fn join(store: &Store, files: &Files, claim: &Claim) -> Result<ClaimState> {
    let parts = store.export_parts(claim.job).await?;
    let name_of =
        |part: &cuponera_store::StoredPart| Files::export_part_name(claim.job, part.number, part.epoch);
    let names: Vec<String> = parts.iter().map(name_of).collect();
    let name = Files::export_name(claim.job, claim.epoch);
    let bytes = files.join(&names, &name).await?;
    let finished = store.finish_joined_export(claim, &name, bytes).await?;
    if finished == ClaimState::Held
        && let Err(failure) = forget_parts(store, files, claim).await
    {
        warn!(job = %claim.job, error = failure.chain(), "cannot delete the parts of an export");
    }
    Ok(finished)
}

async fn forget_parts(store: &Store, files: &Files, claim: &Claim) -> Result<()> {
    files.delete_export_parts(claim.job).await?;
    store.forget_export_parts(claim.job).await
}
