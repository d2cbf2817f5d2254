//! The transaction of a chunk that writes codes: the book that it locks, the counts, and the errors that it may repeat.

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{PgTransaction, Postgres, query};

use crate::error::{Error, Result};
use crate::job::claim::Claim;
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;

/// Locks the book against deletion until the transaction ends, and checks that codes may still be added. Returns the time
/// of the transaction.
pub(super) async fn lock_open_book(
    transaction: &mut PgTransaction<'_>,
    book: BookId,
) -> Result<DateTime<Utc>> {
    let held =
        query!(r#"select status, now() as "now!" from coupon_book where id = $1 for key share"#, book.0)
            .fetch_optional(&mut **transaction)
            .await?
            .ok_or_else(|| Rejection::not_found("coupon book"))?;
    if held.status == "CLOSED" { Err(Rejection::BookClosed.into()) } else { Ok(held.now) }
}

/// Adds new codes to the book's counts.
pub(super) async fn count_new(
    transaction: &mut PgTransaction<'_>,
    book: BookId,
    added: i32,
    assigned: i32,
) -> Result<()> {
    query!(
        "insert into book_delta (book_id, generated, available, assigned) values ($1, $2, $3, $4)",
        book.0,
        added,
        added - assigned,
        assigned
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Whether an error means that another transaction has inserted a row with this code or position, or a deadlock of two
/// batches. The same batch may be attempted again.
pub(super) fn is_conflict(error: &Error) -> bool {
    let (Error::Internal(source) | Error::Unavailable(source)) = error else { return false };
    let Some(sqlx::Error::Database(cause)) = source.downcast_ref::<sqlx::Error>() else { return false };
    cause.constraint() == Some("coupon_pkey") || cause.code().as_deref() == Some("40P01")
}

/// Closes a connection whose COPY failed: its state is unknown.
pub(super) fn discard(mut connection: PoolConnection<Postgres>) {
    connection.close_on_drop();
}

/// The name of a chunk in log lines.
pub(super) fn describe(claim: &Claim) -> String {
    format!("{}#{}", claim.job, claim.number)
}
