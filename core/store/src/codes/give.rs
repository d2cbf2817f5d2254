//! Free codes that a transaction holds, counted towards users and assigned to them: for distributions and for uploads of assignments.

use std::collections::BTreeMap;

use sqlx::{PgTransaction, query, query_file};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::{Error, Result};
use crate::job::claim::Claim;
use cuponera_domain::id::{AssignmentId, BookId, EventId};

use super::copy::CopyRows;

/// A free code that the transaction holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeldCode {
    pub(super) code: String,
    pub(super) position: i32,
    pub(super) version: i32,
}

/// Counts codes towards users, as many as their limits allow; users without room are omitted. Once in a transaction, because quotas are
/// locked in the order of one statement.
pub(super) async fn grant(
    transaction: &mut PgTransaction<'_>,
    book: BookId,
    wanted: &BTreeMap<&str, i32>,
) -> Result<BTreeMap<String, i32>> {
    let granted = query_file!(
        "src/sql/grant_codes.sql",
        book.0,
        &wanted.keys().map(|user| (*user).to_owned()).collect::<Vec<_>>(),
        &wanted.values().copied().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(granted.into_iter().map(|row| (row.user_id, row.granted)).collect())
}

/// Assigns codes to their users, with their events, and changes the book's counts.
pub(super) async fn give(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    book: BookId,
    given: &[(&str, &HeldCode)],
) -> Result<()> {
    if given.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = given.iter().map(|_| AssignmentId::generate().0).collect();
    let assigned = query_file!(
        "src/sql/assign_distributed.sql",
        claim.business.0,
        &given.iter().map(|(_, code)| code.code.clone()).collect::<Vec<_>>(),
        &given.iter().map(|(holder, _)| (*holder).to_owned()).collect::<Vec<_>>(),
        &ids,
        book.0
    )
    .execute(&mut **transaction)
    .await?;
    if assigned.rows_affected() != given.len() as u64 {
        return Err(Error::internal("a code that is held was not free"));
    }
    let actor = format!("job:{}", claim.job);
    let target = "coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)";
    let mut copy = CopyRows::start(transaction, target, 10).await?;
    for (holder, code) in given {
        copy.row().uuid(EventId::generate().0).uuid(claim.business.0).uuid(book.0);
        copy.int(code.position).int(code.version + 1).text("AVAILABLE").text("ASSIGNED").text("ASSIGN");
        copy.text(holder).text(&actor);
        copy.flush_if_full().await?;
    }
    copy.finish().await?;
    query!(
        "insert into book_delta (book_id, available, assigned) values ($1, -$2::int, $2)",
        book.0,
        i32::try_from(given.len()).map_err(Error::internal)?
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
