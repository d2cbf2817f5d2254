//! Books: create, change, list. [`super::deletion`] deletes them.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, PgTransaction, query, query_file, query_scalar};

use crate::GenerateId;
use crate::error::{Error, Result};
use crate::stored_kind::StoredKind;
use cuponera_domain::book::{Book, BookPatch, BookRules, BookStatus, Counts};
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::time_zone::{DEFAULT_TIME_ZONE, unknown_zone};

use super::Store;
use super::request_key::{CallResult, IdempotencyKey, KeyedChange};

/// A row of a statement that reads whole books.
macro_rules! book {
    ($row:expr) => {{
        let row = $row;
        Book {
            id: BookId(row.id),
            business: BusinessId(row.business_id),
            status: BookStatus::parse(&row.status)
                .ok_or_else(|| Error::internal("an unknown book status"))?,
            rules: BookRules {
                name: row.name,
                description: row.description,
                code_kind: row.code_kind.0,
                max_codes_per_user: row.max_codes_per_user,
                max_redeems_per_user: row.max_redeems_per_user,
                total_codes_expected: row.total_codes_expected,
                starts_at: row.starts_at,
                expires_at: row.expires_at,
                schedule: row.schedule.map(serde_json::from_value).transpose().map_err(Error::internal)?,
                time_zone: row.time_zone,
                code_valid_days: row.code_valid_days,
                lock_ttl_seconds: row.lock_ttl_seconds,
                require_lock: row.require_lock,
                discount: row.discount.map(serde_json::from_value).transpose().map_err(Error::internal)?,
                metadata: row.metadata,
            },
            counts: Counts {
                available: row.available,
                assigned: row.assigned,
                locked: row.locked,
                redeemed: row.redeemed,
                void: row.void,
            },
            is_expired: row.is_expired,
            is_active: row.is_active,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }};
}

/// Maximum number of books that a page examines. With its name and description a row may have 6 KB: a page reads less
/// than 6 MB.
pub const MAX_BOOKS_EXAMINED: i64 = 1_000;
/// Maximum number of expired books that a statement records.
const MAX_EXPIRIES: i64 = 100;
/// Maximum number of books that are counted for the total of a list.
const MAX_BOOKS_COUNTED: i64 = 10_000;

impl Store {
    /// Creates a book in `DRAFT`; rejected if its `expires_at` has passed.
    pub async fn create_book(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        rules: &BookRules,
    ) -> Result<CallResult<Book>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            rules.check()?;
            check_zone(&mut open.transaction, &rules.time_zone).await?;
            let id = BookId::generate();
            insert(&mut open.transaction, business, id, rules).await?;
            get(&mut *open.transaction, business, id).await
        }
        .await;
        open.commit(outcome).await
    }

    /// Creates a book in `DRAFT` with the rules of another one.
    pub async fn clone_book(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: BookId,
        name: Option<String>,
    ) -> Result<CallResult<Book>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let original = get(&mut *open.transaction, business, id).await?;
            let rules = original.rules.for_clone(name, now(&mut open.transaction).await?);
            rules.check()?;
            let id = BookId::generate();
            insert(&mut open.transaction, business, id, &rules).await?;
            get(&mut *open.transaction, business, id).await
        }
        .await;
        open.commit(outcome).await
    }

    /// The book, if it belongs to the business.
    pub async fn get_book(&self, business: BusinessId, id: BookId) -> Result<Book> {
        get(&self.reads, business, id).await
    }

    /// Records the books that have expired, as admin events; returns their number.
    pub async fn record_expiries(&self) -> Result<u64> {
        let recorded = query_file!("src/sql/record_expiries.sql", MAX_EXPIRIES).fetch_all(&self.pool).await?;
        u64::try_from(recorded.len()).map_err(Error::internal)
    }

    /// A business's books, newest first. A page may be short. The total is absent if the business has more than 10,000
    /// books.
    pub async fn list_books(
        &self,
        business: BusinessId,
        status: Option<BookStatus>,
        name_part: Option<&str>,
        after: Option<BookId>,
        limit: u32,
    ) -> Result<Page<Book>> {
        let name_part = name_part.map(escape_like);
        let rows = query_file!(
            "src/sql/books.sql",
            business.0,
            status.map(BookStatus::as_str),
            name_part,
            after.map(|id| id.0),
            MAX_BOOKS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
            Ok(examined(book!(row)))
        });
        let mut page =
            Page::of_examined(rows.collect::<Result<_>>()?, limit, |book: &Book| book.id.to_string());
        page.total = if after.is_none() && page.next_cursor.is_none() {
            i64::try_from(page.items.len()).ok()
        } else {
            self.count_books(business, status, name_part.as_deref()).await?
        };
        Ok(page)
    }

    /// The number of books in a list; `None` if the business has more than [`MAX_BOOKS_COUNTED`].
    async fn count_books(
        &self,
        business: BusinessId,
        status: Option<BookStatus>,
        name_part: Option<&str>,
    ) -> Result<Option<i64>> {
        let counted = query_file!(
            "src/sql/count_books.sql",
            business.0,
            status.map(BookStatus::as_str),
            name_part,
            MAX_BOOKS_COUNTED + 1
        )
        .fetch_one(&self.reads)
        .await?;
        Ok((counted.examined <= MAX_BOOKS_COUNTED).then_some(counted.found))
    }

    /// Changes a book under the lock of its row, so that concurrent changes run in sequence.
    pub async fn update_book(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: BookId,
        patch: BookPatch,
    ) -> Result<CallResult<Book>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            lock_for_change(&mut open.transaction, business, id).await?;
            let book = get(&mut *open.transaction, business, id).await?;
            let (status, rules) = patch.apply(&book)?;
            if rules.time_zone != book.rules.time_zone {
                check_zone(&mut open.transaction, &rules.time_zone).await?;
            }
            write_if_kind_is_open(&mut open.transaction, id, status, &rules).await?;
            get(&mut *open.transaction, business, id).await
        }
        .await;
        open.commit(outcome).await
    }
}

