//! Take-back of a distribution: the job is submitted once, and its chunks revoke what the distribution assigned.
//!
//! **Invariants.** A code is revoked only while its assignment is the one that the distribution made. A chunk runs one statement that
//! changes coupons (`revoke.sql`), so quotas are locked in one order. Codes that other transactions hold are left to a chunk that waits
//! for them. Rows are locked in this order: the job of the distribution, coupons, quotas, the chunk, the job.

use std::time::Duration;

use serde_json::json;
use sqlx::{PgConnection, PgExecutor, PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::Store;
use crate::batch::{Call, Visibility, Why, index, rejection};
use crate::codes::space::as_i64;
use crate::codes::{RejectedRow, write_rejections};
use crate::error::{Error, Result};
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held};
use crate::job::read;
use crate::job::submit::{self, NewJob};
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use cuponera_domain::id::{AssignmentId, BookId, BusinessId, JobId};
use cuponera_domain::job::take_back::{
    AssignedCode, CODES_PER_CHUNK, Chunk, HELD_CODES_PER_CHUNK, MAX_PARTS, Part, Place, Spec,
};
use cuponera_domain::job::{ChunkWork, Job, JobStatus, Work};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::rejection::Rejection;

use super::{Revoke, revoke_each, why_not_revoked};

/// How long a chunk waits for a code that another transaction holds, before it is tried again.
const PATIENCE: &str = "2s";

