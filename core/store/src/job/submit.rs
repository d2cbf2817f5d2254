//! The submission of jobs: a job is written in one commit with all its chunks.

use std::time::Duration;

use sqlx::{PgExecutor, PgTransaction, query, query_scalar};

use crate::GenerateId;
use crate::error::{Error, Result};
use crate::metrics;
use cuponera_domain::book::CodeKind;
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::csv::{Columns, Delimiter, ReadAs};
use cuponera_domain::id::{BookId, BusinessId, JobId, PoolId};
use cuponera_domain::job::generate::{self, MAX_CODES_PER_JOB};
use cuponera_domain::job::{ChunkWork, Job, JobKind, JobWarning, Work, assign_codes, import, import_members};
use cuponera_domain::rejection::{FieldError, Rejection};

use super::finish::count_end;
use super::read::get;
use crate::Store;
use crate::codes::space::{as_i64, reserve};
use crate::distribution::check_assignable;
use crate::outbox::announce;
use crate::pool;
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use crate::stored_kind::StoredKind;

/// An upload whose parts are stored.
#[derive(Debug, Clone)]
pub struct NewImport {
    /// The id of the job, under which the parts are stored.
    pub id: JobId,
    /// The book of the codes.
    pub book: BookId,
    /// The meaning of the columns.
    pub columns: Columns,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// How the file was read, for the result of the job.
    pub read_as: ReadAs,
    /// Whether the import only counts.
    pub dry_run: bool,
    /// Whether the file may repeat a code.
    pub may_repeat_codes: bool,
    /// The stored parts, in the order of the file.
    pub parts: Vec<import::Chunk>,
    /// The number of rows.
    pub rows: u64,
    /// The highest place of a row in the file, or more ([`import::Begin`]).
    pub last_place: u64,
}

/// An upload of members whose parts are stored.
#[derive(Debug, Clone)]
pub struct NewMemberImport {
    /// The id of the job, under which the parts are stored.
    pub id: JobId,
    /// The meaning of the columns.
    pub columns: Columns,
    /// The delimiter of the cells.
    pub delimiter: Delimiter,
    /// How the file was read, for the result of the job.
    pub read_as: ReadAs,
    /// The stored parts, in the order of the file.
    pub parts: Vec<import::Chunk>,
    /// The number of rows.
    pub rows: u64,
}

/// A job to insert.
pub(crate) struct NewJob {
    pub(crate) id: JobId,
    pub(crate) business: BusinessId,
    pub(crate) actor: String,
    pub(crate) work: Work,
    pub(crate) ordered: bool,
    /// The number of rows to process, if it is known.
    pub(crate) total: Option<u64>,
    pub(crate) chunks: Vec<ChunkWork>,
    /// How long after the commit the chunks become runnable.
    pub(crate) delay: Duration,
    pub(crate) warnings: Vec<JobWarning>,
    /// The result before the first chunk.
    pub(crate) result: serde_json::Value,
}

impl Store {
    /// Reserves the codes and their positions, and inserts the job with its chunks. Creates no code yet.
    pub async fn submit_generation(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        book: BookId,
        pattern: &Pattern,
        quantity: u64,
    ) -> Result<CallResult<Job>> {
        let limits = SharedLimits::default();
        self.submit_limited_generation(key, business, actor, book, pattern, quantity, limits).await
    }