/// Locks the book's row for a change of its rules. Other changes wait; chunks that add codes do not.
pub(super) async fn lock_for_change(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: BookId,
) -> Result<()> {
    query_scalar!(
        "select id from coupon_book where id = $1 and business_id = $2 for no key update",
        id.0,
        business.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Rejection::not_found("coupon book"))?;
    Ok(())
}

/// Rejects a time zone that Postgres does not know by this name. Postgres reads a name that is also an abbreviation, such as `CET`, as that
/// abbreviation, whose offset never changes.
async fn check_zone(transaction: &mut PgTransaction<'static>, time_zone: &str) -> Result<()> {
    if time_zone == DEFAULT_TIME_ZONE {
        return Ok(());
    }
    let is_known = query_scalar!(
        r#"select exists (select from pg_timezone_names
                          where name = $1 and name !~ '^(posix/|right/|posixrules$|localtime$|Factory$)')
                  and not exists (select from pg_timezone_abbrevs where abbrev = upper($1)) as "is_known!""#,
        time_zone
    )
    .fetch_one(&mut **transaction)
    .await?;
    if is_known { Ok(()) } else { Err(unknown_zone().into()) }
}

async fn now(transaction: &mut PgTransaction<'static>) -> Result<DateTime<Utc>> {
    Ok(query_scalar!(r#"select now() as "now!""#).fetch_one(&mut **transaction).await?)
}

/// Inserts a book in `DRAFT`, in one statement: a change of it would be another admin event.
async fn insert(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: BookId,
    rules: &BookRules,
) -> Result<()> {
    let made = query!(
        "insert into coupon_book (id, business_id, name, description, max_codes_per_user, max_redeems_per_user, total_codes_expected,
                                  starts_at, expires_at, lock_ttl_seconds, require_lock, discount, metadata, code_valid_days,
                                  code_kind, schedule, time_zone)
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17
         where $9::timestamptz is null or $9 > now()",
        id.0,
        business.0,
        rules.name.trim(),
        rules.description,
        rules.max_codes_per_user,
        rules.max_redeems_per_user,
        rules.total_codes_expected,
        rules.starts_at,
        rules.expires_at,
        rules.lock_ttl_seconds,
        rules.require_lock,
        discount_of(rules)?,
        rules.metadata,
        rules.code_valid_days,
        rules.code_kind.as_str(),
        schedule_of(rules)?,
        rules.time_zone
    )
    .execute(&mut **transaction)
    .await?;
    if made.rows_affected() == 0 {
        return Err(Rejection::invalid("expiresAt", "must be in the future").into());
    }
    Ok(())
}

/// Writes the rules of a locked book. Its `code_kind` changes only while no positions are reserved: a job that adds codes reserves them with
/// an update of this row, so it either comes first and is seen here, or creates codes of the new kind.
async fn write_if_kind_is_open(
    transaction: &mut PgTransaction<'static>,
    id: BookId,
    status: BookStatus,
    rules: &BookRules,
) -> Result<()> {
    let written = query!(
        "update coupon_book
         set status = $2, name = $3, description = $4, max_codes_per_user = $5, max_redeems_per_user = $6,
             total_codes_expected = $7, starts_at = $8, expires_at = $9, lock_ttl_seconds = $10, require_lock = $11,
             discount = $12, metadata = $13, code_valid_days = $14, code_kind = $15, schedule = $16,
             time_zone = $17, updated_at = now()
         where id = $1 and (code_kind = $15 or next_position = 0)",
        id.0,
        status.as_str(),
        rules.name.trim(),
        rules.description,
        rules.max_codes_per_user,
        rules.max_redeems_per_user,
        rules.total_codes_expected,
        rules.starts_at,
        rules.expires_at,
        rules.lock_ttl_seconds,
        rules.require_lock,
        discount_of(rules)?,
        rules.metadata,
        rules.code_valid_days,
        rules.code_kind.as_str(),
        schedule_of(rules)?,
        rules.time_zone
    )
    .execute(&mut **transaction)
    .await?;
    if written.rows_affected() == 0 {
        return Err(Rejection::CodeKindFixed.into());
    }
    Ok(())
}

fn discount_of(rules: &BookRules) -> Result<Option<serde_json::Value>> {
    rules.discount.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)
}

fn schedule_of(rules: &BookRules) -> Result<Option<serde_json::Value>> {
    rules.schedule.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)
}

pub(super) async fn get(executor: impl PgExecutor<'_>, business: BusinessId, id: BookId) -> Result<Book> {
    let row = query_file!("src/sql/book.sql", business.0, id.0).fetch_optional(executor).await?;
    let row = row.ok_or_else(|| Rejection::not_found("coupon book"))?;
    Ok(book!(row))
}

/// Escapes a text for LIKE.
fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
