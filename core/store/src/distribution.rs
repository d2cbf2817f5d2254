//! Distributions: submitted, previewed, listed, reported, and the release of the codes of those that ended early. Their steps are in
//! [`super::codes`].
//!
//! **Invariant.** A code with `reserved_by` stands at a position of a slice of that job. A slice is deleted, or loses its
//! positions, in the transaction that clears `reserved_by` of its codes. So no reservation outlives the job by more than the time
//! until housekeeping has seen its end.

use futures::TryStreamExt;
use serde::Serialize;
use sqlx::{PgExecutor, query, query_file, query_scalar};

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::book::Book;
use cuponera_domain::distribution::{Amount, OnShortage, Rules};
use cuponera_domain::id::{BookId, BusinessId, JobId, PoolId};
use cuponera_domain::job::distribute::{Chunk, Spec};
use cuponera_domain::job::{ChunkWork, Job, JobKind, Work};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::job::discard::check_undiscarded;
use super::job::submit::{self, NewJob};
use super::request_key::{CallResult, IdempotencyKey, KeyedChange};
use super::{book, pool};

/// The largest pool whose distribution a call previews itself; above it, a job does.
pub const MAX_MEMBERS_PREVIEWED: i64 = 100_000;
/// Members that a preview shows.
const SAMPLE_MEMBERS: usize = 20;
/// Distributions that a page of the list examines.
const MAX_EXAMINED: i64 = 1_000;
/// Members, and codes, of a page of a report.
const REPORT_MEMBERS: i64 = 1_000;
const REPORT_CODES: i64 = 20_000;

/// A distribution to be submitted.
#[derive(Debug, Clone, Copy)]
pub struct NewDistribution {
    /// The pool.
    pub pool: PoolId,
    /// The book.
    pub book: BookId,
    /// How many codes each member gets.
    pub rules: Rules,
    /// Whether the job only computes the result.
    pub dry_run: bool,
}

/// The result that a distribution would have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// Members of the pool.
    pub members: u64,
    /// Members that may get a code.
    pub eligible: u64,
    /// Codes that they can be given.
    pub codes_needed: u64,
    /// Free codes that no job has reserved.
    pub codes_available: u64,
    /// The smallest and the largest number of codes of an eligible member.
    pub per_user: PerUser,
    /// Codes that are missing.
    pub short: u64,
    /// The first members, in the order of their ids.
    pub sample: Vec<SampleMember>,
}

/// A range of numbers of codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PerUser {
    /// The smallest.
    pub min: u32,
    /// The largest.
    pub max: u32,
}

/// A member in a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SampleMember {
    /// The user.
    pub user_id: String,
    /// How many codes it would get.
    pub given: u32,
}

/// A filter of the list of distributions.
#[derive(Debug, Clone, Copy, Default)]
pub struct DistributionFilter {
    /// Only of this pool.
    pub pool: Option<PoolId>,
    /// Only of this book.
    pub book: Option<BookId>,
    /// Only older than this one.
    pub after: Option<JobId>,
}

/// A member in the report of a distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportRow {
    /// Its number, from 0.
    pub ordinal: i32,
    /// The user.
    pub user_id: String,
    /// How many codes it got.
    pub given: i64,
    /// The codes, with a space between them.
    pub codes: String,
    /// Why it got fewer than others, if it did.
    pub note: Option<String>,
}

