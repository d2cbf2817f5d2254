//! The rows of a chunk that assigns existing codes to the users that a file names, or only counts them.
//!
//! **Invariants.** The assignments of a chunk, its rejections, the counts and the end of the chunk commit together. Rows are locked in
//! this order: the book, coupons, quotas, the chunk, the job. A chunk locks its coupons in one statement and its quotas in one. Codes that
//! other transactions hold are left to a chunk that waits for them. Of several rows with one code the first counts.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::json;
use sqlx::{PgConnection, PgTransaction, query, query_file, query_file_scalar, query_scalar};

use crate::Store;
use crate::assign::{AssignNamed, why_not_assigned};
use crate::batch::{Call, Visibility, index, rejection};
use crate::distribution::check_assignable;
use crate::error::Result;
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held};
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::job::assign_codes::{Chunk, HELD_ROWS_PER_CHUNK, HeldRow, Spec};
use cuponera_domain::job::{ChunkWork, JobStatus};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::rejection::Rejection;

use super::dry_run::remaining_limits;
use super::give::{HeldCode, give, grant};
use super::part::{ImportPart, ImportRow, RowRejection};
use super::rejection::{self, RejectedRow};
use super::space::as_i64;

/// How long a chunk waits for a code that another transaction holds, before it is tried again.
const PATIENCE: &str = "2s";
/// Bytes of the text of a row that a later chunk gets: those of a stored rejection.
const MAX_TEXT_BYTES: usize = 1024;

/// What became of the rows.
#[derive(Default)]
struct Done<'a> {
    assigned: i64,
    /// Rows whose user held the code before.
    already: i64,
    /// Rows that a rule rejects.
    rejected: Vec<RejectedRow>,
    /// Rows whose code an earlier part of the file has.
    repeated: Vec<RejectedRow>,
    /// Rows whose code another transaction held.
    held: Vec<&'a ImportRow>,
}

/// A row whose code the transaction holds, with the id under which its user is stored.
struct HeldByUs<'a> {
    row: &'a ImportRow,
    holder: String,
    code: HeldCode,
}

impl Store {
    /// Assigns the codes of a part to the users of its rows, or only counts them, and finishes the chunk.
    pub async fn finish_assigned_part(
        &self,
        claim: &Claim,
        spec: &Spec,
        part: &ImportPart,
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let finished = self.assign_part(&mut connection, claim, spec, part).await;
        if finished.is_err() {
            // A COPY may have failed.
            connection.close_on_drop();
        }
        finished
    }

    async fn assign_part(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        spec: &Spec,
        part: &ImportPart,
    ) -> Result<ClaimState> {
        let mut transaction = begin(connection, claim).await?;
        check_assignable(&mut *transaction, claim.business, spec.book).await?;
        let mut done = Done::default();
        // Read before the rows of this part are noted.
        let rooms = if spec.dry_run {
            remaining_limits(&mut transaction, claim, &users(&part.rows)).await?
        } else {
            HashMap::new()
        };
        let rows = note_codes(&mut transaction, claim, spec, &part.rows, &mut done).await?;
        if spec.dry_run {
            count_rows(&mut transaction, claim, spec, &rows, rooms, &mut done).await?;
        } else {
            assign_rows(&mut transaction, claim, spec, &rows, &mut done).await?;
        }
        self.finish_rows(transaction, claim, part, done).await
    }

    /// Assigns codes that other transactions held, and finishes their chunk.
    pub async fn finish_assigned_held(
        &self,
        claim: &Claim,
        spec: &Spec,
        rows: &[HeldRow],
    ) -> Result<ClaimState> {
        let rows: Vec<ImportRow> = rows.iter().map(row_of).collect();
        let mut connection = self.pool.acquire().await?;
        let finished = async {
            let mut transaction = begin(&mut connection, claim).await?;
            check_assignable(&mut *transaction, claim.business, spec.book).await?;
            wait_for_codes(&mut transaction, claim, &rows).await?;
            let mut done = Done::default();
            assign_rows(&mut transaction, claim, spec, &rows.iter().collect::<Vec<_>>(), &mut done).await?;
            self.finish_rows(transaction, claim, &ImportPart::default(), done).await
        }
        .await;
        if finished.is_err() {
            connection.close_on_drop();
        }
        finished
    }

