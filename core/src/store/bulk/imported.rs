//! The rows of an import chunk. First the straight way; where a code stands already, a look tells which, and the rest goes
//! in the same way.
//!
//! The errors file is written before the commit, outside of it. So the caller says what that file tells; if the
//! transaction finds something else it is taken back and the caller is given what was found, to write and ask again.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::{PgConnection, PgTransaction, query, query_file, query_file_scalar};

use crate::error::{Error, Result};
use crate::id::{AssignmentId, EventId};
use crate::store::Store;
use crate::store::chunk::{Claim, Finished, finish_if_held};
use crate::telemetry::metrics;

use super::copy::CopyRows;
use super::{begin, count_new, discard, hold_open_book, is_clash};

/// A valid row, the only one of its code in its part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRow {
    /// The code.
    pub code: String,
    /// The physical line it starts on.
    pub line: u64,
    /// Whom to give it to.
    pub user: Option<String>,
    /// What else stands in the row, as JSON.
    pub metadata: Option<String>,
}

/// Why a row was refused after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rejected {
    /// The same code stands on an earlier line of the file.
    DuplicateInFile,
    /// The business has the code already.
    AlreadyExists,
    /// The code was taken, but its user may not hold one more: it is free.
    UserLimitReached,
}

impl Rejected {
    /// As the errors file spells it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DuplicateInFile => "duplicate_in_file",
            Self::AlreadyExists => "already_exists",
            Self::UserLimitReached => "user_limit_reached",
        }
    }

    /// The same as a sentence.
    pub fn detail(self) -> &'static str {
        match self {
            Self::DuplicateInFile => "an earlier line of the file has this code",
            Self::AlreadyExists => "the business has this code already",
            Self::UserLimitReached => {
                "the code is imported and free: its user may hold no more codes of the book"
            }
        }
    }
}

/// Rows found refused: by line, the code and why.
pub type TakenBy = BTreeMap<u64, (String, Rejected)>;

/// What became of an import chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Imported {
    /// Committed, with exactly the refusals the caller expected.
    Settled,
    /// The chunk is no longer this worker's, or the job was stopped; nothing was written.
    Lost,
    /// Nothing was written: these refusals are what it would have come to. Tell them and ask again.
    Differs(TakenBy),
}

/// A chunk's rows and what the file's owner is to be told.
struct Part<'a> {
    claim: &'a Claim,
    rows: &'a [ImportRow],
    first_position: i32,
    /// Refusals that the errors file tells of.
    told: &'a TakenBy,
    finished: &'a Finished,
}

impl Store {
    /// Takes the rows, which are sorted by code, but for those in `told`, and settles the chunk with `finished`. Line `n`
    /// goes to position `first_position + n`, so the earlier of two lines has the lower position.
    pub async fn settle_imported(
        &self,
        claim: &Claim,
        rows: &[ImportRow],
        first_position: i32,
        told: &TakenBy,
        finished: &Finished,
    ) -> Result<Imported> {
        let part = Part { claim, rows, first_position, told, finished };
        let mut connection = self.pool.acquire().await?;
        match part.take(&mut connection).await {
            Ok(Some(imported)) => Ok(imported),
            Ok(None) => self.look(&part).await.map(Imported::Differs),
            Err(error) => {
                discard(connection);
                if !is_clash(&error) {
                    return Err(error);
                }
                self.look(&part).await.map(Imported::Differs)
            }
        }
    }

