//! Bulk void: what a request selects, the job that voids it, and the pieces that its chunks void.
//!
//! **Invariant.** A chunk runs one statement that changes coupons (`void.sql`), so quotas are locked in one order. What another
//! transaction holds is skipped and left to a chunk that waits for it.

use std::ops::Range;
use std::time::Duration;

use serde_json::json;
use sqlx::{PgConnection, PgExecutor, PgTransaction, query_file, query_scalar};

use crate::GenerateId;
use crate::Store;
use crate::batch::{Call, Visibility, Why, index};
use crate::book;
use crate::codes::space::as_i64;
use crate::codes::{CodesOfJob, RejectedRow, write_rejections};
use crate::error::{Error, Result};
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held};
use crate::job::submit::{self, NewJob};
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};
use crate::stored_status::StoredStatus;
use cuponera_domain::book::Counts;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::job::void_codes::{Chunk, Filter, Spec, chunks_of_list, chunks_of_positions};
use cuponera_domain::job::{ChunkWork, Job, Work};
use cuponera_domain::principal::AuditContext;
use cuponera_domain::rejection::Rejection;

use super::{Void, void_each, why_not_voided};

/// Maximum number of codes that a chunk voids: less than half a second of work. Calls for these codes wait for its commit.
const CODES_PER_CHUNK: i64 = 2_500;
/// Maximum number of codes that a chunk examines, if few are in its filter.
const CODES_EXAMINED: i64 = 20_000;
/// How long a chunk waits for a code that another transaction holds, before it is tried again.
const PATIENCE: &str = "2s";
/// More codes than a book has positions.
const ALL: i64 = i64::MAX;

/// What a bulk void is about.
#[derive(Debug, Clone, PartialEq)]
pub enum VoidSelection {
    /// These codes.
    Codes(Vec<String>),
    /// The codes that this job created.
    Job(JobId),
    /// Codes of this book.
    Book(BookId, Filter),
}

/// The coupons that a bulk void is about, by effective status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoidPreview {
    /// The coupons.
    pub counts: Counts,
    /// Listed codes that do not exist.
    pub not_found: i64,
}

/// A selection, resolved.
struct Target {
    book: Option<BookId>,
    filter: Filter,
    chunks: Vec<ChunkWork>,
    total: Option<i64>,
}

/// Positions of a book, with the codes among them.
struct Span {
    book: BookId,
    positions: Range<i32>,
    filter: Filter,
    /// The codes up to the first one of another job are those of the job.
    ends_at_other_job: bool,
    /// At most this many codes of the positions are in the filter, and they are the first ones.
    most: i64,
}

impl Store {
    /// The books of these codes, as far as they exist.
    pub async fn books_of_codes(&self, business: BusinessId, codes: &[String]) -> Result<Vec<BookId>> {
        Ok(count_listed(&self.reads, business, codes).await?.1)
    }

    /// Counts what a bulk void would be about, and changes nothing.
    pub async fn preview_void(&self, business: BusinessId, selection: &VoidSelection) -> Result<VoidPreview> {
        if let VoidSelection::Codes(codes) = selection {
            return Ok(count_listed(&self.reads, business, codes).await?.0);
        }
        let mut connection = self.reports.acquire().await?;
        let span = span_of(&mut connection, business, selection).await?;
        let row = query_file!(
            "src/sql/count_codes_to_void.sql",
            span.book.0,
            span.positions.start,
            span.positions.end,
            span.filter.status.map(StoredStatus) as _,
            span.filter.prefix.as_deref(),
            span.filter.created_before,
            span.filter.job.map(|job| job.0),
            span.most
        )
        .fetch_one(&mut *connection)
        .await?;
        let counts = Counts {
            available: row.available,
            assigned: row.assigned,
            locked: row.locked,
            redeemed: row.redeemed,
            void: row.void,
        };
        Ok(VoidPreview { counts, not_found: 0 })
    }

    /// Writes the job of a bulk void. Nothing is voided yet.
    pub async fn submit_void(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        actor: &str,
        selection: VoidSelection,
        reason: &str,
    ) -> Result<CallResult<Job>> {
        let mut begun = match self.attempt(key).await? {
            KeyedChange::Begun(begun) => begun,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let target = resolve(&mut begun.transaction, business, &selection).await?;
            let spec = Spec { book: target.book, reason: reason.to_owned(), filter: target.filter };
            let job = NewJob {
                id: JobId::generate(),
                business,
                actor: actor.to_owned(),
                result: spec.first_result(),
                work: Work::VoidCodes(spec),
                ordered: false,
                total: target.total.map(u64::try_from).transpose().map_err(Error::internal)?,
                chunks: target.chunks,
                delay: Duration::ZERO,
                warnings: Vec::new(),
            };
            submit::insert(&mut begun.transaction, job, self).await
        }
        .await;
        submit::counted(self.notify_relay_after(begun.commit(outcome).await))
    }

