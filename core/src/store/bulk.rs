//! Bulk rows: codes go in by binary `COPY` of sorted batches, straight into the table. A clash takes the batch back; what
//! then follows is the caller's choice.
//!
//! **Invariant.** The rows of a chunk, the counts they add and the chunk's settling commit together.

mod copy;
mod dealt;
mod distributed;
mod generated;
mod imported;
mod members;
mod rehearsed;
mod rejection;

use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgTransaction, Postgres, query, query_scalar};

use crate::error::{Error, Refusal, Result};
use crate::id::BookId;

use super::chunk::Claim;

pub use imported::{ImportPart, ImportRow, Rejected, SampleRow};
pub use rejection::{Rejection, RejectionCursor, RejectionPage};

/// What became of a chunk's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// They are committed and the chunk is settled.
    Settled,
    /// The chunk is no longer this worker's, or the job was stopped; nothing was written.
    Lost,
    /// A code that stands already is among them; nothing was written.
    Clash,
    /// So many codes are missing, since foreign ones stand in the way; nothing was written.
    Short(u64),
}

/// Begins the transaction of a chunk, under a name that says whose it is: what a process holds that freezes in it is taken
/// from it once its lease is over ([`Store::end_lapsed_sessions`]).
pub(super) async fn begin<'c>(
    connection: &'c mut PgConnection,
    claim: &Claim,
) -> Result<sqlx::Transaction<'c, Postgres>> {
    let mut transaction = connection.begin().await?;
    query_scalar!("select set_config('application_name', $1, true)", claim.session_name())
        .fetch_one(&mut *transaction)
        .await?;
    Ok(transaction)
}

/// Holds the book against deletion until the transaction ends, and makes sure that codes may still be added; answers the
/// transaction's time.
async fn hold_open_book(transaction: &mut PgTransaction<'_>, book: BookId) -> Result<DateTime<Utc>> {
    let held =
        query!(r#"select status, now() as "now!" from coupon_book where id = $1 for key share"#, book.0)
            .fetch_optional(&mut **transaction)
            .await?
            .ok_or_else(|| Refusal::not_found("coupon book"))?;
    if held.status == "CLOSED" { Err(Refusal::BookClosed.into()) } else { Ok(held.now) }
}

/// Adds new codes to the book's counts.
async fn count_new(
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

/// Whether an error means that a row with this code or position came in meanwhile, or that two batches wait for each
/// other: the same batch may be looked at again.
fn is_clash(error: &Error) -> bool {
    let (Error::Internal(source) | Error::Unavailable(source)) = error else { return false };
    let Some(sqlx::Error::Database(cause)) = source.downcast_ref::<sqlx::Error>() else { return false };
    cause.constraint() == Some("coupon_pkey") || cause.code().as_deref() == Some("40P01")
}

/// Ends a connection whose COPY failed: it must not serve anybody else.
fn discard(mut connection: PoolConnection<Postgres>) {
    connection.close_on_drop();
}

/// The codes of a claim as the log calls them.
fn describe(claim: &Claim) -> String {
    format!("{}#{}", claim.job, claim.number)
}
