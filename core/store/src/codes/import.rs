//! The rows of an import chunk. The first attempt copies them directly into the table, each code with its user. If one of the
//! codes exists already, further attempts use a temporary table, and statements that separate new codes from existing ones.
//!
//! **Invariant.** The codes of a chunk, its rejections, the counts and the end of the chunk commit together.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use sqlx::{PgConnection, PgTransaction, query, query_as, query_file, query_scalar};

use crate::GenerateId;
use crate::Store;
use crate::error::{Error, Result};
use crate::job::claim::{Claim, ClaimState, begin};
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::id::{EventId, JobId};
use cuponera_domain::job::import::{Begin, Chunk};
use cuponera_domain::job::{ChunkWork, Task};

use super::allocate::{Allocated, AllocatedRow, allocate};
use super::chunk::{AssignmentTimes, count_new, discard, is_conflict, lock_open_book};
use super::copy::CopyRows;
use super::part::{ImportPart, ImportRow, RowRejection};
use super::rejection::RejectedRow;

/// Finds the lines of rows of other parts, by their places. It reads the parts.
pub type FindLines<'a> = &'a (dyn Fn(Vec<u64>) -> BoxFuture<'a, Result<HashMap<u64, u64>>> + Send + Sync);

/// Maximum number of attempts while other transactions add and delete the codes of the part.
const MAX_TRIES: usize = 20;

/// How the rows are written into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// By `COPY`. One existing code rolls everything back.
    Direct,
    /// By `COPY` into a temporary table, and from there.
    Staged,
}

/// A running chunk.
struct Import<'a> {
    claim: &'a Claim,
    part: &'a ImportPart,
    first_position: i32,
    /// The lines of rows of other parts, by their places. `None`: a place is a line.
    lines: Option<HashMap<u64, u64>>,
}

/// The result of an attempt.
enum Attempt {
    Done(ClaimState),
    /// The rows at these places are to be rejected, and their lines are not known. Nothing was changed.
    NeedsLines(Vec<u64>),
}

/// The result of writing the rows.
enum Written<'a> {
    Sorted(SortedRows<'a>),
    NeedsLines(Vec<u64>),
}

/// The rows whose codes belong to this chunk, and the others.
struct SortedRows<'a> {
    taken: Vec<&'a ImportRow>,
    rejections: Vec<RejectedRow>,
    /// The number of new codes. The others existed for later lines of the file.
    added: usize,
}

