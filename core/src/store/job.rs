//! Jobs: submitted in one commit with all their chunks, cancelled, retried; [`read`] back.

mod discard;
mod read;
mod retry;

use std::time::Duration;

use sqlx::{PgExecutor, PgTransaction, query, query_scalar};

use crate::coupon::pattern::Pattern;
use crate::csv::{Columns, Delimiter, ReadAs};
use crate::error::{Error, Refusal, Result};
use crate::id::{BookId, BusinessId, JobId, PoolId};
use crate::job::generate::{self, MAX_CODES_PER_JOB};
use crate::job::{ChunkWork, Job, JobKind, JobWarning, Work, import, import_members};
use crate::telemetry::metrics;

use super::Store;
use super::batch::{Answer, RequestKey};
use super::outbox::announce;
use super::pool;
use super::request_key::Attempt;
use super::space::{as_i64, reserve};
pub(super) use discard::check_undiscarded;
pub(super) use read::get;
pub use read::{JobFilter, MAX_JOBS_EXAMINED};
pub use retry::Redrive;

/// An upload that has been cut into parts and stored.
#[derive(Debug, Clone)]
pub struct NewImport {
    /// The job's id: the parts are already stored under it.
    pub id: JobId,
    /// Where the codes go.
    pub book: BookId,
    /// What the columns mean.
    pub columns: Columns,
    /// What separates the cells.
    pub delimiter: Delimiter,
    /// How the file was read, for the job's result.
    pub read_as: ReadAs,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Whether a code may stand on two lines of the file.
    pub may_repeat_codes: bool,
    /// The stored parts in the file's order.
    pub parts: Vec<import::Chunk>,
    /// How many rows there are.
    pub rows: u64,
    /// How many physical lines there are.
    pub lines: u64,
}

/// An upload of members that has been cut into parts and stored.
#[derive(Debug, Clone)]
pub struct NewMemberImport {
    /// The job's id: the parts are already stored under it.
    pub id: JobId,
    /// The meaning of the columns.
    pub columns: Columns,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// How the file was read, for the job's result.
    pub read_as: ReadAs,
    /// The stored parts in the file's order.
    pub parts: Vec<import::Chunk>,
    /// The number of rows.
    pub rows: u64,
}

/// A job about to be written.
pub(super) struct NewJob {
    pub(super) id: JobId,
    pub(super) business: BusinessId,
    pub(super) actor: String,
    pub(super) work: Work,
    pub(super) ordered: bool,
    /// How many rows there are, if that is known.
    pub(super) total: Option<u64>,
    pub(super) chunks: Vec<ChunkWork>,
    /// How long after the commit the chunks become runnable.
    pub(super) delay: Duration,
    pub(super) warnings: Vec<JobWarning>,
    /// The result before any row is done.
    pub(super) result: serde_json::Value,
}

