//! The steps of a distribution: its members are noted, codes are reserved, the codes are allocated to the members, and assigned.
//!
//! **Invariants.** Each step commits its effect with its settling. A code is assigned only after its row is locked, and counted
//! towards its user after that: a limit that was reached meanwhile leaves the code free. Rows are locked in this order: the slice,
//! the book, coupons, quotas, the chunk, the job.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{
    PgConnection, PgExecutor, PgTransaction, query, query_file, query_file_as, query_file_scalar,
    query_scalar,
};
use uuid::Uuid;

use crate::distribution::OnShortage;
use crate::error::{Error, Refusal, Result};
use crate::id::{AssignmentId, BookId, EventId};
use crate::job::ChunkWork;
use crate::job::distribute::{CODES_PER_SLICE, CODES_RESERVED_AT_ONCE, Chunk, Spec};
use crate::store::Store;
use crate::store::chunk::{Claim, Finished, Pulse, finish_if_held, stop_job_if_held};
use crate::store::deletion::Step;
use crate::store::distribution::{as_room, check_assignable, clear_reservations};
use crate::store::pool;
use crate::store::space::as_i64;

use super::copy::CopyRows;
use super::{begin, discard};

/// A slice whose codes are to be assigned.
struct Slice {
    number: i32,
    codes: i32,
    /// The positions between which its reserved codes stand; `None` if they were released.
    positions: Option<(i32, i32)>,
    ordinals: Vec<i32>,
    counts: Vec<i32>,
}

/// A code that the transaction holds.
struct HeldCode {
    code: String,
    position: i32,
    version: i32,
}

/// A member, and what it gets of a slice.
struct Share<'a> {
    ordinal: i32,
    holder: String,
    /// Codes for which the transaction holds rows.
    wanted: i32,
    codes: &'a [HeldCode],
    note: Option<&'static str>,
}

