//! Notes the codes of a file that names users, part after part, so that the parts can be imported side by side: a code that was
//! assigned to the user of a later line could not be taken back.
//!
//! **Invariant.** A chunk of an ordered job is claimed when all chunks before it are done or have noted their codes
//! (`claim_chunk.sql`). So a chunk that has noted its own codes knows which of them stand on earlier lines.

use std::collections::HashSet;

use sqlx::{query, query_file, query_file_scalar};

use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::chunk::Claim;
use crate::store::outbox::announce;

use super::begin;
use super::imported::ImportRow;

impl Store {
    /// Notes the codes of the rows and lets the next chunk begin; returns the codes that stand on earlier lines of the file.
    /// `None` if the chunk is no longer this worker's.
    pub(super) async fn note_codes_if_held(
        &self,
        claim: &Claim,
        rows: &[ImportRow],
    ) -> Result<Option<HashSet<String>>> {
        let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
        let lines = rows.iter().map(|row| i64::try_from(row.line).map_err(Error::internal));
        let lines: Vec<i64> = lines.collect::<Result<_>>()?;
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let new = query_file!("src/store/sql/note_import_codes.sql", claim.job.0, &codes, &lines)
            .execute(&mut *transaction)
            .await?;
        let mut earlier = HashSet::new();
        if new.rows_affected() < codes.len() as u64 {
            earlier.extend(
                query_file_scalar!("src/store/sql/codes_of_earlier_lines.sql", claim.job.0, &codes, &lines)
                    .fetch_all(&mut *transaction)
                    .await?,
            );
        }
        let held = query!(
            "update job_chunk set has_noted_codes = true
             where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'",
            claim.job.0,
            claim.number,
            claim.epoch
        )
        .execute(&mut *transaction)
        .await?;
        if held.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        announce(&mut transaction, claim.job, self.bell.as_ref()).await?;
        transaction.commit().await?;
        self.ring();
        Ok(Some(earlier))
    }
}