impl Store {
    /// Reserves the codes and their positions, and writes the job with its chunks. Nothing is made yet.
    pub async fn submit_generation(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
        actor: &str,
        book: BookId,
        pattern: &Pattern,
        quantity: u64,
    ) -> Result<Answer<Job>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            if !(1..=MAX_CODES_PER_JOB).contains(&quantity) {
                return Err(Refusal::invalid("quantity", "must be from 1 to 100000000").into());
            }
            let first_position = reserve_positions(&mut open.transaction, business, book, quantity).await?;
            let first_index = reserve(&mut open.transaction, business, pattern, quantity).await?;
            let spec = generate::Spec { book, pattern: pattern.canonical() };
            let job = NewJob {
                id: JobId::new(),
                business,
                actor: actor.to_owned(),
                result: spec.first_result(),
                work: Work::GenerateCodes(spec),
                ordered: false,
                total: Some(quantity),
                chunks: generate::chunks(&(first_index..first_index + quantity), first_position),
                delay: Duration::ZERO,
                warnings: JobWarning::if_guessable(pattern, first_index + quantity).into_iter().collect(),
            };
            insert(&mut open.transaction, job, self).await
        }
        .await;
        counted(self.ring_after(open.settle(outcome).await))
    }

    /// Writes the job of an upload. Its chunks are worked one after the other if the file is only counted, and if it names
    /// users and may repeat a code: a code that was assigned to the user of a later line could not be taken back.
    pub async fn submit_import(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
        actor: &str,
        import: NewImport,
    ) -> Result<Answer<Job>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let first_position = if import.dry_run {
                check_open(&mut *open.transaction, business, import.book).await?;
                0
            } else {
                reserve_positions(&mut open.transaction, business, import.book, import.lines + 1).await?
            };
            let names_users = import.columns.user_id.is_some();
            let ordered = import.dry_run || names_users && import.may_repeat_codes;
            let spec = import::Spec {
                book: import.book,
                columns: import.columns,
                delimiter: import.delimiter,
                first_position,
                dry_run: import.dry_run,
            };
            let job = NewJob {
                id: import.id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(&import.read_as),
                work: Work::ImportCodes(spec),
                ordered,
                total: Some(import.rows),
                chunks: import.parts.into_iter().map(ChunkWork::ImportCodes).collect(),
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            insert(&mut open.transaction, job, self).await
        }
        .await;
        counted(self.ring_after(open.settle(outcome).await))
    }

    /// Writes the job of an upload of members.
    pub async fn submit_member_import(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
        actor: &str,
        pool: PoolId,
        import: NewMemberImport,
    ) -> Result<Answer<Job>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            pool::hold(&mut open.transaction, business, pool).await?;
            let spec = import_members::Spec { pool, columns: import.columns, delimiter: import.delimiter };
            let job = NewJob {
                id: import.id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(&import.read_as),
                work: Work::ImportMembers(spec),
                ordered: false,
                total: Some(import.rows),
                chunks: import.parts.into_iter().map(ChunkWork::ImportMembers).collect(),
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            insert(&mut open.transaction, job, self).await
        }
        .await;
        counted(self.ring_after(open.settle(outcome).await))
    }

    /// Whether codes may be added to the book; asked before a long upload is taken.
    pub async fn check_book_open(&self, business: BusinessId, book: BookId) -> Result<()> {
        check_open(&self.pool, business, book).await
    }

    /// Stops a job that is not over. What is committed stays; a chunk at work finds out when it wants to commit.
    pub async fn cancel_job_if_open(
        &self,
        key: Option<RequestKey>,
        business: BusinessId,
        id: JobId,
    ) -> Result<Answer<Job>> {
        let mut open = match self.attempt(key).await? {
            Attempt::Open(open) => open,
            Attempt::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let done = query!(
                "update job set status = 'CANCELLED', finished_at = now()
                 where id = $1 and business_id = $2 and status in ('QUEUED', 'RUNNING')",
                id.0,
                business.0
            )
            .execute(&mut *open.transaction)
            .await?;
            let job = get(&mut *open.transaction, business, id).await?;
            if done.rows_affected() == 0 {
                return Err(wrong_state(&job, "only one that is queued or running can be cancelled"));
            }
            Ok(job)
        }
        .await;
        let answer = open.settle(outcome).await;
        if let Ok(Answer { outcome: Ok(job), replayed: false }) = &answer {
            count_end(job);
        }
        answer
    }

    /// Of these jobs, those that still need their uploaded parts: not over, or failed and so open to a retry.
    pub async fn jobs_that_need_files(&self, ids: &[JobId]) -> Result<Vec<JobId>> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let kept = query_scalar!(
            r#"select id from job where id = any($1) and status in ('QUEUED', 'RUNNING', 'FAILED')
                 and discarding_at is null"#,
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(kept.into_iter().map(JobId).collect())
    }
}