impl Store {
    /// Writes the job of a distribution. Refused if the counts of the book alone show that its codes are too few.
    pub async fn submit_distribution(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        new: NewDistribution,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let transaction = &mut open.transaction;
            pool::hold(transaction, business, new.pool).await?;
            let members = pool::get(&mut **transaction, business, new.pool).await?.member_count;
            let book = book::get(&mut **transaction, business, new.book).await?;
            check_assignable(&mut **transaction, business, new.book).await?;
            if !new.dry_run {
                check_counts(&book, members, &new.rules)?;
            }
            let id = JobId::generate();
            let spec = Spec { book: new.book, pool: new.pool, rules: new.rules, dry_run: new.dry_run };
            let job = NewJob {
                id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(),
                work: Work::Distribute(spec),
                ordered: false,
                total: None,
                chunks: vec![ChunkWork::Distribute(Chunk::NoteMembers)],
                delay: std::time::Duration::ZERO,
                warnings: Vec::new(),
            };
            if !new.dry_run {
                query!(
                    "insert into distribution (job_id, business_id, pool_id, book_id) values ($1, $2, $3, $4)",
                    id.0,
                    business.0,
                    new.pool.0,
                    new.book.0
                )
                .execute(&mut **transaction)
                .await?;
            }
            submit::insert(transaction, job, self).await
        }
        .await;
        submit::counted(self.notify_relay_after(open.commit(outcome).await))
    }

    /// The result that a distribution would have now; nothing is changed.
    pub async fn preview_distribution(&self, business: BusinessId, new: NewDistribution) -> Result<Preview> {
        pool::get(&self.reads, business, new.pool).await?;
        check_assignable(&self.reads, business, new.book).await?;
        self.preview(business, new.pool, new.book, new.rules).await
    }

    pub(super) async fn preview(
        &self,
        business: BusinessId,
        pool: PoolId,
        id: BookId,
        rules: Rules,
    ) -> Result<Preview> {
        let counts = book::get(&self.reads, business, id).await?.counts;
        let reserved = count_reserved(&self.reads, id).await?;
        let codes_available = u64::try_from(counts.available - reserved).unwrap_or(0);
        let (mut rooms, mut users) = (Vec::new(), Vec::new());
        let mut rows = query_file!("src/sql/member_rooms.sql", pool.0, id.0).fetch(&self.reports);
        while let Some(row) = rows.try_next().await? {
            rooms.push(as_room(row.room));
            if users.len() < SAMPLE_MEMBERS {
                users.push(row.user_id);
            }
        }
        let allocated = tokio::task::spawn_blocking(move || {
            let needed = rules.needed(&rooms);
            let counts = rules.allocate(&rooms, needed.min(codes_available)).counts;
            (needed, counts, rooms)
        });
        let (codes_needed, counts, rooms) = allocated.await.map_err(Error::internal)?;
        let eligible = || counts.iter().zip(&rooms).filter(|(_, room)| **room > 0).map(|(count, _)| *count);
        let given = users.into_iter().zip(&counts);
        Ok(Preview {
            members: rooms.len() as u64,
            eligible: eligible().count() as u64,
            codes_needed,
            codes_available,
            per_user: PerUser { min: eligible().min().unwrap_or(0), max: eligible().max().unwrap_or(0) },
            short: codes_needed.saturating_sub(codes_available),
            sample: given.map(|(user_id, given)| SampleMember { user_id, given: *given }).collect(),
        })
    }

    /// The jobs of a business's distributions, newest first. A page may be short.
    pub async fn list_distributions(
        &self,
        business: BusinessId,
        filter: DistributionFilter,
        limit: u32,
    ) -> Result<Page<Job>> {
        let rows = query_file!(
            "src/sql/distributions.sql",
            business.0,
            filter.pool.map(|id| id.0),
            filter.book.map(|id| id.0),
            filter.after.map(|id| id.0),
            MAX_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| {
            let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
            examined(JobId(row.job_id))
        });
        let page = Page::of_examined(rows.collect(), limit, JobId::to_string);
        let mut items = self.watched_jobs(&page.items).await?;
        items.sort_unstable_by_key(|job| std::cmp::Reverse(job.id.0));
        Ok(Page { items, next_cursor: page.next_cursor, total: None })
    }

    /// The job of a distribution; refused if the job is none.
    pub async fn get_distribution(&self, business: BusinessId, id: JobId) -> Result<Job> {
        let job = self.get_job(business, id).await.map_err(|_| Rejection::not_found("distribution"))?;
        let found = query_scalar!("select job_id from distribution where job_id = $1", id.0)
            .fetch_optional(&self.reads)
            .await?;
        if found.is_none() || job.kind != JobKind::Distribute.as_str() {
            return Err(Rejection::not_found("distribution").into());
        }
        Ok(job)
    }

    /// Refuses if the report of a distribution was deleted.
    pub async fn check_report(&self, id: JobId) -> Result<()> {
        check_undiscarded(&self.reads, id).await
    }

    /// The members of a distribution after one of them, in the order of their ids. The caller has checked that it may see the job.
    pub async fn list_report(&self, id: JobId, after: Option<i32>) -> Result<Vec<ReportRow>> {
        let rows = query_file!(
            "src/sql/distribution_report.sql",
            id.0,
            after.unwrap_or(-1),
            REPORT_MEMBERS,
            REPORT_CODES
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| ReportRow {
            ordinal: row.ordinal,
            user_id: row.user_id,
            given: row.given,
            codes: row.codes,
            note: row.note,
        });
        Ok(rows.collect())
    }

    /// Releases the codes that distributions which are over have reserved and not assigned; answers how many slices there were.
    ///
    /// A slice whose chunk is still at work is left for the next call: the chunk holds it, and cannot finish.
    pub async fn release_reserved_codes(&self) -> Result<u64> {
        let mut released = 0;
        loop {
            let mut transaction = self.pool.begin().await?;
            let slice = query_file!("src/sql/release_slice.sql").fetch_optional(&mut *transaction).await?;
            let Some(slice) = slice else {
                transaction.rollback().await?;
                return Ok(released);
            };
            clear_reservations(
                &mut *transaction,
                BookId(slice.book_id),
                JobId(slice.job_id),
                &slice.positions,
            )
            .await?;
            // A slice that has its members is kept for a retry of the job, which then takes other codes.
            query!(
                "with kept as (update distribution_slice set positions = null
                               where job_id = $1 and number = $2 and ordinals is not null)
                 delete from distribution_slice where job_id = $1 and number = $2 and ordinals is null",
                slice.job_id,
                slice.number
            )
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            released += 1;
        }
    }
}