impl Store {
    /// Imports the rows and finishes the chunk. The row at place `n` gets position `first_position + n`, so of two lines with one code
    /// the earlier line has the lower position. The earlier line is imported in any order of the parts, unless the code of
    /// the later line is already assigned: its events are stored under its position.
    ///
    /// If places are not lines, `find_lines` is called for rows of other parts that are rejected.
    pub async fn finish_imported(
        &self,
        claim: &Claim,
        part: &ImportPart,
        first_position: i32,
        find_lines: FindLines<'_>,
    ) -> Result<ClaimState> {
        let has_places =
            matches!(&claim.task, Task::ImportCodes(_, Chunk { begin: Begin::Record { .. }, .. }));
        let lines = has_places.then(HashMap::new);
        let mut import = Import { claim, part, first_position, lines };
        for method in std::iter::once(Method::Direct).chain([Method::Staged; MAX_TRIES]) {
            let mut connection = self.pool.acquire().await?;
            match import.finish(self, &mut connection, method).await {
                Ok(Attempt::Done(state)) => return Ok(state),
                // Files are not read while rows are locked.
                Ok(Attempt::NeedsLines(places)) => {
                    drop(connection);
                    import.lines.get_or_insert_default().extend(find_lines(places).await?);
                }
                Err(error) => {
                    discard(connection);
                    if !is_conflict(&error) {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::unavailable("other transactions keep changing the codes of this part"))
    }
}

impl Store {
    /// The parts of an import, in the order of the file.
    pub async fn import_parts(&self, job: JobId) -> Result<Vec<Chunk>> {
        let works = query_scalar!("select work from job_chunk where job_id = $1 order by number", job.0)
            .fetch_all(&self.pool)
            .await?;
        let part = |work| match serde_json::from_value(work) {
            Ok(ChunkWork::ImportCodes(part)) => Ok(part),
            Ok(_) => Err(Error::internal("a chunk of an import is of another kind")),
            Err(error) => Err(Error::internal(error)),
        };
        works.into_iter().map(part).collect()
    }
}

impl<'a> Import<'a> {
    async fn finish(&self, store: &Store, connection: &mut PgConnection, method: Method) -> Result<Attempt> {
        let book = self.claim.book()?;
        let mut transaction = begin(connection, self.claim).await?;
        let times = lock_open_book(&mut transaction, book).await?;
        let written = match method {
            Method::Direct => Written::Sorted(self.all()),
            Method::Staged => self.take_new(&mut transaction).await?,
        };
        let SortedRows { taken, mut rejections, added } = match written {
            Written::Sorted(sorted) => sorted,
            Written::NeedsLines(places) => {
                transaction.rollback().await?;
                return Ok(Attempt::NeedsLines(places));
            }
        };
        let Allocated { rows, limited } = allocate(&mut transaction, self.claim, &taken).await?;
        rejections.extend(limited);
        match method {
            Method::Direct => self.copy(&mut transaction, &rows, times).await?,
            Method::Staged => self.assign(&mut transaction, &rows).await?,
        }
        if matches!(&self.claim.task, Task::ImportCodes(spec, _) if spec.is_shared) {
            self.set_limits(&mut transaction, &taken).await?;
        }
        let assigned = self.write_events(&mut transaction, &rows).await?;
        let count = |rows: usize| i32::try_from(rows).map_err(Error::internal);
        count_new(&mut transaction, book, count(added)?, count(assigned)?).await?;
        let status = self.part.finish(&mut transaction, store.storage_quota, self.claim, &rejections).await?;
        store.commit_if_held(transaction, self.claim, status).await.map(Attempt::Done)
    }

    /// All rows, as if none of their codes existed.
    fn all(&self) -> SortedRows<'a> {
        let taken: Vec<_> = self.part.rows.iter().collect();
        SortedRows { added: taken.len(), taken, rejections: Vec::new() }
    }

    /// Copies the rows into the table, each with its user.
    async fn copy(
        &self,
        transaction: &mut PgTransaction<'_>,
        rows: &[AllocatedRow<'_>],
        times: AssignmentTimes,
    ) -> Result<()> {
        let claim = self.claim;
        let target = "coupon (business_id, book_id, job_id, position, code, metadata, status, version, holder, assignment_id, \
                      assigned_at, expires_at)";
        let mut copy = CopyRows::start(transaction, target, 12).await?;
        for AllocatedRow { row, assignment } in rows {
            copy.row().uuid(claim.business.0).uuid(claim.book()?.0).uuid(claim.job.0);
            copy.int(self.position_of(row)).text(&row.code).jsonb(row.metadata.as_deref());
            match assignment {
                Some(assignment) => {
                    copy.text("ASSIGNED").int(1).text(&assignment.user).uuid(assignment.id);
                    copy.timestamp(times.assigned_at);
                    match times.expires_at {
                        Some(expires_at) => copy.timestamp(expires_at),
                        None => copy.null(),
                    };
                }
                None => {
                    copy.text("AVAILABLE").int(0).null().null().null().null();
                }
            }
            copy.flush_if_full().await?;
        }
        copy.finish().await?;
        Ok(())
    }

    /// Writes the rows whose codes are new or exist for later lines of the file.
    async fn take_new(&self, transaction: &mut PgTransaction<'_>) -> Result<Written<'a>> {
        self.stage(transaction).await?;
        let (mut added, mut open) = (0, self.part.rows.len());
        let (mut rejections, mut rejected) = (Vec::new(), HashSet::new());
        for _ in 0..MAX_TRIES {
            let new = self.insert_new(transaction).await?;
            let displaced = self.displace_later_lines(transaction).await?;
            let unknown: Vec<u64> = displaced
                .iter()
                .map(|(_, place)| *place)
                .filter(|place| self.line_at(*place).is_none())
                .collect();
            if !unknown.is_empty() {
                return Ok(Written::NeedsLines(unknown));
            }
            let standing = self.reject_standing(transaction).await?;
            added += new;
            open -= new + displaced.len() + standing.len();
            rejections.extend(displaced.iter().filter_map(|(code, place)| {
                Some(RowRejection::DuplicateInFile.at(self.line_at(*place)?, code, code))
            }));
            rejections.extend(standing.iter().map(|(row, why)| why.of(row)));
            rejected.extend(standing.into_iter().map(|(row, _)| row.line));
            if open == 0 {
                let taken = self.part.rows.iter().filter(|row| !rejected.contains(&row.line)).collect();
                return Ok(Written::Sorted(SortedRows { taken, rejections, added }));
            }
        }
        Err(Error::unavailable("other transactions keep changing the codes of this part"))
    }

    async fn stage(&self, transaction: &mut PgTransaction<'_>) -> Result<()> {
        query!(
            r#"create temporary table staged_row (code text collate "C", position int, metadata jsonb) on commit drop"#
        )
        .execute(&mut **transaction)
        .await?;
        let mut copy = CopyRows::start(transaction, "staged_row (code, position, metadata)", 3).await?;
        for row in &self.part.rows {
            copy.row().text(&row.code).int(self.position_of(row)).jsonb(row.metadata.as_deref());
            copy.flush_if_full().await?;
        }
        copy.finish().await?;
        Ok(())
    }

    /// Writes the staged rows whose codes do not exist; returns their number.
    async fn insert_new(&self, transaction: &mut PgTransaction<'_>) -> Result<usize> {
        let new = query(include_str!("../sql/insert_new_rows.sql"))
            .bind(self.claim.business.0)
            .bind(self.claim.book()?.0)
            .bind(self.claim.job.0)
            .execute(&mut **transaction)
            .await?;
        usize::try_from(new.rows_affected()).map_err(Error::internal)
    }

    /// Replaces codes of later lines of the file by staged rows. Returns the replaced codes with their places. These are lines of another
    /// part, so only their codes and places are known here.
    async fn displace_later_lines(&self, transaction: &mut PgTransaction<'_>) -> Result<Vec<(String, u64)>> {
        let displaced: Vec<(String, i32)> = query_as(include_str!("../sql/displace_later_lines.sql"))
            .bind(self.claim.business.0)
            .bind(self.claim.job.0)
            .fetch_all(&mut **transaction)
            .await?;
        let with_place = |(code, position): (String, i32)| {
            (code, u64::try_from(position - self.first_position).unwrap_or(0))
        };
        Ok(displaced.into_iter().map(with_place).collect())
    }

    /// The staged rows whose codes exist and are not replaced.
    async fn reject_standing(
        &self,
        transaction: &mut PgTransaction<'_>,
    ) -> Result<Vec<(&'a ImportRow, RowRejection)>> {
        let standing: Vec<(String, bool)> = query_as(include_str!("../sql/reject_standing_rows.sql"))
            .bind(self.claim.business.0)
            .bind(self.claim.job.0)
            .fetch_all(&mut **transaction)
            .await?;
        let rows = &self.part.rows;
        let reject = |(code, is_of_this_file): (String, bool)| -> Result<_> {
            let index = rows
                .binary_search_by(|row| row.code.cmp(&code))
                .map_err(|_| Error::internal("a code that was not staged is rejected"))?;
            let why =
                if is_of_this_file { RowRejection::DuplicateInFile } else { RowRejection::AlreadyExists };
            Ok((&rows[index], why))
        };
        standing.into_iter().map(reject).collect()
    }

    /// Assigns staged codes to their users. No other transaction has seen them as free or holds their rows.
    async fn assign(&self, transaction: &mut PgTransaction<'_>, rows: &[AllocatedRow<'_>]) -> Result<()> {
        let given = || rows.iter().filter_map(|row| Some((row.row, row.assignment.as_ref()?)));
        let assigned = query_file!(
            "src/sql/assign_imported.sql",
            self.claim.business.0,
            &given().map(|(row, _)| row.code.clone()).collect::<Vec<_>>(),
            &given().map(|(_, assignment)| assignment.user.clone()).collect::<Vec<_>>(),
            &given().map(|(_, assignment)| assignment.id).collect::<Vec<_>>(),
            self.claim.book()?.0
        )
        .execute(&mut **transaction)
        .await?;
        if assigned.rows_affected() == given().count() as u64 {
            return Ok(());
        }
        Err(Error::internal("a code of this part was not free"))
    }

    /// Makes the codes SHARED ones with the limits of their rows.
    async fn set_limits(&self, transaction: &mut PgTransaction<'_>, rows: &[&ImportRow]) -> Result<()> {
        let of = |limit: fn(&SharedLimits) -> Option<i32>| -> Vec<Option<i32>> {
            rows.iter().map(|row| limit(&row.limits)).collect()
        };
        let at = |time: fn(&SharedLimits) -> Option<DateTime<Utc>>| -> Vec<Option<DateTime<Utc>>> {
            rows.iter().map(|row| time(&row.limits)).collect()
        };
        query!(
            "update coupon c
             set lock_count = 0, last_use = 0, max_redemptions = i.total, max_redeems_per_user = i.of_user, starts_at = i.starts_at,
                 expires_at = i.expires_at
             from unnest($3::text[], $4::int[], $5::int[], $6::timestamptz[], $7::timestamptz[]) i (code, total, of_user, starts_at, expires_at)
             where c.business_id = $1 and c.code = i.code collate \"C\" and c.job_id = $2 and c.version = 0",
            self.claim.business.0,
            self.claim.job.0,
            &rows.iter().map(|row| row.code.clone()).collect::<Vec<_>>(),
            &of(|limits| limits.max_redemptions) as _,
            &of(|limits| limits.max_redeems_per_user) as _,
            &at(|limits| limits.starts_at) as _,
            &at(|limits| limits.expires_at) as _
        )
        .execute(&mut **transaction)
        .await?;
        Ok(())
    }

    /// Writes an event for each assigned code; returns their number.
    async fn write_events(
        &self,
        transaction: &mut PgTransaction<'_>,
        rows: &[AllocatedRow<'_>],
    ) -> Result<usize> {
        let (claim, actor) = (self.claim, format!("job:{}", self.claim.job));
        let mut given: Vec<_> = rows
            .iter()
            .filter_map(|row| Some((self.position_of(row.row), row.assignment.as_ref()?)))
            .collect();
        if given.is_empty() {
            return Ok(0);
        }
        // In the order of the index of events, which makes inserts fastest.
        given.sort_unstable_by_key(|(position, _)| *position);
        let target = "coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)";
        let mut copy = CopyRows::start(transaction, target, 10).await?;
        for (position, assignment) in &given {
            copy.row().uuid(EventId::generate().0).uuid(claim.business.0).uuid(claim.book()?.0);
            copy.int(*position).int(1).text("AVAILABLE").text("ASSIGNED").text("ASSIGN");
            copy.text(&assignment.user).text(&actor);
            copy.flush_if_full().await?;
        }
        copy.finish().await?;
        Ok(given.len())
    }

    fn position_of(&self, row: &ImportRow) -> i32 {
        self.first_position.saturating_add(i32::try_from(row.place).unwrap_or(i32::MAX))
    }

    /// The line of a row of another part, if it is known.
    fn line_at(&self, place: u64) -> Option<u64> {
        match &self.lines {
            None => Some(place),
            Some(lines) => lines.get(&place).copied(),
        }
    }
}