    /// Voids listed codes and finishes their chunk.
    pub async fn finish_voided_list(
        &self,
        claim: &Claim,
        spec: &Spec,
        codes: &[(u64, String)],
        waits: bool,
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let names: Vec<String> = codes.iter().map(|(_, code)| code.clone()).collect();
        let piece = void_codes(&mut transaction, claim, spec, &names, waits).await?;
        let reject = |(place, rejection): &(usize, Rejection)| RejectedRow {
            line: codes[*place].0,
            code: codes[*place].1.clone(),
            reason: rejection.code().to_owned().into(),
            detail: rejection.to_string().into(),
            row: codes[*place].1.clone(),
        };
        let rejections: Vec<_> = piece.rejected.iter().map(reject).collect();
        write_rejections(&mut transaction, self.storage_quota, claim, [&rejections, &[]]).await?;
        let held: Vec<_> = piece.held.iter().map(|place| codes[*place].clone()).collect();
        let next =
            if held.is_empty() { Vec::new() } else { vec![Chunk::Listed { codes: held, waits: true }] };
        let finished = Finished { failed: as_i64(rejections.len() as u64), ..piece.finished(0, next) };
        self.finish_piece(transaction, claim, &finished).await
    }

    /// Voids the next codes at these positions and finishes their chunk.
    pub async fn finish_voided_positions(
        &self,
        claim: &Claim,
        spec: &Spec,
        positions: &Range<i32>,
        ends_at_other_job: bool,
        waits: bool,
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let mut transaction = begin(&mut connection, claim).await?;
        let piece = find_piece(&mut transaction, claim, spec, positions, ends_at_other_job).await?;
        let done = void_codes(&mut transaction, claim, spec, &piece.codes, waits).await?;
        let mut next = Vec::new();
        if !done.held.is_empty() {
            next.push(Chunk::Positions {
                positions: positions.start..piece.end,
                ends_at_other_job,
                waits: true,
            });
        }
        if !piece.is_last && piece.end < positions.end {
            next.push(Chunk::Positions {
                positions: piece.end..positions.end,
                ends_at_other_job,
                waits: false,
            });
        }
        let finished = done.finished(piece.redeemed, next);
        self.finish_piece(transaction, claim, &finished).await
    }

    async fn finish_piece(
        &self,
        mut transaction: PgTransaction<'_>,
        claim: &Claim,
        finished: &Finished,
    ) -> Result<ClaimState> {
        let status = finish_if_held(&mut transaction, claim, finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }
}

/// Resolves a selection to a job's chunks.
async fn resolve(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    selection: &VoidSelection,
) -> Result<Target> {
    if let VoidSelection::Codes(codes) = selection {
        let (_, books) = count_listed(&mut **transaction, business, codes).await?;
        let book = if let [book] = books[..] { Some(book) } else { None };
        let (chunks, total) = (chunks_of_list(codes), i64::try_from(codes.len()).map_err(Error::internal)?);
        return Ok(Target { book, filter: Filter::default(), chunks, total: Some(total) });
    }
    let span = span_of(transaction, business, selection).await?;
    let chunks = chunks_of_positions(&span.positions, span.ends_at_other_job);
    let total = if span.filter.prefix.is_none()
        && span.filter.created_before.is_none()
        && span.filter.job.is_none()
    {
        let counts = book::get(&mut **transaction, business, span.book).await?.counts;
        Some(voidable(&counts, span.filter.status))
    } else {
        None
    };
    Ok(Target { book: Some(span.book), filter: span.filter, chunks, total })
}

/// How many codes of these counts a void of this status is about.
fn voidable(counts: &Counts, status: Option<CouponStatus>) -> i64 {
    match status {
        None => counts.available + counts.assigned + counts.locked,
        Some(CouponStatus::Available) => counts.available,
        Some(CouponStatus::Assigned) => counts.assigned,
        Some(CouponStatus::Locked) => counts.locked,
        Some(CouponStatus::Redeemed | CouponStatus::Void) => 0,
    }
}

/// The positions that a selection is about.
async fn span_of(
    connection: &mut PgConnection,
    business: BusinessId,
    selection: &VoidSelection,
) -> Result<Span> {
    match selection {
        VoidSelection::Codes(_) => Err(Error::internal("listed codes have no span")),
        VoidSelection::Job(job) => span_of_job(connection, business, *job).await,
        VoidSelection::Book(book, filter) => {
            let end = query_scalar!(
                "select next_position from coupon_book where id = $1 and business_id = $2",
                book.0,
                business.0
            )
            .fetch_optional(connection)
            .await?
            .ok_or_else(|| Rejection::not_found("coupon book"))?;
            let (book, filter, positions) = (*book, filter.clone(), 0..end);
            Ok(Span { book, positions, filter, ends_at_other_job: false, most: ALL })
        }
    }
}

/// The positions of the codes that a job created. Rejected while the job may still create codes.
async fn span_of_job(connection: &mut PgConnection, business: BusinessId, id: JobId) -> Result<Span> {
    let codes = CodesOfJob::find(connection, business, id, None).await?;
    if !codes.is_over() {
        let hint = "its codes can be voided when it is over: cancel it first";
        return Err(Rejection::WrongJobState { status: codes.status, hint: hint.into() }.into());
    }
    let CodesOfJob { book, positions, ends_at_other_job, most, .. } = codes;
    let filter = Filter { job: Some(id), ..Filter::default() };
    Ok(Span { book, positions, filter, ends_at_other_job, most })
}

/// How many of the listed codes are in each status, and their books.
async fn count_listed(
    executor: impl PgExecutor<'_>,
    business: BusinessId,
    codes: &[String],
) -> Result<(VoidPreview, Vec<BookId>)> {
    let row = query_file!("src/sql/count_listed_codes.sql", business.0, codes).fetch_one(executor).await?;
    let counts = Counts {
        available: row.available,
        assigned: row.assigned,
        locked: row.locked,
        redeemed: row.redeemed,
        void: row.void,
    };
    let books = row.books.into_iter().map(BookId).collect();
    Ok((VoidPreview { counts, not_found: row.not_found }, books))
}

/// The next codes of a book to void.
struct Piece {
    codes: Vec<String>,
    /// The position after it.
    end: i32,
    is_last: bool,
    /// Codes of the filter that are redeemed.
    redeemed: i64,
}

async fn find_piece(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    positions: &Range<i32>,
    ends_at_other_job: bool,
) -> Result<Piece> {
    let row = query_file!(
        "src/sql/codes_to_void.sql",
        claim.book()?.0,
        positions.start,
        positions.end,
        spec.filter.status.map(StoredStatus) as _,
        spec.filter.prefix.as_deref(),
        spec.filter.created_before,
        spec.filter.job.map(|job| job.0),
        ends_at_other_job,
        CODES_EXAMINED,
        CODES_PER_CHUNK
    )
    .fetch_one(&mut **transaction)
    .await?;
    let end = row.last.map_or(positions.end, |last| last.saturating_add(1));
    Ok(Piece { codes: row.codes, end, is_last: row.is_last, redeemed: row.redeemed })
}

/// What became of the codes of a piece.
#[derive(Default)]
struct Done {
    voided: i64,
    already: i64,
    redeemed: i64,
    not_found: i64,
    /// Codes that a rule protects, by their index.
    rejected: Vec<(usize, Rejection)>,
    /// Codes that another transaction held, by their index.
    held: Vec<usize>,
}

impl Done {
    /// What the chunk adds to its job, apart from failed rows. `redeemed`: codes that were found to be redeemed before.
    fn finished(&self, redeemed: i64, next: Vec<Chunk>) -> Finished {
        let result = json!({
            "voidedCount": self.voided, "alreadyVoidCount": self.already, "notFoundCount": self.not_found,
            "redeemedCount": self.redeemed + redeemed });
        let next = next.into_iter().map(ChunkWork::VoidCodes).collect();
        Finished { succeeded: self.voided + self.already, result, next, ..Finished::default() }
    }