    async fn finish_rows(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        part: &ImportPart,
        done: Done<'_>,
    ) -> Result<ClaimState> {
        let Done { assigned, already, mut rejected, repeated, held } = done;
        let is_repeated = |row: &&RejectedRow| row.reason == RowRejection::DuplicateInFile.reason();
        let in_part = part.rejections.iter().filter(is_repeated).count();
        let finished = Finished {
            succeeded: assigned + already,
            failed: count(part.rejections.len() + rejected.len() + repeated.len()),
            result: json!({
                "assignedCount": assigned, "alreadyAssignedCount": already, "rejectedCount": rejected.len(),
                "duplicatesCount": in_part + repeated.len(), "invalidRowsCount": part.rejections.len() - in_part,
            }),
            next: next(&held),
            ..Finished::default()
        };
        rejected.extend(repeated);
        rejection::write(&mut transaction, self.storage_quota, claim, [&part.rejections, &rejected]).await?;
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        if status.is_some_and(JobStatus::is_over) {
            query!("delete from dry_run_code where job_id = $1", claim.job.0)
                .execute(&mut *transaction)
                .await?;
        }
        self.commit_if_held(transaction, claim, status).await
    }
}

fn count(rows: usize) -> i64 {
    as_i64(rows as u64)
}

/// The chunks of rows whose codes are held by others.
fn next(held: &[&ImportRow]) -> Vec<ChunkWork> {
    let held_row = |row: &&ImportRow| HeldRow {
        line: row.line,
        code: row.code.clone(),
        user: user(row).to_owned(),
        text: row.text[..row.text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned(),
    };
    let chunks = held.chunks(HELD_ROWS_PER_CHUNK);
    chunks
        .map(|rows| ChunkWork::AssignCodes(Chunk::Held { rows: rows.iter().map(held_row).collect() }))
        .collect()
}

fn row_of(row: &HeldRow) -> ImportRow {
    ImportRow {
        limits: SharedLimits::default(),
        code: row.code.clone(),
        line: row.line,
        place: row.line,
        user: Some(row.user.clone()),
        metadata: None,
        text: row.text.clone(),
    }
}

/// The user of a row: the parser rejects rows without one.
fn user(row: &ImportRow) -> &str {
    row.user.as_deref().unwrap_or_default()
}

fn users(rows: &[ImportRow]) -> Vec<Option<String>> {
    rows.iter().map(|row| row.user.clone()).collect()
}

/// Notes the codes of a part, if another part may have one of them, and returns the rows whose codes no earlier part has. The parts of
/// such a file are done one after the other.
async fn note_codes<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &'a [ImportRow],
    done: &mut Done<'a>,
) -> Result<Vec<&'a ImportRow>> {
    if !spec.dry_run && !spec.may_repeat_codes {
        return Ok(rows.iter().collect());
    }
    let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
    // Holders are noted later, and only of a dry run: they count towards limits.
    let holders: Vec<Option<String>> = vec![None; rows.len()];
    let new: HashSet<String> = query_file_scalar!(
        "src/sql/dry_run_new_codes.sql",
        claim.job.0,
        &codes,
        &holders as &[Option<String>]
    )
    .fetch_all(&mut **transaction)
    .await?
    .into_iter()
    .collect();
    let (new, repeated): (Vec<_>, Vec<_>) = rows.iter().partition(|row| new.contains(&row.code));
    done.repeated.extend(repeated.into_iter().map(|row| RowRejection::DuplicateInFile.of(row)));
    Ok(new)
}

/// Assigns the codes that are free and that no other transaction holds, each to the user of its row, in the order of the lines.
async fn assign_rows<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &[&'a ImportRow],
    done: &mut Done<'a>,
) -> Result<()> {
    let held = hold_codes(transaction, claim, spec, rows).await?;
    let mut wanted: BTreeMap<&str, i32> = BTreeMap::new();
    for one in &held {
        *wanted.entry(one.holder.as_str()).or_default() += 1;
    }
    let mut rooms = grant(transaction, spec.book, &wanted).await?;
    let mut given = Vec::with_capacity(held.len());
    for one in &held {
        match rooms.get_mut(&one.holder) {
            Some(room) if *room > 0 => {
                *room -= 1;
                given.push((one.holder.as_str(), &one.code));
            }
            _ => done.rejected.push(limit_reached(one.row)),
        }
    }
    give(transaction, claim, spec.book, &given).await?;
    done.assigned += count(given.len());
    let lines: HashSet<u64> = held.iter().map(|one| one.row.line).collect();
    let rest: Vec<&ImportRow> = rows.iter().copied().filter(|row| !lines.contains(&row.line)).collect();
    done.held = explain(transaction, claim, spec, &rest, done).await?;
    Ok(())
}