impl Store {
    /// Writes the job that takes back what a distribution assigned, or returns the open job that does. Nothing is revoked yet.
    pub async fn submit_take_back(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        distribution: JobId,
        reason: Option<String>,
    ) -> Result<CallResult<Job>> {
        let mut begun = match self.attempt(key).await? {
            KeyedChange::Begun(begun) => begun,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let id = JobId::generate();
        let outcome = async {
            let transaction = &mut begun.transaction;
            let book = hold_ended(transaction, business, distribution).await?;
            if let Some(open) =
                find_open_take_backs(&mut **transaction, business, &[distribution.0]).await?.first()
            {
                return read::get(&mut **transaction, business, open.job).await;
            }
            let reason = reason.unwrap_or_else(|| format!("take-back of job {distribution}"));
            let spec = Spec { book, distribution, reason };
            let job = NewJob {
                id,
                business,
                actor: actor.to_owned(),
                result: spec.first_result(),
                work: Work::TakeBack(spec),
                ordered: false,
                total: None,
                chunks: vec![ChunkWork::TakeBack(Chunk::Divide)],
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            submit::insert(transaction, job, self).await
        }
        .await;
        let answer = self.notify_relay_after(begun.commit(outcome).await);
        match &answer {
            Ok(CallResult { outcome: Ok(job), .. }) if job.id != id => answer,
            _ => submit::counted(answer),
        }
    }

    /// The first step, and the first after a retry: divides the codes that are not divided yet into parts.
    pub async fn finish_divided(&self, claim: &Claim, spec: &Spec) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        check_over(&mut *transaction, spec).await?;
        let parts = query_file!(
            "src/sql/parts_to_take_back.sql",
            spec.distribution.0,
            MAX_PARTS,
            CODES_PER_CHUNK,
            claim.job.0
        )
        .fetch_all(&mut *transaction)
        .await?;
        let place = |row: usize| {
            let row = parts.get(row)?;
            Some(Place { ordinal: row.ordinal, slice: row.slice, codes_before: 0 })
        };
        let next = parts.iter().enumerate().map(|(row, part)| {
            Chunk::Part(Part {
                from: place(row).unwrap_or_default(),
                until: place(row + 1),
                codes_before: part.codes_before,
                slices: Some(part.slices.clone()),
            })
        });
        // A later division that finds no further codes leaves the total.
        let nothing = (claim.number == 0).then_some(0);
        let finished = Finished {
            result: json!({}),
            next: next.map(ChunkWork::TakeBack).collect(),
            total: parts.first().map(|part| part.codes).or(nothing),
            ..Finished::default()
        };
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }

    /// Takes back the next codes of a part and finishes their chunk.
    pub async fn finish_taken_back_part(
        &self,
        claim: &Claim,
        spec: &Spec,
        part: &Part,
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let finished = async {
            let mut transaction = begin(&mut connection, claim).await?;
            check_over(&mut *transaction, spec).await?;
            let piece = find_piece(&mut transaction, claim, spec, part).await?;
            let mut next = Vec::new();
            if let Some(from) = piece.end {
                let codes_before = part.codes_before + CODES_PER_CHUNK;
                next.push(Chunk::Part(Part { from, codes_before, ..part.clone() }));
            }
            let done = take_back(&mut transaction, claim, spec, &piece.codes, Wait::No).await?;
            self.finish_codes(transaction, claim, &piece, done, next).await
        }
        .await;
        if finished.is_err() {
            // A COPY may have failed.
            connection.close_on_drop();
        }
        finished
    }

    /// Takes back codes that other transactions held, and finishes their chunk.
    pub async fn finish_taken_back_held(
        &self,
        claim: &Claim,
        spec: &Spec,
        codes: &[AssignedCode],
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let finished = async {
            let mut transaction = begin(&mut connection, claim).await?;
            check_over(&mut *transaction, spec).await?;
            let piece = Piece { codes: codes.to_vec(), gone: 0, end: None };
            let done = take_back(&mut transaction, claim, spec, codes, Wait::Yes).await?;
            self.finish_codes(transaction, claim, &piece, done, Vec::new()).await
        }
        .await;
        if finished.is_err() {
            connection.close_on_drop();
        }
        finished
    }

    async fn finish_codes(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        piece: &Piece,
        done: Done,
        mut next: Vec<Chunk>,
    ) -> Result<ClaimState> {
        let held: Vec<_> = done.held.iter().map(|place| piece.codes[*place].clone()).collect();
        next.extend(held.chunks(HELD_CODES_PER_CHUNK).map(|codes| Chunk::Held { codes: codes.to_vec() }));
        let rejected: Vec<_> =
            done.rejected.iter().map(|(place, why)| rejected_row(&piece.codes[*place], why)).collect();
        write_rejections(&mut transaction, self.storage_quota, claim, [&rejected, &[]]).await?;
        let gone = piece.gone + done.gone;
        let finished = Finished {
            succeeded: done.taken + gone,
            failed: as_i64(rejected.len() as u64),
            result: json!({
                "takenBackCount": done.taken, "goneCount": gone, "lockedCount": done.locked,
                "redeemedCount": done.redeemed }),
            next: next.into_iter().map(ChunkWork::TakeBack).collect(),
            ..Finished::default()
        };
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }
}

/// Locks the job of a distribution that is over, so that it is not retried meanwhile, and returns its book.
async fn hold_ended(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: JobId,
) -> Result<BookId> {
    let row = query!(
        r#"select status, work, discarding_at is not null as "is_discarded!" from job
           where id = $1 and business_id = $2 for no key update"#,
        id.0,
        business.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Rejection::not_found("job"))?;
    let book = match serde_json::from_value::<Work>(row.work) {
        Ok(Work::Distribute(spec)) if !spec.dry_run => spec.book,
        _ => {
            return Err(Rejection::invalid("id", "must name a distribution that is not a dry run").into());
        }
    };
    if !matches!(JobStatus::parse(&row.status), Some(status) if status.is_over()) {
        let hint = "its codes can be taken back when it is over: cancel it first";
        return Err(Rejection::WrongJobState { status: row.status, hint: hint.into() }.into());
    }
    if row.is_discarded { Err(Rejection::JobDiscarded.into()) } else { Ok(book) }
}

/// Makes the take-backs among these jobs divide their codes again: their distributions may have been retried, and have assigned further
/// codes, since they were divided. The caller has locked the jobs and retries them.
pub(crate) async fn divide_again(transaction: &mut PgTransaction<'_>, retried: &[Uuid]) -> Result<()> {
    let divide = serde_json::to_value(ChunkWork::TakeBack(Chunk::Divide)).map_err(Error::internal)?;
    query_file!("src/sql/divide_again.sql", retried, divide).execute(&mut **transaction).await?;
    Ok(())
}

/// An open take-back.
pub(crate) struct OpenTakeBack {
    /// Its job.
    pub(crate) job: JobId,
    /// The job of the distribution.
    pub(crate) distribution: JobId,
}

/// The open take-backs of these distributions, oldest first.
pub(crate) async fn find_open_take_backs(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    distributions: &[Uuid],
) -> Result<Vec<OpenTakeBack>> {
    let rows = query!(
        r#"select id, (work->>'distribution')::uuid as "distribution!" from job
           where business_id = $1 and kind = 'TAKE_BACK' and status in ('QUEUED', 'RUNNING')
             and (work->>'distribution')::uuid = any($2)
           order by id"#,
        business.0,
        distributions
    )
    .fetch_all(executor)
    .await?;
    let open = rows
        .into_iter()
        .map(|row| OpenTakeBack { job: JobId(row.id), distribution: JobId(row.distribution) });
    Ok(open.collect())
}

/// Refuses if the distribution runs again, or its report is being deleted: both may happen while this job has failed. Locks the
/// distribution's job: it stays over until the chunk has ended.
async fn check_over(executor: impl PgExecutor<'_>, spec: &Spec) -> Result<()> {
    let row = query!(
        r#"select status, discarding_at is not null as "is_discarded!" from job where id = $1 for share"#,
        spec.distribution.0
    )
    .fetch_one(executor)
    .await?;
    if !matches!(JobStatus::parse(&row.status), Some(status) if status.is_over()) {
        let hint = "the distribution runs again: its codes can be taken back when it is over";
        return Err(Rejection::WrongJobState { status: row.status, hint: hint.into() }.into());
    }
    if row.is_discarded { Err(Rejection::JobDiscarded.into()) } else { Ok(()) }
}

/// The next codes of a part.
struct Piece {
    /// Those that are still assigned by the distribution.
    codes: Vec<AssignedCode>,
    /// The number of the others.
    gone: i64,
    /// The place of the next piece, if this one is full.
    end: Option<Place>,
}

async fn find_piece(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    part: &Part,
) -> Result<Piece> {
    let rows = query_file!(
        "src/sql/codes_to_take_back.sql",
        spec.distribution.0,
        claim.business.0,
        part.from.ordinal,
        part.from.slice,
        part.from.codes_before,
        part.until.map(|place| place.ordinal),
        part.until.map(|place| place.slice),
        CODES_PER_CHUNK,
        part.slices.as_deref()
    )
    .fetch_all(&mut **transaction)
    .await?;
    let found = as_i64(rows.len() as u64);
    let last = rows.last().filter(|_| found == CODES_PER_CHUNK);
    let end = last.map(|row| Place { ordinal: row.ordinal, slice: row.slice, codes_before: row.nth });
    let codes = rows.into_iter().zip(part.codes_before + 1..).filter_map(|(row, number)| {
        let assignment = AssignmentId(row.assignment_id?);
        Some(AssignedCode { number, user: row.user_id, code: row.code, assignment })
    });
    let codes: Vec<_> = codes.collect();
    Ok(Piece { gone: found - as_i64(codes.len() as u64), codes, end })
}

/// Whether a statement waits for coupons that other transactions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    No,
    Yes,
}

