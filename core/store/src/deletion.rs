//! Deletion of books none of whose codes was ever assigned. The call itself deletes a book of at most
//! [`MAX_CODES_DELETED_AT_ONCE`] codes. It closes a larger book, and a job deletes it in slices.
//!
//! **Invariant.** A code is deleted only if its `version` is 0, which the deleting statement checks on the locked row.
//! So if an assignment commits first, its code and the book remain.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgExecutor, PgTransaction, query, query_scalar};

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::book::BookStatus;
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::delete_book::{Chunk, Spec};
use cuponera_domain::job::{ChunkWork, Job, Work};
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::book;
use super::connect::HOT_STATEMENT_TIMEOUT;
use super::distribution;
use super::job::claim::{Claim, ClaimState, begin};
use super::job::finish::{Finished, finish_if_held, stop_job_if_held};
use super::job::read;
use super::job::submit::{self, NewJob};

/// Maximum number of codes of a book that the call itself deletes, in about 0.1 s.
pub const MAX_CODES_DELETED_AT_ONCE: i64 = 10_000;
/// Number of codes that a chunk deletes. An import of the same codes into another book waits for the chunk's commit.
const CODES_PER_SLICE: i64 = 10_000;
/// Delay of the job after the book is closed. An assignment that began before that commit may still see an active book;
/// it ends within [`HOT_STATEMENT_TIMEOUT`]. The additional second is for its commit.
const CHECK_DELAY: Duration = HOT_STATEMENT_TIMEOUT.saturating_add(Duration::from_secs(1));

/// The outcome of a call that deletes a book.
#[derive(Debug, Clone, PartialEq)]
pub enum Deletion {
    /// The book is deleted.
    Done,
    /// The book is closed, and this job deletes it.
    Job(Box<Job>),
}

/// The outcome of a step of a deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its effect is committed and its chunk is finished.
    Finished,
    /// A code was assigned before the book was closed: the book's status is restored, and the job failed.
    Stopped,
    /// The claim was lost or the job was stopped. Nothing was changed.
    Lost,
}

impl Store {
    /// Deletes a book if no code of it was ever assigned, or submits a job that does. If such a job is already open,
    /// returns that job. Otherwise the book is unchanged.
    pub async fn delete_book_if_unused(
        &self,
        business: BusinessId,
        actor: &str,
        id: BookId,
    ) -> Result<Deletion> {
        let mut transaction = self.begin().await?;
        book::lock_for_change(&mut transaction, business, id).await?;
        if let Some(job) = find_open_deletion(&mut *transaction, business, id).await? {
            let job = read::get(&mut *transaction, business, job).await?;
            transaction.rollback().await?;
            return Ok(Deletion::Job(Box::new(job)));
        }
        let deletion = self.delete_locked(&mut transaction, business, actor, id).await?;
        transaction.commit().await?;
        self.notify_relay();
        if let Deletion::Job(job) = &deletion {
            submit::count(job);
        }
        Ok(deletion)
    }

    async fn delete_locked(
        &self,
        transaction: &mut PgTransaction<'static>,
        business: BusinessId,
        actor: &str,
        id: BookId,
    ) -> Result<Deletion> {
        if book::get(&mut **transaction, business, id).await?.counts.all() <= MAX_CODES_DELETED_AT_ONCE {
            lock_for_delete(transaction, id).await?;
        }
        // The counts are read again, because the lock waited for chunks that were adding codes.
        let book = book::get(&mut **transaction, business, id).await?;
        if book.counts.given_out() > 0 {
            return Err(Rejection::BookInUse.into());
        }
        if distribution::is_under_way(&mut **transaction, id).await? {
            return Err(Rejection::CouponReserved.into());
        }
        if book.counts.all() <= MAX_CODES_DELETED_AT_ONCE {
            delete_at_once(transaction, id).await?;
            return Ok(Deletion::Done);
        }
        close_if_unused(transaction, business, id).await?;
        let step = Chunk::CheckUnused { status_before: Some(book.status) };
        let spec = Spec { book: id };
        let job = NewJob {
            id: JobId::generate(),
            business,
            actor: actor.to_owned(),
            result: spec.first_result(),
            work: Work::DeleteBook(spec),
            ordered: true,
            total: Some(book.counts.all().try_into().map_err(Error::internal)?),
            chunks: vec![ChunkWork::DeleteBook(step)],
            delay: CHECK_DELAY,
            warnings: Vec::new(),
        };
        Ok(Deletion::Job(Box::new(submit::insert(transaction, job, self).await?)))
    }