    /// The same with limits of each code, which only codes of SHARED books have.
    #[expect(clippy::too_many_arguments, reason = "each is a value of the request")]
    pub async fn submit_limited_generation(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        book: BookId,
        pattern: &Pattern,
        quantity: u64,
        limits: SharedLimits,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            if !(1..=MAX_CODES_PER_JOB).contains(&quantity) {
                return Err(Rejection::invalid("quantity", "must be from 1 to 100000000").into());
            }
            let first_position = reserve_positions(&mut open.transaction, business, book, quantity).await?;
            let first_index = reserve(&mut open.transaction, business, pattern, quantity).await?;
            let shared = match kind_of(&mut *open.transaction, book).await? {
                CodeKind::Shared => Some(limits),
                CodeKind::Unique | CodeKind::Bearer => none_of(&limits).map(|()| None)?,
            };
            let spec = generate::Spec { book, pattern: pattern.canonical(), shared };
            let job = NewJob {
                id: JobId::generate(),
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
        counted(self.notify_relay_after(open.commit(outcome).await))
    }

    /// Inserts the job of an upload. Its chunks run one after the other in a dry run, and if the file names users and may repeat
    /// a code: an assignment to the user of a later line could not be undone.
    pub async fn submit_import(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        import: NewImport,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let first_position = if import.dry_run {
                check_open(&mut *open.transaction, business, import.book).await?;
                0
            } else {
                reserve_positions(&mut open.transaction, business, import.book, import.last_place + 1).await?
            };
            let names_users = import.columns.user_id.is_some();
            let is_shared = kind_of(&mut *open.transaction, import.book).await? == CodeKind::Shared;
            let ordered = import.dry_run || names_users && import.may_repeat_codes;
            let spec = import::Spec {
                book: import.book,
                columns: import.columns,
                delimiter: import.delimiter,
                first_position,
                dry_run: import.dry_run,
                is_shared,
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
        counted(self.notify_relay_after(open.commit(outcome).await))
    }

    /// Inserts the job of an upload of assignments. If two parts may have the same code, they are done one after the other.
    pub async fn submit_assignments(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        import: NewImport,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            check_assignable(&mut *open.transaction, business, import.book).await?;
            let spec = assign_codes::Spec {
                book: import.book,
                columns: import.columns,
                delimiter: import.delimiter,
                dry_run: import.dry_run,
                may_repeat_codes: import.may_repeat_codes,
            };
            let part = |part: import::Chunk| {
                let first_line = part.first_line();
                assign_codes::Chunk::Part { file: part.file, first_line }
            };
            let job = NewJob {
                id: import.id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(&import.read_as),
                work: Work::AssignCodes(spec),
                ordered: import.dry_run || import.may_repeat_codes,
                total: Some(import.rows),
                chunks: import.parts.into_iter().map(part).map(ChunkWork::AssignCodes).collect(),
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            insert(&mut open.transaction, job, self).await
        }
        .await;
        counted(self.notify_relay_after(open.commit(outcome).await))
    }

    /// Checks that codes of the book can be assigned. Called before a long upload is received.
    pub async fn check_book_assignable(&self, business: BusinessId, book: BookId) -> Result<()> {
        check_assignable(&self.pool, business, book).await
    }

    /// Inserts the job of an upload of members.
    pub async fn submit_member_import(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        pool: PoolId,
        import: NewMemberImport,
    ) -> Result<CallResult<Job>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
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
        counted(self.notify_relay_after(open.commit(outcome).await))
    }

    /// Checks that codes may be added to the book. Called before a long upload is received.
    pub async fn check_book_open(&self, business: BusinessId, book: BookId) -> Result<()> {
        check_open(&self.pool, business, book).await
    }
}

/// Counts a submitted job in the metrics, and its end if it has ended.
pub(crate) fn count(job: &Job) {
    if let Some(kind) = JobKind::parse(&job.kind) {
        metrics::job_submitted(kind);
    }
    count_end(job);
}

pub(crate) fn counted(answer: Result<CallResult<Job>>) -> Result<CallResult<Job>> {
    if let Ok(CallResult { outcome: Ok(job), replayed: false }) = &answer {
        count(job);
    }
    answer
}

/// Reserves the next `count` positions of a book that is not closed; returns the first.
/// The kind of a book's codes. It does not change after positions were reserved in the same transaction.
async fn kind_of(executor: impl PgExecutor<'_>, book: BookId) -> Result<CodeKind> {
    let kind = query_scalar!(
        r#"select code_kind as "code_kind: StoredKind" from coupon_book where id = $1"#,
        book.0
    );
    Ok(kind.fetch_one(executor).await?.0)
}

/// Rejects limits of codes that have none.
fn none_of(limits: &SharedLimits) -> Result<(), Rejection> {
    let faults: Vec<_> =
        limits.names().map(|name| FieldError::new(name, "is only for codes of SHARED books")).collect();
    if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }) }
}

pub(crate) async fn reserve_positions(
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

fn book_is_full() -> Rejection {
    Rejection::invalid(
        "couponBookId",
        "names a book that cannot hold this many codes: the limit is about 2 billion",
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
    .ok_or_else(|| Rejection::not_found("coupon book"))?;
    if status == "CLOSED" { Err(Rejection::BookClosed.into()) } else { Ok(()) }
}

/// Inserts a job and its chunks, and wakes the workers at the commit. A job without chunks succeeds at once.
pub(crate) async fn insert(
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
    announce(transaction, job.id, store.notifier.as_ref()).await?;
    get(&mut **transaction, job.business, job.id).await
}