    fn count(&mut self, place: usize, why: &Why) -> Result<()> {
        match why.verdict.as_str() {
            "already" => self.already += 1,
            "coupon_already_redeemed" => {
                self.redeemed += 1;
                self.rejected.push((place, Rejection::CouponAlreadyRedeemed));
            }
            "coupon_not_found" => {
                self.not_found += 1;
                self.rejected.push((place, Rejection::not_found("coupon")));
            }
            "other_status" => {}
            "again" => self.held.push(place),
            unknown => return Err(Error::internal(format!("void_why returned {unknown:?}"))),
        }
        Ok(())
    }
}

/// Voids the codes that no rule protects and no other transaction holds, in one statement.
async fn void_codes(
    transaction: &mut PgTransaction<'_>,
    claim: &Claim,
    spec: &Spec,
    codes: &[String],
    waits: bool,
) -> Result<Done> {
    if waits {
        query_scalar!("select set_config('lock_timeout', $1, true)", PATIENCE)
            .fetch_one(&mut **transaction)
            .await?;
    }
    let audit = AuditContext::of_job(claim.job);
    let call = |code: &String| Call {
        business: claim.business,
        visibility: Visibility::All,
        audit: audit.clone(),
        key: None,
        ask: Void { code: code.clone(), user: None, only: spec.filter.status, reason: spec.reason.clone() },
    };
    let calls: Vec<Call<Void>> = codes.iter().map(call).collect();
    let calls: Vec<&Call<Void>> = calls.iter().collect();
    let voided = void_each(&mut **transaction, &calls, waits).await?;
    let mut is_open = vec![true; calls.len()];
    for (n, _) in &voided {
        is_open[index(*n)] = false;
    }
    let mut done = Done { voided: as_i64(voided.len() as u64), ..Done::default() };
    let open: Vec<usize> = (0..calls.len()).filter(|place| is_open[*place]).collect();
    let calls: Vec<&Call<Void>> = open.iter().map(|place| calls[*place]).collect();
    if !calls.is_empty() {
        for why in why_not_voided(&mut **transaction, &calls).await? {
            done.count(open[index(why.n)], &why)?;
        }
    }
    Ok(done)
}