    /// The first step. If a code was assigned before the book was closed, restores the book's status and fails the job.
    pub async fn finish_unused_check(
        &self,
        claim: &Claim,
        status_before: Option<BookStatus>,
    ) -> Result<Step> {
        let id = claim.book()?;
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let Some(status) = lock_for_delete(&mut transaction, id).await? else {
            return self.finish_step(transaction, claim, nothing()).await;
        };
        if was_ever_assigned(&mut *transaction, id).await? {
            if let Some(status_before) = status_before.filter(|_| status == BookStatus::Closed) {
                give_status_back(&mut transaction, claim, status_before).await?;
            }
            let stopped = stop_job_if_held(&mut transaction, claim, &Rejection::BookInUse).await?;
            return Ok(match self.commit_if_held(transaction, claim, stopped).await? {
                ClaimState::Held => Step::Stopped,
                ClaimState::Lost => Step::Lost,
            });
        }
        if status != BookStatus::Closed {
            return Err(Error::internal("the book of a deletion is not closed"));
        }
        // Chunks that were adding codes when the book was closed have ended.
        let total = book::get(&mut *transaction, claim.business, id).await?.counts.all();
        let next = Chunk::DeleteCodes { from_position: 0 };
        let finished = Finished { total: Some(total), ..then(next) };
        self.finish_step(transaction, claim, finished).await
    }

    /// A middle step: deletes the next slice of the codes.
    pub async fn finish_deleted_codes(&self, claim: &Claim, from_position: i32) -> Result<Step> {
        let id = claim.book()?;
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let next_position = find_end_of_slice(&mut *transaction, id, from_position).await?;
        let last_position = next_position.map_or(i32::MAX, |next| next - 1);
        let deleted = delete_codes(&mut transaction, id, from_position, last_position).await?;
        count_deleted(&mut transaction, id, deleted).await?;
        let next = match next_position {
            Some(from_position) => Chunk::DeleteCodes { from_position },
            None => Chunk::DeleteBook,
        };
        let result = json!({ "deletedCount": deleted });
        let finished = Finished { succeeded: deleted, result, ..then(next) };
        self.finish_step(transaction, claim, finished).await
    }

    /// The last step: deletes the book, if it still exists.
    pub async fn finish_deleted_book(&self, claim: &Claim) -> Result<Step> {
        let id = claim.book()?;
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        if lock_for_delete(&mut transaction, id).await?.is_some() {
            // The counts are checked first, because the search for a code reads all deleted rows.
            let counts = book::get(&mut *transaction, claim.business, id).await?.counts;
            if counts.all() != 0 && has_code(&mut *transaction, id, 0, i32::MAX).await? {
                return Err(Error::internal("a code remains after the codes of the book were deleted"));
            }
            delete_book(&mut transaction, id).await?;
        }
        self.finish_step(transaction, claim, nothing()).await
    }

