//! The steps of a distribution: its members are noted, codes are reserved, the codes are allocated to the members, and assigned.
//!
//! **Invariants.** Each step commits its effect with its settling. A code is assigned only after its row is locked, and counted
//! towards its user after that: a limit that was reached meanwhile leaves the code free. Rows are locked in this order: the slice,
//! the book, coupons, quotas, the chunk, the job.

mod slice;

use serde_json::json;
use sqlx::{PgExecutor, PgTransaction, query, query_file, query_file_scalar, query_scalar};

use crate::Store;
use crate::deletion::Step;
use crate::distribution::{as_room, check_assignable};
use crate::error::{Error, Result};
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held, stop_job_if_held};
use crate::pool;
use cuponera_domain::distribution::OnShortage;
use cuponera_domain::id::BookId;
use cuponera_domain::job::ChunkWork;
use cuponera_domain::job::distribute::{CODES_PER_SLICE, CODES_RESERVED_AT_ONCE, Chunk, Spec};
use cuponera_domain::rejection::Rejection;

use super::space::as_i64;

impl Store {
    /// The first step: notes the members of the pool, and how many codes they can be given.
    pub async fn finish_noted_members(&self, claim: &Claim, spec: &Spec) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        pool::hold(&mut transaction, claim.business, spec.pool).await?;
        query_file!("src/sql/note_members.sql", claim.job.0, spec.pool.0, spec.book.0)
            .execute(&mut *transaction)
            .await?;
        let rooms = rooms(&mut *transaction, claim).await?;
        let needed = spec.rules.needed(&rooms);
        let first = Chunk::Reserve { needed, from_position: 0, waits: false };
        let finished = Finished {
            result: json!({ "members": rooms.len() }),
            next: if needed > 0 { steps([first]) } else { Vec::new() },
            total: Some(as_i64(needed)),
            ..Finished::default()
        };
        self.finish_step_of(transaction, claim, finished).await
    }

    /// The only step of a distribution that is not to be done: computes the result.
    pub async fn finish_previewed(&self, claim: &Claim, spec: &Spec) -> Result<Step> {
        let preview = self.preview(claim.business, spec.pool, spec.book, spec.rules).await?;
        let result = serde_json::to_value(&preview).map_err(Error::internal)?;
        let mut connection = self.pool.acquire().await?;
        let transaction = begin(&mut connection, claim).await?;
        let finished = Finished { result, total: Some(0), ..Finished::default() };
        self.finish_step_of(transaction, claim, finished).await
    }

    /// A middle step: reserves further codes. When the book has no more, the distribution ends or goes on with those it has.
    pub async fn finish_reserved_codes(
        &self,
        claim: &Claim,
        spec: &Spec,
        needed: u64,
        from_position: i32,
        waits: bool,
    ) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        let (before, next_number) = reserved_so_far(&mut *transaction, claim).await?;
        let wanted = needed.saturating_sub(before).min(CODES_RESERVED_AT_ONCE);
        let positions = reserve(&mut transaction, claim, spec.book, from_position, wanted, waits).await?;
        note_slices(&mut transaction, claim, spec.book, next_number, &positions).await?;
        let reserved = before + positions.len() as u64;
        let next = match positions.last() {
            _ if reserved >= needed => Chunk::Allocate { needed },
            Some(last) if positions.len() as u64 == wanted => {
                Chunk::Reserve { needed, from_position: last + 1, waits }
            }
            _ if !waits => Chunk::Reserve { needed, from_position: 0, waits: true },
            _ if spec.rules.on_shortage == OnShortage::Partial => Chunk::Allocate { needed },
            _ => return self.stop_for_shortage(transaction, claim, needed, reserved).await,
        };
        self.finish_step_of(transaction, claim, then([next])).await
    }

    /// A middle step: decides how many of the reserved codes each member gets.
    pub async fn finish_allocated(&self, claim: &Claim, spec: &Spec, needed: u64) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let slices = query!(
            "select number, codes from distribution_slice
             where job_id = $1 and positions is not null and ordinals is null order by number for update",
            claim.job.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let slices: Vec<(i32, i32)> = slices.into_iter().map(|row| (row.number, row.codes)).collect();
        let reserved: u64 = slices.iter().map(|(_, codes)| u64::try_from(*codes).unwrap_or(0)).sum();
        if reserved < needed && spec.rules.on_shortage == OnShortage::Fail {
            // The job had failed, and its codes were released before it was retried.
            let again = Chunk::Reserve { needed, from_position: 0, waits: false };
            return self.finish_step_of(transaction, claim, then([again])).await;
        }
        let (rooms, rules) = (rooms(&mut *transaction, claim).await?, spec.rules);
        let allocated = tokio::task::spawn_blocking(move || rules.allocate(&rooms, reserved.min(needed)));
        let allocated = allocated.await.map_err(Error::internal)?;
        fill_slices(&mut transaction, claim, &slices, &allocated.counts).await?;
        query!(
            "update distribution set level = $2 where job_id = $1",
            claim.job.0,
            i32::try_from(allocated.level).unwrap_or(i32::MAX)
        )
        .execute(&mut *transaction)
        .await?;
        let finished = Finished {
            total: Some(as_i64(allocated.total())),
            result: json!({ "short": needed.saturating_sub(reserved) }),
            ..then(slices.iter().map(|(slice, _)| Chunk::Assign { slice: *slice }))
        };
        self.finish_step_of(transaction, claim, finished).await
    }

    /// Fails the job because the book has too few codes. Housekeeping releases what it has reserved.
    async fn stop_for_shortage(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        needed: u64,
        available: u64,
    ) -> Result<Step> {
        let rejection = Rejection::NotEnoughCodes { needed, available };
        let stopped = stop_job_if_held(&mut transaction, claim, &rejection).await?;
        // The job's row is locked after the chunk's by now.
        query!(
            "update job set result = result || $2 where id = $1 and status = 'FAILED'",
            claim.job.0,
            json!({ "needed": needed, "available": available })
        )
        .execute(&mut *transaction)
        .await?;
        Ok(match self.commit_if_held(transaction, claim, stopped).await? {
            ClaimState::Held => Step::Stopped,
            ClaimState::Lost => Step::Lost,
        })
    }

    async fn finish_step_of(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        finished: Finished,
    ) -> Result<Step> {
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        Ok(match self.commit_if_held(transaction, claim, status).await? {
            ClaimState::Held => Step::Finished,
            ClaimState::Lost => Step::Lost,
        })
    }
}

