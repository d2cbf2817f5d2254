//! A chunk of a dry run: counted as an import would count it after the earlier parts of the same file.

use std::collections::{HashMap, HashSet};

use sqlx::{PgTransaction, query, query_file, query_file_scalar};

use crate::Store;
use crate::error::Result;
use crate::job::claim::{Claim, ClaimState, begin};
use cuponera_domain::job::JobStatus;

use super::part::{ImportPart, ImportRow, RowRejection};
use super::rejection::RejectedRow;

impl Store {
    /// Counts what an import of the rows would do, and finishes the chunk. Writes no code.
    pub async fn finish_dry_run(&self, claim: &Claim, part: &ImportPart) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let found = dry_run(&mut transaction, claim, &part.rows).await?;
        let status = part.finish(&mut transaction, self.storage_quota, claim, &found).await?;
        if status.is_some_and(JobStatus::is_over) {
            query!("delete from dry_run_code where job_id = $1", claim.job.0)
                .execute(&mut *transaction)
                .await?;
        }
        self.commit_if_held(transaction, claim, status).await
    }
}

/// The rejections of an import of the rows after the earlier parts of the same dry run. Stores the rows for later parts.
async fn dry_run(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[ImportRow],
) -> Result<Vec<RejectedRow>> {
    let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
    let existing: HashSet<String> =
        query_file_scalar!("src/sql/standing_codes.sql", claim.business.0, &codes)
            .fetch_all(&mut **transaction)
            .await?
            .into_iter()
            .collect();
    let exists = |row: &ImportRow| existing.contains(&row.code);
    let holders: Vec<Option<String>> =
        rows.iter().map(|row| row.user.clone().filter(|_| !exists(row))).collect();
    // Read before these rows are stored, so that only the rows of earlier parts count.
    let mut rooms = remaining_limits(transaction, claim, &holders).await?;
    let fresh: HashSet<String> = query_file_scalar!(
        "src/sql/dry_run_new_codes.sql",
        claim.job.0,
        &codes,
        &holders as &[Option<String>]
    )
    .fetch_all(&mut **transaction)
    .await?
    .into_iter()
    .collect();
    let mut found = Vec::new();
    let mut in_order: Vec<&ImportRow> = rows.iter().collect();
    in_order.sort_by_key(|row| row.line);
    for row in in_order {
        let room = row.user.as_ref().and_then(|user| rooms.get_mut(user));
        let why = match room {
            _ if exists(row) => RowRejection::AlreadyExists,
            _ if !fresh.contains(&row.code) => RowRejection::DuplicateInFile,
            Some(room) if *room <= 0 => RowRejection::UserLimitReached,
            Some(room) => {
                *room -= 1;
                continue;
            }
            None => continue,
        };
        found.push(why.of(row));
    }
    Ok(found)
}

/// The number of further codes that each of these users may hold. Omits users without a limit.
pub(super) async fn remaining_limits(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    holders: &[Option<String>],
) -> Result<HashMap<String, i64>> {
    let rooms = query_file!(
        "src/sql/dry_run_rooms.sql",
        claim.job.0,
        claim.book()?.0,
        &holders.iter().flatten().cloned().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rooms.into_iter().map(|row| (row.user_id, row.room)).collect())
}
