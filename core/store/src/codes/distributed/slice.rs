//! The last step of a distribution: the codes of a slice, for its members.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{PgConnection, PgTransaction, query, query_file, query_file_as};

use crate::Store;
use crate::deletion::Step;
use crate::distribution::{check_assignable, clear_reservations};
use crate::error::{Error, Result};
use crate::job::claim::{Claim, begin};
use crate::job::finish::Finished;
use cuponera_domain::id::BookId;
use cuponera_domain::job::distribute::Spec;

use super::super::chunk::discard;
use super::super::copy::CopyRows;
use super::super::give::{HeldCode, give, grant};
use super::{count, then};

/// A slice whose codes are to be assigned.
struct Slice {
    number: i32,
    codes: i32,
    /// The positions of its reserved codes; `None` if they were released.
    positions: Option<Vec<i32>>,
    ordinals: Vec<i32>,
    counts: Vec<i32>,
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
    /// A last step: assigns the codes of a slice to its members.
    pub async fn finish_assigned_slice(&self, claim: &Claim, spec: &Spec, slice: i32) -> Result<Step> {
        let mut connection = self.pool.acquire().await?;
        let finished = self.assign_slice(&mut connection, claim, spec, slice).await;
        if finished.is_err() {
            discard(connection);
        }
        finished
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
            return self.finish_step_of(transaction, claim, then([])).await;
        };
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        let codes = hold_codes(&mut transaction, claim, spec.book, &slice).await?;
        let mut shares = wish(&mut transaction, claim, &slice, codes.len()).await?;
        deal(&mut transaction, spec.book, &mut shares, &codes).await?;
        let given: i32 = shares.iter().map(|share| count(share.codes.len())).sum();
        assign(&mut transaction, claim, spec.book, &shares).await?;
        note_given(&mut transaction, claim, number, &shares).await?;
        if let Some(positions) = &slice.positions
            && given < slice.codes
        {
            clear_reservations(&mut *transaction, spec.book, claim.job, positions).await?;
        }
        query!("delete from distribution_slice where job_id = $1 and number = $2", claim.job.0, number)
            .execute(&mut *transaction)
            .await?;
        let missing = slice.codes - count(codes.len());
        let finished = Finished {
            succeeded: i64::from(given),
            failed: i64::from(slice.codes - given),
            result: json!({ "given": given, "short": missing }),
            ..Finished::default()
        };
        self.finish_step_of(transaction, claim, finished).await
    }
}

/// Locks a slice. `None` if it is done.
async fn hold_slice(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    number: i32,
) -> Result<Option<Slice>> {
    let row = query!(
        r#"select codes, positions, ordinals as "ordinals!", counts as "counts!"
           from distribution_slice where job_id = $1 and number = $2 for update"#,
        claim.job.0,
        number
    )
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row.map(|row| Slice {
        number,
        codes: row.codes,
        positions: row.positions,
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
    if let Some(positions) = &slice.positions {
        let reserved =
            query_file_as!(HeldCode, "src/sql/hold_reserved_codes.sql", book.0, positions, claim.job.0);
        codes = reserved.fetch_all(&mut **transaction).await?;
    }
    let missing = i64::from(slice.codes) - i64::try_from(codes.len()).map_err(Error::internal)?;
    if missing > 0 {
        tracing::info!(slice = slice.number, missing, "reserved codes are gone: others are taken");
        let free = query_file_as!(HeldCode, "src/sql/hold_free_codes.sql", book.0, missing);
        codes.extend(free.fetch_all(&mut **transaction).await?);
        // Those that another program has assigned are still marked.
        let positions = slice.positions.as_deref().unwrap_or_default();
        clear_reservations(&mut **transaction, book, claim.job, positions).await?;
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
    let members = query_file!("src/sql/slice_members.sql", claim.business.0, claim.job.0, &slice.ordinals)
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
    let granted = grant(transaction, book, &wanted).await?;
    for share in shares {
        let given = granted.get(&share.holder).copied().unwrap_or(0).min(share.wanted);
        if given < share.wanted {
            share.note = Some("limit_reached");
        }
        (share.codes, codes) = codes.split_at(usize::try_from(given).map_err(Error::internal)?);
    }
    Ok(())
}

/// Assigns the codes of the shares.
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
    give(transaction, claim, book, &given).await
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