    /// Counts what the rows would come to, for a dry run, and settles the chunk.
    pub async fn settle_dry_run(
        &self,
        claim: &Claim,
        rows: &[ImportRow],
        told: &TakenBy,
        finished: &Finished,
    ) -> Result<Imported> {
        let mut transaction = self.pool.begin().await?;
        let found = rehearse(&mut transaction, claim, rows).await?;
        if found != *told {
            transaction.rollback().await?;
            return Ok(Imported::Differs(found));
        }
        let settled = finish_if_held(&mut transaction, claim, finished).await?;
        let Some(status) = settled else {
            transaction.rollback().await?;
            return Ok(Imported::Lost);
        };
        if status.is_over() {
            query!("delete from dry_run_code where job_id = $1", claim.job.0)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        metrics::job_stands(claim.work.kind(), status);
        Ok(Imported::Settled)
    }

    /// Which rows stand already. A later line of the same file that came first is refused in favor of this part's, unless
    /// its code has been given out by now: its events are kept by its position.
    async fn look(&self, part: &Part<'_>) -> Result<TakenBy> {
        let codes: Vec<String> = part.rows.iter().map(|row| row.code.clone()).collect();
        let standing: HashMap<String, (bool, bool, i32)> =
            query_file!("src/store/sql/standing_codes.sql", part.claim.business.0, &codes)
                .fetch_all(&self.pool)
                .await?
                .into_iter()
                .map(|row| (row.code, (row.job_id == part.claim.job.0, row.is_given_out, row.position)))
                .collect();
        let mut found = TakenBy::new();
        for row in part.rows {
            match standing.get(&row.code) {
                None => {}
                Some((false, ..)) => {
                    found.insert(row.line, (row.code.clone(), Rejected::AlreadyExists));
                }
                Some((true, true, _)) => {
                    found.insert(row.line, (row.code.clone(), Rejected::DuplicateInFile));
                }
                Some((true, false, position)) => {
                    let other = part.line_at(*position);
                    found.insert(row.line.max(other), (row.code.clone(), Rejected::DuplicateInFile));
                }
            }
        }
        Ok(found)
    }
}

/// What an import of the rows would refuse, after the earlier parts of the same dry run; notes the rows for later parts.
async fn rehearse(transaction: &mut PgTransaction<'_>, claim: &Claim, rows: &[ImportRow]) -> Result<TakenBy> {
    let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
    let standing: HashSet<String> = query_file!("src/store/sql/standing_codes.sql", claim.business.0, &codes)
        .fetch_all(&mut **transaction)
        .await?
        .into_iter()
        .map(|row| row.code)
        .collect();
    let is_standing = |row: &ImportRow| standing.contains(&row.code);
    let holders: Vec<Option<String>> =
        rows.iter().map(|row| row.user.clone().filter(|_| !is_standing(row))).collect();
    // Before these rows are noted, so that only those of earlier parts count.
    let mut rooms: HashMap<String, i64> = query_file!(
        "src/store/sql/dry_run_rooms.sql",
        claim.job.0,
        claim.book()?.0,
        &holders.iter().flatten().cloned().collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?
    .into_iter()
    .map(|row| (row.user_id, row.room))
    .collect();
    let fresh: HashSet<String> = query_file_scalar!(
        "src/store/sql/dry_run_new_codes.sql",
        claim.job.0,
        &codes,
        &holders as &[Option<String>]
    )
    .fetch_all(&mut **transaction)
    .await?
    .into_iter()
    .collect();
    let mut found = TakenBy::new();
    let mut in_order: Vec<&ImportRow> = rows.iter().collect();
    in_order.sort_by_key(|row| row.line);
    for row in in_order {
        let room = row.user.as_ref().and_then(|user| rooms.get_mut(user));
        let why = match room {
            _ if is_standing(row) => Rejected::AlreadyExists,
            _ if !fresh.contains(&row.code) => Rejected::DuplicateInFile,
            Some(room) if *room <= 0 => Rejected::UserLimitReached,
            Some(room) => {
                *room -= 1;
                continue;
            }
            None => continue,
        };
        found.insert(row.line, (row.code.clone(), why));
    }
    Ok(found)
}

impl Part<'_> {
    /// `None` if somebody changed what `told` was found from: look again.
    async fn take(&self, connection: &mut PgConnection) -> Result<Option<Imported>> {
        let mut transaction = begin(connection, self.claim).await?;
        hold_open_book(&mut transaction, self.claim.book()?).await?;
        let mut found = self.told.clone();
        found.retain(|_, (_, why)| *why != Rejected::UserLimitReached);
        let standing: HashSet<&str> = found.values().map(|(code, _)| code.as_str()).collect();
        let fresh: Vec<&ImportRow> =
            self.rows.iter().filter(|row| !standing.contains(row.code.as_str())).collect();
        self.copy(&mut transaction, &fresh).await?;
        if !self.displace_later_lines(&mut transaction).await? {
            transaction.rollback().await?;
            return Ok(None);
        }
        let (assigned, limited) = self.assign(&mut transaction, &fresh).await?;
        found.extend(limited);
        if found != *self.told {
            transaction.rollback().await?;
            return Ok(Some(Imported::Differs(found)));
        }
        let added = i32::try_from(fresh.len()).map_err(Error::internal)?;
        count_new(&mut transaction, self.claim.book()?, added, assigned).await?;
        let Some(status) = finish_if_held(&mut transaction, self.claim, self.finished).await? else {
            transaction.rollback().await?;
            return Ok(Some(Imported::Lost));
        };
        transaction.commit().await?;
        metrics::job_stands(self.claim.work.kind(), status);
        Ok(Some(Imported::Settled))
    }

    async fn copy(&self, transaction: &mut PgTransaction<'_>, rows: &[&ImportRow]) -> Result<()> {
        let claim = self.claim;
        let target = "coupon (business_id, book_id, job_id, position, code, metadata)";
        let mut copy = CopyRows::start(transaction, target, 6).await?;
        for row in rows {
            copy.row().uuid(claim.business.0).uuid(claim.book()?.0).uuid(claim.job.0);
            copy.int(self.position_of(row.line)).text(&row.code).jsonb(row.metadata.as_deref());
            copy.flush_if_full().await?;
        }
        copy.finish().await?;
        Ok(())
    }

    /// Where a later line of the file came first, gives its place to this part's line. `false` if the other row is not what
    /// it was.
    async fn displace_later_lines(&self, transaction: &mut PgTransaction<'_>) -> Result<bool> {
        for (line, (code, why)) in self.told {
            let Ok(index) = self.rows.binary_search_by(|row| row.code.as_str().cmp(code)) else { continue };
            let row = &self.rows[index];
            if *why != Rejected::DuplicateInFile || row.line >= *line {
                continue;
            }
            let metadata: Option<serde_json::Value> =
                row.metadata.as_deref().map(serde_json::from_str).transpose().map_err(Error::internal)?;
            let displaced = query!(
                "update coupon set metadata = $5, position = $6
                 where business_id = $1 and code = $2 and job_id = $3 and position = $4 and version = 0",
                self.claim.business.0,
                row.code,
                self.claim.job.0,
                self.position_of(*line),
                metadata,
                self.position_of(row.line)
            )
            .execute(&mut **transaction)
            .await?;
            if displaced.rows_affected() == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the fresh codes whose rows name users to them, within their limits: how many were given, and the rows whose
    /// user may hold no more.
    async fn assign(
        &self,
        transaction: &mut PgTransaction<'_>,
        fresh: &[&ImportRow],
    ) -> Result<(i32, TakenBy)> {
        let mut wishes: Vec<&ImportRow> = fresh.iter().copied().filter(|row| row.user.is_some()).collect();
        if wishes.is_empty() {
            return Ok((0, TakenBy::new()));
        }
        wishes.sort_by_key(|row| row.line);
        let ids = |make: fn() -> uuid::Uuid| wishes.iter().map(|_| make()).collect::<Vec<_>>();
        let given: HashSet<String> = query_file_scalar!(
            "src/store/sql/assign_imported.sql",
            self.claim.business.0,
            self.claim.book()?.0,
            format!("job:{}", self.claim.job),
            &wishes.iter().map(|row| row.code.clone()).collect::<Vec<_>>(),
            &wishes.iter().filter_map(|row| row.user.clone()).collect::<Vec<_>>(),
            &ids(|| AssignmentId::new().0),
            &ids(|| EventId::new().0)
        )
        .fetch_all(&mut **transaction)
        .await?
        .into_iter()
        .collect();
        let limited = wishes
            .iter()
            .filter(|row| !given.contains(&row.code))
            .map(|row| (row.line, (row.code.clone(), Rejected::UserLimitReached)))
            .collect();
        Ok((i32::try_from(given.len()).map_err(Error::internal)?, limited))
    }

    fn position_of(&self, line: u64) -> i32 {
        self.first_position.saturating_add(i32::try_from(line).unwrap_or(i32::MAX))
    }

    fn line_at(&self, position: i32) -> u64 {
        u64::try_from(position - self.first_position).unwrap_or(0)
    }
}