impl Store {
    /// The first step: notes the members of the pool, and how many codes they can be given.
    pub async fn settle_noted_members(&self, claim: &Claim, spec: &Spec) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        pool::hold(&mut transaction, claim.business, spec.pool).await?;
        query_file!("src/store/sql/note_members.sql", claim.job.0, spec.pool.0, spec.book.0)
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
        self.settle_step_of(transaction, claim, finished).await
    }

    /// The only step of a distribution that is not to be done: computes the result.
    pub async fn settle_previewed(&self, claim: &Claim, spec: &Spec) -> Result<Step> {
        let preview = self.preview(claim.business, spec.pool, spec.book, spec.rules).await?;
        let result = serde_json::to_value(&preview).map_err(Error::internal)?;
        let mut connection = self.pool.acquire().await?;
        let transaction = begin(&mut connection, claim).await?;
        let finished = Finished { result, total: Some(0), ..Finished::default() };
        self.settle_step_of(transaction, claim, finished).await
    }

    /// A middle step: reserves further codes. When the book has no more, the distribution ends or goes on with those it has.
    pub async fn settle_reserved_codes(
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
        self.settle_step_of(transaction, claim, then([next])).await
    }

    /// A middle step: decides how many of the reserved codes each member gets.
    pub async fn settle_allocated(&self, claim: &Claim, spec: &Spec, needed: u64) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let slices = query!(
            "select number, codes from distribution_slice
             where job_id = $1 and first_position is not null and ordinals is null order by number for update",
            claim.job.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let slices: Vec<(i32, i32)> = slices.into_iter().map(|row| (row.number, row.codes)).collect();
        let reserved: u64 = slices.iter().map(|(_, codes)| u64::try_from(*codes).unwrap_or(0)).sum();
        if reserved < needed && spec.rules.on_shortage == OnShortage::Fail {
            // The job had failed, and its codes were released before it was retried.
            let again = Chunk::Reserve { needed, from_position: 0, waits: false };
            return self.settle_step_of(transaction, claim, then([again])).await;
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
        self.settle_step_of(transaction, claim, finished).await
    }

    /// A last step: assigns the codes of a slice to its members.
    pub async fn settle_assigned_slice(&self, claim: &Claim, spec: &Spec, slice: i32) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let settled = self.assign_slice(&mut connection, claim, spec, slice).await;
        if settled.is_err() {
            discard(connection);
        }
        settled
    }

    async fn assign_slice(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        spec: &Spec,
        number: i32,
    ) -> Result<Step> {
        let mut transaction = begin(connection, claim).await?;
        let Some(slice) = hold_slice(&mut transaction, claim, number).await? else {
            return self.settle_step_of(transaction, claim, then([])).await;
        };
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        let codes = hold_codes(&mut transaction, claim, spec.book, &slice).await?;
        let mut shares = wish(&mut transaction, claim, &slice, codes.len()).await?;
        let is_short = codes.len() < usize::try_from(slice.codes).unwrap_or(0);
        deal(&mut transaction, spec.book, &mut shares, &codes).await?;
        let given: i32 = shares.iter().map(|share| count(share.codes.len())).sum();
        assign(&mut transaction, claim, spec.book, &shares).await?;
        note_given(&mut transaction, claim, number, &shares).await?;
        if let Some((first, last)) = slice.positions
            && given < slice.codes
        {
            clear_reservations(&mut *transaction, spec.book, claim.job, first, last).await?;
        }
        query!("delete from distribution_slice where job_id = $1 and number = $2", claim.job.0, number)
            .execute(&mut *transaction)
            .await?;
        let missing = if is_short { slice.codes - count(codes.len()) } else { 0 };
        let finished = Finished {
            succeeded: i64::from(given),
            failed: i64::from(slice.codes - given),
            result: json!({ "given": given, "short": missing }),
            ..Finished::default()
        };
        self.settle_step_of(transaction, claim, finished).await
    }

    /// Fails the job because the book has too few codes. Housekeeping releases what it has reserved.
    async fn stop_for_shortage(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        needed: u64,
        available: u64,
    ) -> Result<Step> {
        let refusal = Refusal::NotEnoughCodes { needed, available };
        let stopped = stop_job_if_held(&mut transaction, claim, &refusal).await?;
        // The job's row is locked after the chunk's by now.
        query!(
            "update job set result = result || $2 where id = $1 and status = 'FAILED'",
            claim.job.0,
            json!({ "needed": needed, "available": available })
        )
        .execute(&mut *transaction)
        .await?;
        Ok(match self.commit_if_held(transaction, claim, stopped).await? {
            Pulse::Held => Step::Stopped,
            Pulse::Lost => Step::Lost,
        })
    }

    async fn settle_step_of(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        finished: Finished,
    ) -> Result<Step> {
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        Ok(match self.commit_if_held(transaction, claim, status).await? {
            Pulse::Held => Step::Settled,
            Pulse::Lost => Step::Lost,
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
        r#"select coalesce(sum(codes) filter (where first_position is not null), 0)::bigint as "codes!",
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
        query_file_scalar!(
            "src/store/sql/reserve_held_codes.sql",
            business,
            book.0,
            job,
            from_position,
            wanted
        )
        .fetch_all(transaction)
        .await?
    } else {
        query_file_scalar!("src/store/sql/reserve_codes.sql", business, book.0, job, from_position, wanted)
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
            "insert into distribution_slice (job_id, number, book_id, codes, first_position, last_position)
             values ($1, $2, $3, $4, $5, $6)",
            claim.job.0,
            number,
            book.0,
            count(slice.len()),
            slice[0],
            slice[slice.len() - 1]
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

/// Locks a slice. `None` if it is done.
async fn hold_slice(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    number: i32,
) -> Result<Option<Slice>> {
    let row = query!(
        r#"select codes, first_position, last_position, ordinals as "ordinals!", counts as "counts!"
           from distribution_slice where job_id = $1 and number = $2 for update"#,
        claim.job.0,
        number
    )
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row.map(|row| Slice {
        number,
        codes: row.codes,
        positions: row.first_position.zip(row.last_position),
        ordinals: row.ordinals,
        counts: row.counts,
    }))
}

/// Locks the codes of a slice; for those that it no longer has, other free codes of the book.
async fn hold_codes(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    book: BookId,
    slice: &Slice,
) -> Result<Vec<HeldCode>> {
    let mut codes = Vec::new();
    if let Some((first, last)) = slice.positions {
        let reserved = query_file_as!(
            HeldCode,
            "src/store/sql/hold_reserved_codes.sql",
            book.0,
            first,
            last,
            claim.job.0
        );
        codes = reserved.fetch_all(&mut **transaction).await?;
    }
    let missing = i64::from(slice.codes) - i64::try_from(codes.len()).map_err(Error::internal)?;
    if missing > 0 {
        tracing::info!(slice = slice.number, missing, "reserved codes are gone: others are taken");
        let free = query_file_as!(HeldCode, "src/store/sql/hold_free_codes.sql", book.0, missing);
        codes.extend(free.fetch_all(&mut **transaction).await?);
    }
    Ok(codes)
}

/// What each member of a slice wants of the codes that are held.
async fn wish(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    slice: &Slice,
    codes: usize,
) -> Result<Vec<Share<'static>>> {
    let members =
        query_file!("src/store/sql/slice_members.sql", claim.business.0, claim.job.0, &slice.ordinals)
            .fetch_all(&mut **transaction)
            .await?;
    if members.len() != slice.counts.len() {
        return Err(Error::internal("a member of a slice is not noted"));
    }
    let mut left = count(codes);
    let shares = members.into_iter().zip(&slice.counts).map(|(member, wish)| {
        let wanted = left.min(*wish);
        left -= wanted;
        let note = (wanted < *wish).then_some("not_enough_codes");
        Share { ordinal: member.ordinal, holder: member.holder, wanted, codes: &[], note }
    });
    Ok(shares.collect())
}

/// Counts codes towards the members, as many as their limits allow, and deals these.
async fn deal<'a>(
    transaction: &mut PgTransaction<'_>,
    book: BookId,
    shares: &mut [Share<'a>],
    mut codes: &'a [HeldCode],
) -> Result<()> {
    // In the order in which the rows of quotas are locked. An id is there once: no two ids find the same stored id.
    let wanted: BTreeMap<&str, i32> = shares
        .iter()
        .filter(|share| share.wanted > 0)
        .map(|share| (share.holder.as_str(), share.wanted))
        .collect();
    let granted = query_file!(
        "src/store/sql/grant_codes.sql",
        book.0,
        &wanted.keys().map(|user| (*user).to_owned()).collect::<Vec<_>>(),
        &wanted.values().copied().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    let granted: BTreeMap<String, i32> = granted.into_iter().map(|row| (row.user_id, row.granted)).collect();
    for share in shares {
        let given = granted.get(&share.holder).copied().unwrap_or(0).min(share.wanted);
        if given < share.wanted {
            share.note = Some("limit_reached");
        }
        (share.codes, codes) = codes.split_at(usize::try_from(given).map_err(Error::internal)?);
    }
    Ok(())
}

/// Assigns the codes of the shares, with their events, and changes the book's counts.
async fn assign(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    book: BookId,
    shares: &[Share<'_>],
) -> Result<()> {
    let mut given: Vec<(&str, &HeldCode)> = Vec::new();
    for share in shares {
        given.extend(share.codes.iter().map(|code| (share.holder.as_str(), code)));
    }
    if given.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = given.iter().map(|_| AssignmentId::new().0).collect();
    let assigned = query_file!(
        "src/store/sql/assign_distributed.sql",
        claim.business.0,
        &given.iter().map(|(_, code)| code.code.clone()).collect::<Vec<_>>(),
        &given.iter().map(|(holder, _)| (*holder).to_owned()).collect::<Vec<_>>(),
        &ids
    )
    .execute(&mut **transaction)
    .await?;
    if assigned.rows_affected() != given.len() as u64 {
        return Err(Error::internal("a code that is held was not free"));
    }
    let actor = format!("job:{}", claim.job);
    let target = "coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)";
    let mut copy = CopyRows::start(transaction, target, 10).await?;
    for (holder, code) in &given {
        copy.row().uuid(EventId::new().0).uuid(claim.business.0).uuid(book.0);
        copy.int(code.position).int(code.version + 1).text("AVAILABLE").text("ASSIGNED").text("ASSIGN");
        copy.text(holder).text(&actor);
        copy.flush_if_full().await?;
    }
    copy.finish().await?;
    query!(
        "insert into book_delta (book_id, available, assigned) values ($1, -$2::int, $2)",
        book.0,
        count(given.len())
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Writes what each member got of a slice, for the report.
async fn note_given(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    slice: i32,
    shares: &[Share<'_>],
) -> Result<()> {
    let target = "distribution_given (job_id, ordinal, slice, given, codes, note)";
    let mut copy = CopyRows::start(transaction, target, 6).await?;
    for share in shares {
        let codes: Vec<&str> = share.codes.iter().map(|code| code.code.as_str()).collect();
        copy.row().uuid(claim.job.0).int(share.ordinal).int(slice).int(count(codes.len()));
        copy.text(&codes.join(" "));
        match share.note {
            Some(note) => copy.text(note),
            None => copy.null(),
        };
        copy.flush_if_full().await?;
    }
    copy.finish().await?;
    Ok(())
}