/// Locks the codes of these rows that are free; returns them in the order of the lines.
async fn hold_codes<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &[&'a ImportRow],
) -> Result<Vec<HeldByUs<'a>>> {
    let free = query_file!(
        "src/sql/hold_named_codes.sql",
        claim.business.0,
        spec.book.0,
        &rows.iter().map(|row| row.code.clone()).collect::<Vec<_>>(),
        &rows.iter().map(|row| user(row).to_owned()).collect::<Vec<_>>()
    )
    .fetch_all(&mut **transaction)
    .await?;
    let held = free.into_iter().map(|free| HeldByUs {
        row: rows[index(free.n)],
        holder: free.holder,
        code: HeldCode { code: free.code, position: free.position, version: free.version },
    });
    let mut held: Vec<_> = held.collect();
    held.sort_unstable_by_key(|one| one.row.line);
    Ok(held)
}

/// Locks the codes of these rows, waiting for other transactions, in the order of all batches.
async fn wait_for_codes(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    rows: &[ImportRow],
) -> Result<()> {
    query_scalar!("select set_config('lock_timeout', $1, true)", PATIENCE)
        .fetch_one(&mut **transaction)
        .await?;
    let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
    query_scalar!(
        r#"select c.code from unnest($2::text[]) as named (code)
           join coupon c on c.business_id = $1 and c.code = named.code collate "C"
           order by c.business_id, c.code for update of c"#,
        claim.business.0,
        &codes
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(())
}

/// Counts or rejects rows whose codes were not free, and returns those whose codes other transactions hold.
async fn explain<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &[&'a ImportRow],
    done: &mut Done<'a>,
) -> Result<Vec<&'a ImportRow>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let elsewhere = codes_of_other_books(transaction, claim, spec, rows).await?;
    let call = |row: &&ImportRow| Call {
        business: claim.business,
        visibility: Visibility::All,
        audit: AuditContext::of_program(""),
        key: None,
        ask: AssignNamed { code: row.code.clone(), user: user(row).to_owned() },
    };
    let calls: Vec<Call<AssignNamed>> = rows.iter().map(call).collect();
    let calls: Vec<&Call<AssignNamed>> = calls.iter().collect();
    let mut assignable = Vec::new();
    for why in why_not_assigned(&mut **transaction, &calls).await? {
        let row = rows[index(why.n)];
        if elsewhere.contains(&row.code) {
            done.rejected.push(RowRejection::OtherBook.of(row));
            continue;
        }
        match why.verdict.as_str() {
            "already" => done.already += 1,
            "again" => assignable.push(row),
            "user_limit_reached" => done.rejected.push(limit_reached(row)),
            verdict => match rejection(verdict, why.detail)? {
                // The book was changed after it was checked: the rule stops the job.
                rule @ (Rejection::BookNotActive | Rejection::BookNotStarted | Rejection::BookExpired) => {
                    return Err(rule.into());
                }
                rule => done.rejected.push(rejected_row(row, &rule)),
            },
        }
    }
    Ok(assignable)
}

/// Those of the codes of these rows that belong to other books of the business.
async fn codes_of_other_books(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &[&ImportRow],
) -> Result<HashSet<String>> {
    let codes: Vec<String> = rows.iter().map(|row| row.code.clone()).collect();
    let elsewhere = query_scalar!(
        r#"select c.code from unnest($3::text[]) as named (code)
           join coupon c on c.business_id = $1 and c.code = named.code collate "C" where c.book_id <> $2"#,
        claim.business.0,
        spec.book.0,
        &codes
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(elsewhere.into_iter().collect())
}

/// Counts what the rows would do after the earlier parts of the file. Assigns nothing.
async fn count_rows<'a>(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    rows: &[&'a ImportRow],
    mut rooms: HashMap<String, i64>,
    done: &mut Done<'a>,
) -> Result<()> {
    let mut assignable = explain(transaction, claim, spec, rows, done).await?;
    assignable.sort_unstable_by_key(|row| row.line);
    let (mut codes, mut holders) = (Vec::new(), Vec::new());
    for row in assignable {
        match rooms.get_mut(user(row)) {
            Some(room) if *room <= 0 => {
                done.rejected.push(limit_reached(row));
                continue;
            }
            Some(room) => *room -= 1,
            None => {}
        }
        codes.push(row.code.clone());
        holders.push(user(row).to_owned());
    }
    done.assigned += count(codes.len());
    query!(
        r#"update dry_run_code d set holder = a.holder from unnest($2::text[], $3::text[]) a (code, holder)
           where d.job_id = $1 and d.code = a.code collate "C""#,
        claim.job.0,
        &codes,
        &holders
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn limit_reached(row: &ImportRow) -> RejectedRow {
    RejectedRow {
        detail: "the user may hold no more codes of the book".into(),
        ..RowRejection::UserLimitReached.of(row)
    }
}

fn rejected_row(row: &ImportRow, why: &Rejection) -> RejectedRow {
    RejectedRow {
        line: row.line,
        code: row.code.clone(),
        reason: why.code().to_owned().into(),
        detail: why.to_string().into(),
        row: row.text.clone(),
    }
}
