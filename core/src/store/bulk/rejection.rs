//! The rejected rows of imports: written in the commit of the chunk that rejects them, read in pages of bounded size.

use std::borrow::Cow;

use sqlx::{PgTransaction, query_file};

use crate::error::{Error, Result};
use crate::id::JobId;
use crate::store::Store;
use crate::store::chunk::Claim;

use super::copy::CopyRows;

/// Bytes of rows that a page reads before it ends. One row more may follow, which is 64 KiB at most.
const MAX_PAGE_BYTES: i64 = 1024 * 1024;
/// Rows that a page reads at most.
const MAX_PAGE_ROWS: i64 = 5_000;

/// A row of an upload that was not imported as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The physical line on which the row starts.
    pub line: u64,
    /// The code as it stands in the file.
    pub code: String,
    /// A stable word.
    pub reason: Cow<'static, str>,
    /// The same as a sentence.
    pub detail: Cow<'static, str>,
    /// The whole row.
    pub row: String,
}

/// Where a page of rejections ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RejectionCursor {
    chunk: i32,
    line: i64,
}

/// A page of rejections, in the order of the chunks and of the lines in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectionPage {
    /// At least one, unless there are no more.
    pub rejections: Vec<Rejection>,
    /// Where the next page begins.
    pub next: RejectionCursor,
}

impl Store {
    /// The rejections after the cursor, about 1 MiB of them at most. The caller has asked
    /// [`Self::errors_files`] whether it may see them.
    pub async fn list_rejections(&self, job: JobId, after: RejectionCursor) -> Result<RejectionPage> {
        let rows = query_file!(
            "src/store/sql/rejections.sql",
            job.0,
            after.chunk,
            after.line,
            MAX_PAGE_ROWS,
            MAX_PAGE_BYTES
        )
        .fetch_all(&self.reads)
        .await?;
        let next = rows.last().map_or(after, |row| RejectionCursor { chunk: row.chunk, line: row.line });
        let rejections = rows.into_iter().map(|row| {
            Ok(Rejection {
                line: u64::try_from(row.line).map_err(Error::internal)?,
                code: row.code,
                reason: row.reason.into(),
                detail: row.detail.into(),
                row: row.row,
            })
        });
        Ok(RejectionPage { rejections: rejections.collect::<Result<_>>()?, next })
    }
}

/// Writes the rejections of a chunk.
pub(super) async fn write(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rejections: [&[Rejection]; 2],
) -> Result<()> {
    if rejections.iter().all(|rejections| rejections.is_empty()) {
        return Ok(());
    }
    let target = "import_rejection (job_id, chunk, line, code, reason, detail, row)";
    let mut copy = CopyRows::start(transaction, target, 7).await?;
    for rejection in rejections.into_iter().flatten() {
        copy.row().uuid(claim.job.0).int(claim.number);
        copy.bigint(i64::try_from(rejection.line).map_err(Error::internal)?);
        copy.text(&rejection.code).text(&rejection.reason).text(&rejection.detail).text(&rejection.row);
        copy.flush_if_full().await?;
    }
    copy.finish().await?;
    Ok(())
}
