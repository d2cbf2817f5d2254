//! Exports: the plan of a job, the pages of rows in the order of its file, and the parts that are written.
//!
//! **Invariant.** A page is one statement. Codes are read by position, except those of imports that may move them, which are read by
//! code; so a code that existed when the export was planned is read exactly once. Redemptions and events are those of the snapshot of
//! the plan, whenever they are read.

mod page;
mod part;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_scalar};

use crate::error::{Error, Result};
use crate::job::discard::check_undiscarded;
use crate::job::read;
use crate::job::submit::{self, NewJob};
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use crate::{GenerateId, Store};
use cuponera_domain::export::{ExportKind, FILE_DAYS, Filter, Format};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::export::{Chunk, Place, Snapshot, Spec};
use cuponera_domain::job::{ChunkWork, Job, JobKind, JobStatus, Work};
use cuponera_domain::rejection::Rejection;

pub use page::{ExportPage, ExportRow, Exported};
pub use part::{ExportPart, StoredPart};

/// Maximum number of exports that one call of housekeeping returns.
const FOUND_AT_ONCE: i64 = 100;

/// A request for an export.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExport {
    /// What the file contains.
    pub kind: ExportKind,
    /// Only of this book.
    pub book: Option<BookId>,
    /// Only these rows.
    pub filter: Filter,
    /// How the file is written.
    pub format: Format,
}

/// The complete file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportFile {
    /// Its name in the file store. It is never written again under this name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it contains.
    pub kind: ExportKind,
    /// When it was complete.
    pub made_at: DateTime<Utc>,
}

impl Store {
    /// Plans an export and writes its job. Nothing is read yet, but the snapshot of redemptions and events is taken.
    pub async fn submit_export(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        export: NewExport,
    ) -> Result<CallResult<Job>> {
        let mut begun = match self.attempt(key).await? {
            KeyedChange::Begun(begun) => begun,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let transaction = &mut begun.transaction;
            if let Some(book) = export.book {
                check_book(&mut **transaction, business, book).await?;
            }
            let id = JobId::generate();
            query!("insert into export_file (job_id, business_id) values ($1, $2)", id.0, business.0)
                .execute(&mut **transaction)
                .await?;
            let plan =
                query_file!("src/sql/plan_export.sql", id.0, business.0, export.book.map(|book| book.0))
                    .fetch_one(&mut **transaction)
                    .await?;
            let is_all = export.kind == ExportKind::Codes && export.filter.is_empty();
            let spec = Spec {
                export: export.kind,
                book: export.book,
                filter: export.filter,
                format: export.format,
                snapshot: Snapshot { epoch: plan.epoch, transactions: plan.transactions },
            };
            let job = NewJob {
                id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(),
                ordered: true,
                total: if is_all { u64::try_from(plan.codes).ok() } else { None },
                chunks: vec![ChunkWork::Export(Chunk::Write { from: spec.first_place() })],
                work: Work::Export(spec),
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            submit::insert(transaction, job, self).await
        }
        .await;
        submit::counted(self.notify_relay_after(begun.commit(outcome).await))
    }

    /// The place of the first code of a book, for an export without a job.
    pub async fn first_code_of_book(&self, business: BusinessId, book: BookId) -> Result<Place> {
        let row = query!(
            r#"select next_position,
                      array(select id from job where business_id = $1 and book_id = $2 and kind = 'IMPORT_CODES'
                              and status in ('QUEUED', 'RUNNING', 'FAILED') and discarding_at is null order by id) as "imports!"
               from coupon_book where business_id = $1 and id = $2"#,
            business.0,
            book.0
        )
        .fetch_optional(&self.reads)
        .await?
        .ok_or_else(|| Rejection::not_found("coupon book"))?;
        let imports = row.imports.into_iter().map(JobId).collect();
        Ok(Place::of_codes(None, book, row.next_position, imports))
    }

    /// The file of an export of the business. Rejected if it is not complete yet, or not kept any more.
    pub async fn get_export_file(&self, business: BusinessId, id: JobId) -> Result<ExportFile> {
        let job = read::get(&self.reads, business, id).await?;
        if job.kind != JobKind::Export.as_str() {
            return Err(Rejection::not_found("file of the job").into());
        }
        check_undiscarded(&self.reads, id).await?;
        if job.status != JobStatus::Succeeded {
            let hint = "the file is complete when the job has succeeded".into();
            return Err(Rejection::WrongJobState { status: job.status.as_str().into(), hint }.into());
        }
        let row = query!(
            r#"select name as "name!", bytes as "bytes!", made_at as "made_at!" from export_file
               where job_id = $1 and name is not null and made_at > now() - make_interval(days => $2)"#,
            id.0,
            i32::try_from(FILE_DAYS).map_err(Error::internal)?
        )
        .fetch_optional(&self.reads)
        .await?
        .ok_or(Rejection::ExportExpired)?;
        let kind = job.result["kind"].as_str().and_then(ExportKind::parse);
        Ok(ExportFile {
            name: row.name,
            bytes: row.bytes.try_into().map_err(Error::internal)?,
            kind: kind.ok_or_else(|| Error::internal("an export of an unknown kind"))?,
            made_at: row.made_at,
        })
    }

    /// Marks some of the exports that failed seven days ago, so that they are not retried and their parts may be deleted. Their parts
    /// count towards the quota of the business.
    pub async fn mark_failed_exports(&self) -> Result<()> {
        query!(
            "with due as (
               select j.id from export_file f join job j on j.id = f.job_id
               where j.status = 'FAILED' and j.discarding_at is null and j.finished_at < now() - make_interval(days => $1)
               order by j.id limit $2
               for no key update of j skip locked)
             update job j set discarding_at = now() from due where j.id = due.id",
            i32::try_from(FILE_DAYS).map_err(Error::internal)?,
            FOUND_AT_ONCE
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Exports whose files are no longer needed: those that are complete for seven days, cancelled or discarded.
    pub async fn find_unneeded_exports(&self) -> Result<Vec<JobId>> {
        let jobs = query_scalar!(
            "select f.job_id from export_file f join job j on j.id = f.job_id
             where f.made_at < now() - make_interval(days => $1) or j.status = 'CANCELLED' or j.discarding_at is not null
             limit $2",
            i32::try_from(FILE_DAYS).map_err(Error::internal)?,
            FOUND_AT_ONCE
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(jobs.into_iter().map(JobId).collect())
    }

    /// Deletes what is stored of an export, after its files are deleted.
    pub async fn forget_export(&self, job: JobId) -> Result<()> {
        query!(
            "with parts as (delete from export_part where job_id = $1),
                  books as (delete from export_book where job_id = $1),
                  freed as (delete from job_storage where job_id = $1 and upload_bytes = 0 and rejection_bytes = 0)
             delete from export_file where job_id = $1",
            job.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Those of these jobs whose exports are kept.
    pub async fn jobs_with_exports(&self, ids: &[JobId]) -> Result<Vec<JobId>> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let kept = query_scalar!("select job_id from export_file where job_id = any($1)", &ids);
        Ok(kept.fetch_all(&self.pool).await?.into_iter().map(JobId).collect())
    }
}

async fn check_book(executor: impl sqlx::PgExecutor<'_>, business: BusinessId, book: BookId) -> Result<()> {
    let found =
        query_scalar!("select id from coupon_book where id = $1 and business_id = $2", book.0, business.0)
            .fetch_optional(executor)
            .await?;
    if found.is_some() { Ok(()) } else { Err(Rejection::not_found("coupon book").into()) }
}