    async fn finish_step(
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

/// A last step that deleted no codes.
fn nothing() -> Finished {
    Finished { result: json!({}), ..Finished::default() }
}

/// The same, with another step.
fn then(next: Chunk) -> Finished {
    Finished { next: vec![ChunkWork::DeleteBook(next)], ..nothing() }
}

/// The open job that deletes the book, if any.
async fn find_open_deletion(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    id: BookId,
) -> Result<Option<JobId>> {
    let job = query_scalar!(
        "select id from job
         where business_id = $1 and book_id = $2 and kind = 'DELETE_BOOK' and status in ('QUEUED', 'RUNNING')
         order by id limit 1",
        business.0,
        id.0
    )
    .fetch_optional(executor)
    .await?;
    Ok(job.map(JobId))
}

/// Locks the book's row against all others and returns the status, `None` if the book does not exist. Chunks that add
/// codes have then ended.
async fn lock_for_delete(transaction: &mut PgTransaction<'_>, id: BookId) -> Result<Option<BookStatus>> {
    let status = query_scalar!("select status from coupon_book where id = $1 for update", id.0)
        .fetch_optional(&mut **transaction)
        .await?;
    status
        .map(|name| BookStatus::parse(&name).ok_or_else(|| Error::internal("an unknown book status")))
        .transpose()
}

/// Whether any code of the book was ever assigned: each change of a code writes an event, and an archive notes the books of its
/// events. The order is that of the index, so no plan reads the table.
async fn was_ever_assigned(executor: impl PgExecutor<'_>, id: BookId) -> Result<bool> {
    let was_assigned = query_scalar!(
        r#"select (select position from coupon_event where book_id = $1 order by position, version limit 1) is not null
                  or exists (select from archived_book where book_id = $1) as "was_assigned!""#,
        id.0
    );
    Ok(was_assigned.fetch_one(executor).await?)
}

/// Closes a book none of whose codes was ever assigned, in one statement. Otherwise the book is unchanged.
async fn close_if_unused(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: BookId,
) -> Result<()> {
    let closed = query!(
        "update coupon_book set status = 'CLOSED', updated_at = now()
         where id = $1 and business_id = $2
           and (select position from coupon_event where book_id = $1 order by position, version limit 1) is null
           and not exists (select from archived_book where book_id = $1)",
        id.0,
        business.0
    )
    .execute(&mut **transaction)
    .await?;
    if closed.rows_affected() == 0 { Err(Rejection::BookInUse.into()) } else { Ok(()) }
}

/// Restores the status, once: the chunk's stored status is removed, so that a retry of the job does not change a later
/// status.
async fn give_status_back(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    status_before: BookStatus,
) -> Result<()> {
    query!(
        "update coupon_book set status = $2, updated_at = now() where id = $1",
        claim.book()?.0,
        status_before.as_str()
    )
    .execute(&mut **transaction)
    .await?;
    let step = ChunkWork::DeleteBook(Chunk::CheckUnused { status_before: None });
    query!(
        "update job_chunk set work = $4 where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'",
        claim.job.0,
        claim.number,
        claim.epoch,
        serde_json::to_value(&step).map_err(Error::internal)?
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Deletes a small book whose row is locked.
async fn delete_at_once(transaction: &mut PgTransaction<'static>, id: BookId) -> Result<()> {
    if was_ever_assigned(&mut **transaction, id).await? {
        return Err(Rejection::BookInUse.into());
    }
    delete_codes(transaction, id, 0, i32::MAX).await?;
    delete_book(transaction, id).await
}

/// The first position after the slice that begins at `from_position`; `None` if the slice is the last.
async fn find_end_of_slice(
    executor: impl PgExecutor<'_>,
    id: BookId,
    from_position: i32,
) -> Result<Option<i32>> {
    let position = query_scalar!(
        "select position from coupon where book_id = $1 and position >= $2 order by position offset $3 limit 1",
        id.0,
        from_position,
        CODES_PER_SLICE
    )
    .fetch_optional(executor)
    .await?;
    Ok(position)
}

/// Deletes the codes at these positions that were never assigned and returns their number. Rejected if a code remains
/// there.
async fn delete_codes(
    transaction: &mut PgTransaction<'_>,
    id: BookId,
    from_position: i32,
    last_position: i32,
) -> Result<i64> {
    let gone = query!(
        "delete from coupon where book_id = $1 and position between $2 and $3 and version = 0",
        id.0,
        from_position,
        last_position
    )
    .execute(&mut **transaction)
    .await?;
    if has_code(&mut **transaction, id, from_position, last_position).await? {
        return Err(Rejection::BookInUse.into());
    }
    i64::try_from(gone.rows_affected()).map_err(Error::internal)
}

/// Whether a code exists at these positions.
async fn has_code(
    executor: impl PgExecutor<'_>,
    id: BookId,
    from_position: i32,
    last_position: i32,
) -> Result<bool> {
    let code = query_scalar!(
        "select code from coupon where book_id = $1 and position between $2 and $3 order by position limit 1",
        id.0,
        from_position,
        last_position
    )
    .fetch_optional(executor)
    .await?;
    Ok(code.is_some())
}

/// Subtracts deleted codes from the book's counts.
async fn count_deleted(transaction: &mut PgTransaction<'_>, id: BookId, deleted: i64) -> Result<()> {
    let deleted = i32::try_from(deleted).map_err(Error::internal)?;
    query!("insert into book_delta (book_id, generated, available) values ($1, $2, $2)", id.0, -deleted)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Deletes a book without codes, and its counts. Deltas are deleted first, because a roll-up locks them and may write
/// the row of the counts.
async fn delete_book(transaction: &mut PgTransaction<'_>, id: BookId) -> Result<()> {
    query!("delete from book_delta where book_id = $1", id.0).execute(&mut **transaction).await?;
    query!("delete from book_count where book_id = $1", id.0).execute(&mut **transaction).await?;
    query!("delete from user_quota where book_id = $1", id.0).execute(&mut **transaction).await?;
    query!("delete from coupon_book where id = $1", id.0).execute(&mut **transaction).await?;
    Ok(())
}
