//! The positions of the codes that a job created. Each job that creates codes reserves positions that follow each other.

use std::ops::Range;

use sqlx::{PgConnection, query};

use crate::error::{Error, Result};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::{ChunkWork, JobStatus, Work};
use cuponera_domain::rejection::Rejection;

/// The codes of a job.
#[derive(Debug, Clone)]
pub(crate) struct CodesOfJob {
    /// The status of the job.
    pub(crate) status: String,
    /// The book that has the codes.
    pub(crate) book: BookId,
    /// All codes of the job have one of these positions. Codes of other jobs may have some of them.
    pub(crate) positions: Range<i32>,
    /// The codes of these positions up to the first one of another job are those of the job.
    pub(crate) ends_at_other_job: bool,
    /// Maximum number of codes of the job.
    pub(crate) most: i64,
}

impl CodesOfJob {
    /// The codes of a job of the business. A job of another book than `only` is not found, like one of another business. Rejected if the
    /// job does not create codes.
    pub(crate) async fn find(
        connection: &mut PgConnection,
        business: BusinessId,
        id: JobId,
        only: Option<BookId>,
    ) -> Result<Self> {
        let row = query!(
            r#"select j.kind, j.status, j.total, j.work, b.id as "book?", b.next_position as "end?", c.work as "first_chunk?"
               from job j
               left join coupon_book b on b.id = j.book_id
               left join job_chunk c on c.job_id = j.id and c.number = 0
               where j.id = $1 and j.business_id = $2 and ($3::uuid is null or j.book_id = $3)"#,
            id.0,
            business.0,
            only.map(|book| book.0)
        )
        .fetch_optional(connection)
        .await?
        .ok_or_else(|| Rejection::not_found("job"))?;
        let work: Option<Work> = serde_json::from_value(row.work).ok();
        if !matches!(work, Some(Work::GenerateCodes(_) | Work::ImportCodes(_))) {
            let hint = "must name a job that generates or imports codes";
            return Err(Rejection::invalid("jobId", hint).into());
        }
        let (Some(book), Some(end)) = (row.book, row.end) else {
            return Err(Rejection::not_found("coupon book").into());
        };
        let first_chunk = row.first_chunk.and_then(|chunk| serde_json::from_value(chunk).ok());
        let total = row.total.unwrap_or(i64::MAX);
        let (positions, ends_at_other_job, most) = match (work, first_chunk) {
            (Some(Work::GenerateCodes(_)), Some(ChunkWork::GenerateCodes(chunk))) => {
                let end = i64::from(chunk.first_position).saturating_add(total).min(i64::from(end));
                (chunk.first_position..i32::try_from(end).map_err(Error::internal)?, false, i64::MAX)
            }
            // The details of the job were deleted.
            (Some(Work::GenerateCodes(_)), _) => (0..end, false, i64::MAX),
            (Some(Work::ImportCodes(spec)), _) if spec.dry_run => (0..0, false, i64::MAX),
            (Some(Work::ImportCodes(spec)), _) => (spec.first_position..end, true, total),
            _ => (0..0, false, 0),
        };
        Ok(Self { status: row.status, book: BookId(book), positions, ends_at_other_job, most })
    }

    /// Whether the job has ended, and creates no more codes.
    pub(crate) fn is_over(&self) -> bool {
        matches!(JobStatus::parse(&self.status), Some(status) if status.is_over())
    }
}
