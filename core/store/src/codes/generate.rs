//! The rows of a generation chunk.

use std::ops::Range;

use sqlx::{PgConnection, PgTransaction, query, query_scalar};
use tracing::debug;

use super::space::{as_i64, reserve};
use crate::Store;
use crate::error::{Error, Result};
use crate::job::claim::{Claim, begin};
use crate::job::finish::{Finished, finish_if_held};
use crate::metrics;
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::space::Codes;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::job::Task;
use cuponera_domain::job::generate::{Edge, Spec};
use cuponera_domain::rejection::Rejection;

use super::chunk::{count_new, describe, discard, is_conflict, lock_open_book};
use super::copy::CopyRows;

/// The result of writing the rows of a chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkOutcome {
    /// The rows are committed and the chunk is finished.
    Finished,
    /// This worker no longer holds the chunk, or the job was stopped. Nothing was written.
    Lost,
    /// One of the codes exists already. Nothing was written.
    Conflict,
    /// The number of missing codes: other codes of the business take their values. Nothing was written.
    MissingCodes(u64),
}

impl Store {
    /// Writes the sorted codes at the positions from `first_position` on and finishes the chunk. The fast method, for codes
    /// that do not exist yet.
    pub async fn finish_generated(
        &self,
        claim: &Claim,
        codes: &Codes,
        first_position: i32,
        edge: Edge,
    ) -> Result<BulkOutcome> {
        let mut connection = self.pool.acquire().await?;
        match write_all(&mut connection, claim, codes, first_position, edge).await {
            Ok(taken) => Ok(taken),
            Err(error) => {
                discard(connection);
                if !is_conflict(&error) {
                    return Err(error);
                }
                debug!(chunk = describe(claim), "another code of the business has the same value");
                Ok(BulkOutcome::Conflict)
            }
        }
    }

    /// Writes the candidates in their order, one for each position, and skips codes that exist already. The slow method,
    /// for chunks in which the fast one found an existing code.
    pub async fn finish_generated_around(
        &self,
        claim: &Claim,
        candidates: &[Codes],
        wanted: u64,
        first_position: i32,
        edge: Edge,
    ) -> Result<BulkOutcome> {
        let mut connection = self.pool.acquire().await?;
        match write_around(&mut connection, claim, candidates, wanted, first_position, edge).await {
            Ok(taken) => Ok(taken),
            Err(error) => {
                discard(connection);
                Err(error)
            }
        }
    }

    /// Reserves further indexes for a chunk with missing codes, and stores them with the chunk in the same commit, so that
    /// a retry uses the same indexes. `None` if this worker no longer holds the chunk.
    pub async fn reserve_top_up_if_held(
        &self,
        claim: &Claim,
        pattern: &Pattern,
        count: u64,
    ) -> Result<Option<Range<u64>>> {
        let mut transaction = self.pool.begin().await?;
        let first = reserve(&mut transaction, claim.business, pattern, count).await?;
        let range = first..first + count;
        let noted = query!(
            "update job_chunk
             set work = jsonb_set(work, '{top_ups}', coalesce(work -> 'top_ups', '[]') || jsonb_build_array($4::jsonb))
             where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'",
            claim.job.0,
            claim.number,
            claim.epoch,
            serde_json::to_value(&range).map_err(Error::internal)?
        )
        .execute(&mut *transaction)
        .await?;
        if noted.rows_affected() == 0 {
            return Ok(None);
        }
        transaction.commit().await?;
        Ok(Some(range))
    }

    /// The rejection of a job whose pattern has too few codes left, with their number.
    pub async fn remaining(&self, business: BusinessId, pattern: &Pattern) -> Result<Rejection> {
        let used = self.find_space(business, &pattern.canonical()).await?.map_or(0, |space| space.used);
        let remaining = pattern.capacity().saturating_sub(u128::from(used));
        Ok(Rejection::PatternExhausted { remaining: u64::try_from(remaining).unwrap_or(u64::MAX) })
    }
}

async fn write_all(
    connection: &mut PgConnection,
    claim: &Claim,
    codes: &Codes,
    first_position: i32,
    edge: Edge,
) -> Result<BulkOutcome> {
    let book = claim.book()?;
    let mut transaction = begin(connection, claim).await?;
    lock_open_book(&mut transaction, book).await?;
    let target = "coupon (business_id, book_id, job_id, position, code)";
    let mut rows = CopyRows::start(&mut transaction, target, 5).await?;
    for (code, position) in codes.iter().zip(first_position..) {
        rows.row().uuid(claim.business.0).uuid(book.0).uuid(claim.job.0).int(position).text(code);
        rows.flush_if_full().await?;
    }
    rows.finish().await?;
    finish(transaction, claim, codes.len() as u64, first_position, edge).await
}

