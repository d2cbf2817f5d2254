//! Upload of assignments: the rows of one part of an uploaded file. Each row assigns a code to a user, or is rejected with a reason.

use cuponera_domain::book::CodeKind;
use cuponera_domain::job::assign_codes::{Chunk, Spec};
use cuponera_domain::job::import::Begin;
use cuponera_platform::files::Files;
use cuponera_store::{Claim, ClaimState, ImportPart, RejectedRow, Result, Store};

use super::import::parse;
use crate::runtime::ChunkOutcome;

/// Assigns the codes of a chunk, or only counts them, and finishes the chunk.
pub async fn work(
    store: &Store,
    files: &Files,
    claim: &Claim,
    spec: &Spec,
    chunk: &Chunk,
) -> Result<ChunkOutcome> {
    let finished = match chunk {
        Chunk::Part { file, first_line } => {
            let bytes = files.get(file).await?;
            let begin = Begin::Line { first_line: *first_line };
            let part = parse(bytes, spec.columns.clone(), spec.delimiter, begin, CodeKind::Unique).await?;
            store.finish_assigned_part(claim, spec, &reject_rows_without_user(part)).await?
        }
        Chunk::Held { rows } => store.finish_assigned_held(claim, spec, rows).await?,
    };
    Ok(match finished {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}

/// Rejects the rows without a user, which an import would leave free.
fn reject_rows_without_user(part: ImportPart) -> ImportPart {
    let ImportPart { rows, mut rejections, sample } = part;
    let (rows, without_user): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.user.is_some());
    rejections.extend(without_user.into_iter().map(|row| RejectedRow {
        line: row.line,
        code: row.code,
        reason: "no_user".into(),
        detail: "the row names no user".into(),
        row: row.text,
    }));
    ImportPart { rows, rejections, sample }
}
