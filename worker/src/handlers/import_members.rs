//! Import of members: the users of one part of an uploaded file. Each becomes a member, or is rejected with a reason.

use std::collections::HashSet;

use bytes::Bytes;
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::csv::{Record, RowError, RowParser, records};
use cuponera_domain::job::import_members::{Chunk, Spec};
use cuponera_domain::principal::parse_user_id;
use cuponera_platform::files::Files;
use cuponera_store::{Claim, ClaimState, ImportPart, ImportRow, RejectedRow, RowRejection, Store};
use cuponera_store::{Error, Result};

use super::import::bad_user_id;
use crate::runtime::ChunkOutcome;

/// Adds the users of a part and settles the chunk.
pub async fn work(
    store: &Store,
    files: &Files,
    claim: &Claim,
    spec: &Spec,
    chunk: &Chunk,
) -> Result<ChunkOutcome> {
    let bytes = files.get(&chunk.file).await?;
    let (parsed_as, first_line) = (spec.clone(), chunk.first_line());
    // Off the runtime's threads.
    let part = tokio::task::spawn_blocking(move || parse(&bytes, &parsed_as, first_line));
    let part = part.await.map_err(Error::internal)??;
    Ok(match store.finish_imported_members(claim, spec.pool, &part).await? {
        ClaimState::Held => ChunkOutcome::Done,
        ClaimState::Lost => ChunkOutcome::Lost,
    })
}

fn parse(bytes: &Bytes, spec: &Spec, first_line: u64) -> Result<ImportPart> {
    let mut part = ImportPart::default();
    let text = std::str::from_utf8(bytes).map_err(Error::internal)?;
    let mut parser = RowParser::new(&spec.columns, spec.delimiter);
    let mut seen = HashSet::new();
    for record in records(text, spec.delimiter, first_line) {
        sort_in(&mut part, &record, &mut parser, &mut seen);
    }
    part.rows.sort_unstable_by(|a, b| a.code.cmp(&b.code));
    Ok(part)
}

/// Puts a record where it belongs: with the rows, or with the rejections.
fn sort_in(part: &mut ImportPart, record: &Record<'_>, parser: &mut RowParser, seen: &mut HashSet<String>) {
    let row = parser.parse(record);
    let reject = |reason: &'static str, detail| RejectedRow {
        line: record.line,
        code: row.code.to_owned(),
        reason: reason.into(),
        detail,
        row: record.raw.to_owned(),
    };
    let rejection = match (row.fault, parse_user_id(row.code)) {
        (Some(fault @ (RowError::RepeatedHeader | RowError::TooManyCells { .. })), _) => {
            reject(fault.reason(), fault.detail().into())
        }
        (_, Err(fault)) => reject("bad_user_id", bad_user_id(row.code, fault)),
        (_, Ok(user)) if seen.insert(user.to_owned()) => {
            part.rows.push(ImportRow {
                code: user.to_owned(),
                line: record.line,
                place: record.line,
                user: None,
                metadata: None,
                limits: SharedLimits::default(),
                text: record.raw.to_owned(),
            });
            return;
        }
        (_, Ok(_)) => {
            reject(RowRejection::DuplicateInFile.reason(), "an earlier line of the file has this user".into())
        }
    };
    part.rejections.push(rejection);
}