async fn write_around(
    connection: &mut PgConnection,
    claim: &Claim,
    candidates: &[Codes],
    wanted: u64,
    first_position: i32,
    edge: Edge,
) -> Result<BulkOutcome> {
    let mut transaction = begin(connection, claim).await?;
    lock_open_book(&mut transaction, claim.book()?).await?;
    stage(&mut transaction, candidates).await?;
    let mut missing = wanted;
    // Each pass fills the remaining positions. An import may take a code between the search and the insert.
    while missing > 0 {
        let filled = fill_holes(&mut transaction, claim, wanted, first_position).await?;
        if filled == 0 {
            return Ok(BulkOutcome::MissingCodes(missing));
        }
        missing -= filled;
    }
    finish(transaction, claim, wanted, first_position, edge).await
}

/// Writes the candidates into a temporary table, in their order.
async fn stage(transaction: &mut PgTransaction<'_>, candidates: &[Codes]) -> Result<()> {
    query!(r#"create temporary table staged_code (place int, code text collate "C") on commit drop"#)
        .execute(&mut **transaction)
        .await?;
    let mut rows = CopyRows::start(transaction, "staged_code (place, code)", 2).await?;
    for (code, place) in candidates.iter().flat_map(Codes::iter).zip(0..) {
        rows.row().int(place).text(code);
        rows.flush_if_full().await?;
    }
    rows.finish().await?;
    Ok(())
}

async fn fill_holes(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    wanted: u64,
    first_position: i32,
) -> Result<u64> {
    let filled = query(include_str!("../sql/fill_holes.sql"))
        .bind(claim.business.0)
        .bind(claim.book()?.0)
        .bind(claim.job.0)
        .bind(first_position)
        .bind(as_i64(wanted))
        .execute(&mut **transaction)
        .await?;
    Ok(filled.rows_affected())
}

/// Counts the new codes, finishes the chunk and commits.
async fn finish(
    mut transaction: PgTransaction<'_>,
    claim: &Claim,
    count: u64,
    first_position: i32,
    edge: Edge,
) -> Result<BulkOutcome> {
    let book = claim.book()?;
    count_new(&mut transaction, book, i32::try_from(count).map_err(Error::internal)?, 0).await?;
    let last_position = first_position + i32::try_from(count).map_err(Error::internal)? - 1;
    if let Task::GenerateCodes(Spec { shared: Some(limits), .. }, _) = &claim.task {
        set_limits(&mut transaction, book, first_position, last_position, limits).await?;
    }
    let mut result = serde_json::json!({ "generatedCount": count });
    if matches!(edge, Edge::First | Edge::Both) {
        result["firstCode"] = code_at(&mut transaction, book, first_position).await?.into();
    }
    if matches!(edge, Edge::Last | Edge::Both) {
        result["lastCode"] = code_at(&mut transaction, book, last_position).await?.into();
    }
    let finished = Finished { succeeded: as_i64(count), result, ..Finished::default() };
    let Some(status) = finish_if_held(&mut transaction, claim, &finished).await? else {
        transaction.rollback().await?;
        return Ok(BulkOutcome::Lost);
    };
    transaction.commit().await?;
    metrics::job_ended(claim.task.kind(), status);
    Ok(BulkOutcome::Finished)
}

/// Makes the codes at these positions SHARED ones with these limits.
async fn set_limits(
    transaction: &mut PgTransaction<'_>,
    book: BookId,
    first_position: i32,
    last_position: i32,
    limits: &SharedLimits,
) -> Result<()> {
    query!(
        "update coupon set lock_count = 0, last_use = 0, max_redemptions = $4, max_redeems_per_user = $5, starts_at = $6, expires_at = $7
         where book_id = $1 and position between $2 and $3 and version = 0",
        book.0,
        first_position,
        last_position,
        limits.max_redemptions,
        limits.max_redeems_per_user,
        limits.starts_at,
        limits.expires_at
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn code_at(transaction: &mut PgTransaction<'_>, book: BookId, position: i32) -> Result<String> {
    Ok(query_scalar!("select code from coupon where book_id = $1 and position = $2", book.0, position)
        .fetch_one(&mut **transaction)
        .await?)
}