/// What became of the codes of a piece.
#[derive(Default)]
struct Done {
    taken: i64,
    /// Codes that the distribution's member does not hold any more.
    gone: i64,
    locked: i64,
    redeemed: i64,
    /// Codes that a rule protects, by their index.
    rejected: Vec<(usize, Rejection)>,
    /// Codes that another transaction held, by their index.
    held: Vec<usize>,
}

impl Done {
    fn count(&mut self, place: usize, why: Why) -> Result<()> {
        match why.verdict.as_str() {
            "not_assigned" | "not_holder" | "coupon_void" | "coupon_not_found" => self.gone += 1,
            "again" => self.held.push(place),
            verdict => {
                match verdict {
                    "coupon_locked" => self.locked += 1,
                    "coupon_already_redeemed" => self.redeemed += 1,
                    unknown => {
                        return Err(Error::internal(format!("revoke_why returned {unknown:?}")));
                    }
                }
                self.rejected.push((place, rejection(verdict, why.detail)?));
            }
        }
        Ok(())
    }
}

/// Revokes the codes that no rule protects and no other transaction holds, in one statement.
async fn take_back(
    transaction: &mut PgConnection,
    claim: &Claim,
    spec: &Spec,
    codes: &[AssignedCode],
    wait: Wait,
) -> Result<Done> {
    if codes.is_empty() {
        return Ok(Done::default());
    }
    if wait == Wait::Yes {
        query_scalar!("select set_config('lock_timeout', $1, true)", PATIENCE)
            .fetch_one(&mut *transaction)
            .await?;
    }
    let audit = AuditContext::of_job(claim.job);
    let call = |code: &AssignedCode| Call {
        business: claim.business,
        visibility: Visibility::All,
        audit: audit.clone(),
        key: None,
        ask: Revoke {
            code: code.code.clone(),
            user: None,
            assignment: Some(code.assignment),
            reason: spec.reason.clone(),
        },
    };
    let calls: Vec<Call<Revoke>> = codes.iter().map(call).collect();
    let calls: Vec<&Call<Revoke>> = calls.iter().collect();
    let taken = revoke_each(&mut *transaction, &calls, wait == Wait::Yes).await?;
    let mut is_open = vec![true; calls.len()];
    for (n, _) in &taken {
        is_open[index(*n)] = false;
    }
    let mut done = Done { taken: as_i64(taken.len() as u64), ..Done::default() };
    let open: Vec<usize> = (0..calls.len()).filter(|place| is_open[*place]).collect();
    let calls: Vec<&Call<Revoke>> = open.iter().map(|place| calls[*place]).collect();
    if !calls.is_empty() {
        for why in why_not_revoked(&mut *transaction, &calls).await? {
            done.count(open[index(why.n)], why)?;
        }
    }
    Ok(done)
}

fn rejected_row(code: &AssignedCode, why: &Rejection) -> RejectedRow {
    RejectedRow {
        line: code.number.unsigned_abs(),
        code: code.code.clone(),
        reason: why.code().to_owned().into(),
        detail: why.to_string().into(),
        row: format!("{} {}", code.user, code.code),
    }
}