/// Makes the codes free that a job has reserved at these positions.
pub(super) async fn clear_reservations(
    executor: impl PgExecutor<'_>,
    book: BookId,
    job: JobId,
    positions: &[i32],
) -> Result<()> {
    query!(
        "update coupon set reserved_by = null where book_id = $1 and position = any($2) and reserved_by = $3",
        book.0,
        positions,
        job.0
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Whether a distribution of the book's codes is under way, or codes of it are still reserved.
pub(super) async fn is_under_way(executor: impl PgExecutor<'_>, id: BookId) -> Result<bool> {
    let found = query_scalar!(
        r#"select exists (select from job where book_id = $1 and kind = 'DISTRIBUTE' and status in ('QUEUED', 'RUNNING'))
             or exists (select from distribution_slice where book_id = $1 and positions is not null) as "found!""#,
        id.0
    )
    .fetch_one(executor)
    .await?;
    Ok(found)
}

/// How many codes of a book are reserved.
async fn count_reserved(executor: impl PgExecutor<'_>, id: BookId) -> Result<i64> {
    let reserved = query_scalar!(
        r#"select coalesce(sum(codes), 0)::bigint as "codes!" from distribution_slice
           where book_id = $1 and positions is not null"#,
        id.0
    );
    Ok(reserved.fetch_one(executor).await?)
}

/// A room as the rules count it.
pub(super) fn as_room(room: Option<i32>) -> u32 {
    room.map_or(u32::MAX, |room| u32::try_from(room).unwrap_or(0))
}

/// Refuses if the number of free codes alone shows that they are too few.
fn check_counts(book: &Book, members: i64, rules: &Rules) -> Result<()> {
    if rules.on_shortage == OnShortage::Partial {
        return Ok(());
    }
    let needed = match rules.amount {
        Amount::Total(codes) => codes,
        Amount::PerUser(codes) if book.rules.max_codes_per_user.is_none() => {
            u64::from(codes).saturating_mul(u64::try_from(members).unwrap_or(0))
        }
        Amount::PerUser(_) => return Ok(()),
    };
    let available = u64::try_from(book.counts.available).unwrap_or(0);
    if needed > available { Err(Rejection::NotEnoughCodes { needed, available }.into()) } else { Ok(()) }
}

/// Refuses if codes of the book cannot be assigned now.
pub(super) async fn check_assignable(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    id: BookId,
) -> Result<()> {
    let book = query!(
        r#"select status, code_kind = 'SHARED' as "is_shared!", coalesce(starts_at > now(), false) as "is_early!", coalesce(expires_at <= now(), false) as "is_late!"
           from coupon_book where id = $1 and business_id = $2 for key share"#,
        id.0,
        business.0
    )
    .fetch_optional(executor)
    .await?
    .ok_or_else(|| Rejection::not_found("coupon book"))?;
    Err(match book.status.as_str() {
        _ if book.is_shared => Rejection::NotAssignable,
        "ACTIVE" if book.is_early => Rejection::BookNotStarted,
        "ACTIVE" if book.is_late => Rejection::BookExpired,
        "ACTIVE" => return Ok(()),
        _ => Rejection::BookNotActive,
    }
    .into())
}
