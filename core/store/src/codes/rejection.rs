//! The rejected rows of imports: written in the commit of the chunk that rejects them, read in pages of bounded size.

use std::borrow::Cow;

use sqlx::{PgTransaction, query_file};

use crate::Store;
use crate::error::{Error, Result};
use crate::job::claim::Claim;
use crate::job::storage;
use cuponera_domain::id::JobId;

use super::copy::CopyRows;

/// Bytes of rows after which a page ends. The last row may exceed the limit by at most 64 KiB.
const MAX_PAGE_BYTES: i64 = 1024 * 1024;
/// Maximum number of stored bytes of a row, and of its code.
const MAX_TEXT_BYTES: usize = 1024;
/// Bytes of a rejected row in addition to its texts: numbers, row header, index entry.
const ROW_BYTES: usize = 100;
/// Maximum number of rows of a page.
const MAX_PAGE_ROWS: i64 = 5_000;

/// A row of an upload that was not imported as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRow {
    /// The physical line on which the row starts.
    pub line: u64,
    /// The code as it is in the file.
    pub code: String,
    /// The stable name of the reason.
    pub reason: Cow<'static, str>,
    /// The reason as a sentence.
    pub detail: Cow<'static, str>,
    /// The row. The stored row and code are cut after 1 KiB.
    pub row: String,
}

/// The position after a page of rejections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RejectedRowCursor {
    chunk: i32,
    line: i64,
}

/// A page of rejections, in the order of the chunks and of the lines in each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRowPage {
    /// Empty only if there are no more.
    pub rejections: Vec<RejectedRow>,
    /// The position of the next page.
    pub next: RejectedRowCursor,
}

impl Store {
    /// The rejections after the cursor, at most about 1 MiB. [`Self::errors_files`] checks first whether the caller may see
    /// them.
    pub async fn list_rejected_rows(&self, job: JobId, after: RejectedRowCursor) -> Result<RejectedRowPage> {
        let rows = query_file!(
            "src/sql/rejections.sql",
            job.0,
            after.chunk,
            after.line,
            MAX_PAGE_ROWS,
            MAX_PAGE_BYTES
        )
        .fetch_all(&self.reads)
        .await?;
        let next = rows.last().map_or(after, |row| RejectedRowCursor { chunk: row.chunk, line: row.line });
        let rejections = rows.into_iter().map(|row| {
            Ok(RejectedRow {
                line: u64::try_from(row.line).map_err(Error::internal)?,
                code: row.code,
                reason: row.reason.into(),
                detail: row.detail.into(),
                row: row.row,
            })
        });
        Ok(RejectedRowPage { rejections: rejections.collect::<Result<_>>()?, next })
    }
}

/// Writes the rejections of a chunk. Rejected if they exceed the storage quota of the business.
pub(super) async fn write(
    transaction: &mut PgTransaction<'_>,
    quota: Option<u64>,
    claim: &Claim,
    rejections: [&[RejectedRow]; 2],
) -> Result<()> {
    if rejections.iter().all(|rejections| rejections.is_empty()) {
        return Ok(());
    }
    let target = "import_rejection (job_id, chunk, line, code, reason, detail, row)";
    let mut copy = CopyRows::start(transaction, target, 7).await?;
    let mut bytes = 0;
    for RejectedRow { line, code, reason, detail, row } in rejections.into_iter().flatten() {
        let (code, row) = (beginning(code), beginning(row));
        copy.row().uuid(claim.job.0).int(claim.number).bigint(i64::try_from(*line).map_err(Error::internal)?);
        copy.text(code).text(reason).text(detail).text(row);
        bytes += ROW_BYTES + code.len() + reason.len() + detail.len() + row.len();
        copy.flush_if_full().await?;
    }
    copy.finish().await?;
    storage::count_rejected_rows(transaction, quota, claim, bytes as u64).await
}

/// The whole characters among the first 1,024 bytes of a text.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_ends_with_a_whole_character() {
        assert_eq!(beginning("short"), "short");
        assert_eq!(beginning(&"x".repeat(2_000)).len(), 1_024);
        assert_eq!(beginning(&"€".repeat(2_000)), "€".repeat(341));
    }
}
