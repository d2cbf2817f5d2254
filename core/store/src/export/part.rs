//! The parts of an export: written one after the other, then joined.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgTransaction, query, query_scalar};

use crate::Store;
use crate::error::{Error, Result};
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held};
use crate::job::storage;
use cuponera_domain::export::FILE_DAYS;
use cuponera_domain::id::JobId;
use cuponera_domain::job::ChunkWork;
use cuponera_domain::job::export::{Chunk, Place};
use cuponera_domain::money::sums::{CurrencySums, SumsByCurrency};

/// A part that a chunk has written to the file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPart {
    /// The number of its rows.
    pub rows: u64,
    /// Its length.
    pub bytes: u64,
    /// The sums of its redemptions with amounts, if their columns are in the file.
    pub amounts: Option<Vec<CurrencySums>>,
    /// When the first of its rows was read.
    pub read_from: DateTime<Utc>,
    /// When all of its rows had been read.
    pub read_to: DateTime<Utc>,
    /// The place of the next row; none at the end.
    pub next: Option<Place>,
}

/// A part in the file store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPart {
    /// The number of its chunk.
    pub number: i32,
    /// The epoch of the claim that wrote it.
    pub epoch: i32,
    /// Its length.
    pub bytes: u64,
}

impl Store {
    /// Notes a part, finishes its chunk, and adds the chunk of the next part or the one that joins all parts. A part of a lost claim
    /// is not noted, and its file is not used: if another claim has noted the part, the change is rolled back with the transaction.
    pub async fn finish_exported_part(&self, claim: &Claim, part: &ExportPart) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let (rows, bytes) = (as_i64(part.rows)?, as_i64(part.bytes)?);
        query!(
            "insert into export_part (job_id, number, epoch, rows, bytes, amounts) values ($1, $2, $3, $4, $5, $6)
             on conflict (job_id, number) do update
             set epoch = excluded.epoch, rows = excluded.rows, bytes = excluded.bytes, amounts = excluded.amounts",
            claim.job.0,
            claim.number,
            claim.epoch,
            rows,
            bytes,
            part.amounts.as_ref().map(serde_json::to_value).transpose().map_err(Error::internal)?
        )
        .execute(&mut *transaction)
        .await?;
        storage::count_export(&mut transaction, self.storage_quota, claim, part.bytes).await?;
        let mut result = json!({ "rowCount": part.rows, "bytes": part.bytes, "readTo": part.read_to });
        if claim.number == 0 {
            result["readFrom"] = json!(part.read_from);
        }
        let (next, total) = match &part.next {
            Some(place) => (Chunk::Write { from: place.clone() }, None),
            None => (Chunk::Join, Some(rows_of(&mut transaction, claim.job).await?)),
        };
        let next = vec![ChunkWork::Export(next)];
        let finished = Finished { succeeded: rows, result, next, total, ..Finished::default() };
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// The parts of an export, in the order of the file.
    pub async fn export_parts(&self, job: JobId) -> Result<Vec<StoredPart>> {
        let rows =
            query!("select number, epoch, bytes from export_part where job_id = $1 order by number", job.0)
                .fetch_all(&self.reads)
                .await?;
        rows.into_iter()
            .map(|row| {
                let bytes = row.bytes.try_into().map_err(Error::internal)?;
                Ok(StoredPart { number: row.number, epoch: row.epoch, bytes })
            })
            .collect()
    }

    /// Notes the complete file and finishes the chunk that joined it. The file expires after seven days, or with the details of the job.
    pub async fn finish_joined_export(&self, claim: &Claim, name: &str, bytes: u64) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let expires_at = query_scalar!(
            r#"update export_file set name = $2, bytes = $3, made_at = now() where job_id = $1
               returning made_at + least(make_interval(days => $4), make_interval(secs => $5::float8)) as "expires_at!""#,
            claim.job.0,
            name,
            as_i64(bytes)?,
            i32::try_from(FILE_DAYS).map_err(Error::internal)?,
            self.job_retention.map(|retention| retention.as_secs_f64())
        )
        .fetch_optional(&mut *transaction)
        .await?;
        query!("delete from export_book where job_id = $1", claim.job.0).execute(&mut *transaction).await?;
        let mut result = json!({ "expiresAt": expires_at });
        if let Some(amounts) = amounts_of(&mut transaction, claim.job).await? {
            result["amounts"] = amounts;
        }
        let finished = Finished { result, ..Finished::default() };
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// Forgets the parts of an export, after its file is complete and their files are deleted.
    pub async fn forget_export_parts(&self, job: JobId) -> Result<()> {
        query!("delete from export_part where job_id = $1", job.0).execute(&self.pool).await?;
        Ok(())
    }
}

async fn rows_of(transaction: &mut PgTransaction<'_>, job: JobId) -> Result<i64> {
    let rows = query_scalar!(
        r#"select coalesce(sum(rows), 0)::bigint as "rows!" from export_part where job_id = $1"#,
        job.0
    );
    Ok(rows.fetch_one(&mut **transaction).await?)
}

/// The sums of all parts, as the API shows them. None if a part has none: it is not of redemptions, or of an earlier version.
async fn amounts_of(transaction: &mut PgTransaction<'_>, job: JobId) -> Result<Option<Value>> {
    let parts = query_scalar!("select amounts from export_part where job_id = $1", job.0);
    let mut all = SumsByCurrency::default();
    for part in parts.fetch_all(&mut **transaction).await? {
        let Some(part) = part else { return Ok(None) };
        let sums: Vec<CurrencySums> = serde_json::from_value(part).map_err(Error::internal)?;
        sums.into_iter().for_each(|sums| all.add(sums));
    }
    Ok(Some(all.into_sums().iter().map(CurrencySums::shown).collect()))
}

fn as_i64(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(Error::internal)
}