fn steps(chunks: impl IntoIterator<Item = Chunk>) -> Vec<ChunkWork> {
    chunks.into_iter().map(ChunkWork::Distribute).collect()
}

/// A step that assigns nothing, and those that follow.
fn then(chunks: impl IntoIterator<Item = Chunk>) -> Finished {
    Finished { result: json!({}), next: steps(chunks), ..Finished::default() }
}

fn count(codes: usize) -> i32 {
    i32::try_from(codes).unwrap_or(i32::MAX)
}

/// How many codes each member may still get, in the order of the members.
async fn rooms(executor: impl PgExecutor<'_>, claim: &Claim) -> Result<Vec<u32>> {
    let rooms =
        query_scalar!("select room from distribution_member where job_id = $1 order by ordinal", claim.job.0);
    Ok(rooms.fetch_all(executor).await?.into_iter().map(as_room).collect())
}

/// How many codes the job has reserved, and the number of its next slice.
async fn reserved_so_far(executor: impl PgExecutor<'_>, claim: &Claim) -> Result<(u64, i32)> {
    let row = query!(
        r#"select coalesce(sum(codes) filter (where positions is not null), 0)::bigint as "codes!",
                  coalesce(max(number) + 1, 0) as "next!" from distribution_slice where job_id = $1"#,
        claim.job.0
    )
    .fetch_one(executor)
    .await?;
    Ok((u64::try_from(row.codes).unwrap_or(0), row.next))
}

/// Reserves codes from a position on, and returns their positions in order.
async fn reserve(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    book: BookId,
    from_position: i32,
    wanted: u64,
    waits: bool,
) -> Result<Vec<i32>> {
    let (business, job, wanted) = (claim.business.0, claim.job.0, as_i64(wanted));
    let transaction = &mut **transaction;
    let positions = if waits {
        query_file_scalar!("src/sql/reserve_held_codes.sql", business, book.0, job, from_position, wanted)
            .fetch_all(transaction)
            .await?
    } else {
        query_file_scalar!("src/sql/reserve_codes.sql", business, book.0, job, from_position, wanted)
            .fetch_all(transaction)
            .await?
    };
    Ok(positions)
}

/// Notes the codes at these positions as slices.
async fn note_slices(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    book: BookId,
    next_number: i32,
    positions: &[i32],
) -> Result<()> {
    let slices = positions.chunks(usize::try_from(CODES_PER_SLICE).map_err(Error::internal)?);
    for (number, slice) in (next_number..).zip(slices) {
        query!(
            "insert into distribution_slice (job_id, number, book_id, codes, positions) values ($1, $2, $3, $4, $5)",
            claim.job.0,
            number,
            book.0,
            count(slice.len()),
            slice
        )
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Divides the members with codes among the slices: each slice gets as many codes for members as it has reserved. A member may have
/// codes of several slices.
async fn fill_slices(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    slices: &[(i32, i32)],
    counts: &[u32],
) -> Result<()> {
    let mut members = (0_i32..).zip(counts.iter().copied()).filter(|(_, count)| *count > 0);
    let mut rest: Option<(i32, u32)> = None;
    for (number, codes) in slices {
        let mut left = u32::try_from(*codes).map_err(Error::internal)?;
        let (mut ordinals, mut parts) = (Vec::new(), Vec::new());
        while left > 0
            && let Some((ordinal, wanted)) = rest.take().or_else(|| members.next())
        {
            let part = wanted.min(left);
            left -= part;
            ordinals.push(ordinal);
            parts.push(i32::try_from(part).map_err(Error::internal)?);
            rest = (wanted > part).then_some((ordinal, wanted - part));
        }
        query!(
            "update distribution_slice set ordinals = $3, counts = $4 where job_id = $1 and number = $2",
            claim.job.0,
            number,
            &ordinals,
            &parts
        )
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
