//! The comparison of statistics with a recount of codes, events and redemptions.
//!
//! **Invariant.** Each comparison is one statement: its recount and its sums are of one snapshot, whatever is written meanwhile.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, query, query_file};
use uuid::Uuid;

use crate::error::{Error, Result};
use cuponera_domain::id::BookId;

use super::Store;

/// A number that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The id of the book or the business.
    pub scope: Uuid,
    /// What is counted.
    pub number: String,
    /// The bucket of a quarter of an hour; `None` for the current state.
    pub bucket_at: Option<DateTime<Utc>>,
    /// The stored number.
    pub stored: i64,
    /// The recounted number.
    pub recounted: i64,
}

macro_rules! differences {
    ($connection:expr, $found:expr, $file:literal, $book:expr) => {
        for row in query_file!($file, $book).fetch_all(&mut *$connection).await? {
            $found.push(Difference {
                scope: row.scope_id,
                number: row.number,
                bucket_at: row.bucket_at,
                stored: row.stored,
                recounted: row.recounted,
            });
        }
    };
}

impl Store {
    /// The numbers of a book, or of all books and businesses, that differ from their recount. Reads whole tables, without a timeout.
    pub async fn reconcile(&self, book: Option<BookId>) -> Result<Vec<Difference>> {
        if self.backfill_remains(&self.pool).await? {
            return Err(Error::internal(
                "the events of an earlier version are still being counted: start a worker, and wait for it",
            ));
        }
        let mut connection = self.pool.acquire().await?.detach();
        query("select set_config('statement_timeout', '0', false)").execute(&mut connection).await?;
        compare_statistics(&mut connection, book).await
    }
}

/// The same, on a connection of the caller's.
pub async fn compare_statistics(
    connection: &mut PgConnection,
    book: Option<BookId>,
) -> Result<Vec<Difference>> {
    let book = book.map(|book| book.0);
    let mut found = Vec::new();
    differences!(connection, found, "src/sql/reconcile_counts.sql", book);
    differences!(connection, found, "src/sql/reconcile_events.sql", book);
    differences!(connection, found, "src/sql/reconcile_redeem_times.sql", book);
    differences!(connection, found, "src/sql/reconcile_amounts.sql", book);
    Ok(found)
}