/// Counts a job once it is written, and its end if that came with it.
pub(super) fn count(job: &Job) {
    if let Some(kind) = JobKind::parse(&job.kind) {
        metrics::job_submitted(kind);
    }
    count_end(job);
}

/// Counts the end of a job, if it has ended. Metrics have no series for kinds that this program does not know.
pub(super) fn count_end(job: &Job) {
    if let Some(kind) = JobKind::parse(&job.kind) {
        metrics::job_stands(kind, job.status);
    }
}

pub(super) fn counted(answer: Result<Answer<Job>>) -> Result<Answer<Job>> {
    if let Ok(Answer { outcome: Ok(job), replayed: false }) = &answer {
        count(job);
    }
    answer
}

fn wrong_state(job: &Job, hint: &str) -> Error {
    Refusal::WrongJobState { status: job.status.as_str().into(), hint: hint.into() }.into()
}

/// Hands out the next `count` positions of a book that is not closed; answers the first.
async fn reserve_positions(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    book: BookId,
    count: u64,
) -> Result<i32> {
    let count = i32::try_from(count).map_err(|_| book_is_full())?;
    let reserved = query_scalar!(
        r#"update coupon_book set next_position = next_position + $3
           where id = $1 and business_id = $2 and status <> 'CLOSED' and next_position <= 2147483647 - $3
           returning next_position - $3 as "first!""#,
        book.0,
        business.0,
        count
    )
    .fetch_optional(&mut **transaction)
    .await?;
    if let Some(first) = reserved {
        return Ok(first);
    }
    check_open(&mut **transaction, business, book).await?;
    Err(book_is_full().into())
}

fn book_is_full() -> Refusal {
    Refusal::invalid(
        "couponBookId",
        "names a book that has no room for so many codes: it takes about 2 billion",
    )
}

async fn check_open(executor: impl PgExecutor<'_>, business: BusinessId, book: BookId) -> Result<()> {
    let status = query_scalar!(
        "select status from coupon_book where id = $1 and business_id = $2",
        book.0,
        business.0
    )
    .fetch_optional(executor)
    .await?
    .ok_or_else(|| Refusal::not_found("coupon book"))?;
    if status == "CLOSED" { Err(Refusal::BookClosed.into()) } else { Ok(()) }
}

/// Writes a job and its chunks, and wakes the workers when that commits. A job without chunks is done at once.
pub(super) async fn insert(
    transaction: &mut PgTransaction<'static>,
    job: NewJob,
    store: &Store,
) -> Result<Job> {
    query!(
        "insert into job (id, business_id, kind, status, book_id, created_by, work, ordered, total, chunks_total, result, warnings,
                          finished_at, trace_parent)
         values ($1, $2, $3, case when $9 = 0 then 'SUCCEEDED' else 'QUEUED' end, $4, $5, $6, $7, $8, $9, $10, $11,
                 case when $9 = 0 then now() end, $12)",
        job.id.0,
        job.business.0,
        job.work.kind().as_str(),
        job.work.book().map(|book| book.0),
        job.actor,
        serde_json::to_value(&job.work).map_err(Error::internal)?,
        job.ordered,
        job.total.map(as_i64),
        i32::try_from(job.chunks.len()).map_err(Error::internal)?,
        job.result,
        serde_json::to_value(&job.warnings).map_err(Error::internal)?,
        store.trace.map(|trace| trace.to_string())
    )
    .execute(&mut **transaction)
    .await?;
    let chunks: Vec<_> =
        job.chunks.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(Error::internal)?;
    query!(
        "insert into job_chunk (job_id, number, work, run_at)
         select $1, (number - 1)::int, work, clock_timestamp() + make_interval(secs => $3)
         from unnest($2::jsonb[]) with ordinality c (work, number)",
        job.id.0,
        &chunks,
        job.delay.as_secs_f64()
    )
    .execute(&mut **transaction)
    .await?;
    announce(transaction, job.id, store.bell.as_ref()).await?;
    get(&mut **transaction, job.business, job.id).await
}
