//! Distributing codes of a book to the users of a pool, and taking them back.

mod doc;
mod request;
mod view;

use cuponera_domain::csv::begins_formula;
use cuponera_domain::id::{BookId, JobId, PoolId};
use cuponera_store::{DistributionFilter, MAX_MEMBERS_PREVIEWED, NewDistribution, ReportRow};
use cuponera_store::{Error, Result, Store};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use poem::Body as RawBody;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{JobView, List, Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::{Body, OptionalBody};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::{Either, Reply};
use request::{DistributionToSubmit, NewDistributionBody, TakeBackRequest};
use view::{DistributionView, PreviewView};

pub(super) use doc::operations;

const HEADER: &[u8] = b"userId,given,codes,note\n";

pub(crate) struct Distributions;

#[derive(ApiResponse)]
enum Report {
    /// A CSV file with the header `userId,given,codes,note`. A single space separates the codes. A user id that a spreadsheet would
    /// take for a formula has an apostrophe before it.
    #[oai(status = 200, content_type = "text/csv; charset=utf-8")]
    Csv(
        Binary<RawBody>,
        /// `attachment` with the name of the file.
        #[oai(header = "Content-Disposition")]
        String,
    ),
}

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Distributions")]
impl Distributions {
    /// Distribute codes to the users of a pool
    ///
    /// Responds immediately with a job. It notes the users of the pool, reserves all codes, and then assigns them. 409
    /// `not_enough_codes` if the counts of the book alone show that its codes are too few. With `dryRun` nothing is changed: 200 with
    /// the result, or 202 with a job that computes it if the pool has more than 100,000 users.
    #[oai(path = "/user-pools/:id/distributions", method = "post", operation_id = "distributeCodes")]
    async fn distribute(
        &self,
        caller: Caller,
        /// The pool.
        id: Path<Uuid>,
        body: Body<DistributionToSubmit, NewDistributionBody>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Either<Json<PreviewView>, Reply<JobView, 202>>, Problem> {
        let DistributionToSubmit { book, rules, dry_run } = body.value;
        let pool = PoolId(id.0);
        caller.must_have_book(book)?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let new = NewDistribution { pool, book, rules, dry_run };
        let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
        if new.dry_run && store.get_pool(business, pool).await?.member_count <= MAX_MEMBERS_PREVIEWED {
            return Ok(Either::This(Json(store.preview_distribution(business, new).await?.into())));
        }
        let stored = held.stored();
        let submit = async move { store.submit_distribution(stored, business, &actor, new).await };
        let answer = caller.app.run(submit).await?;
        let reply = Reply::of(answer, JobView::from)?;
        Ok(Either::Other(reply.at(|job| format!("/api/v1/jobs/{}", job.id))))
    }

    /// List distributions, newest first
    ///
    /// A page may be short or empty before the end of the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/distributions", method = "get", operation_id = "listDistributions")]
    async fn list(
        &self,
        caller: Caller,
        /// Only to this pool.
        #[oai(name = "poolId")]
        pool: Query<Option<Uuid>>,
        /// Only of this book.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<DistributionView>>, Problem> {
        let book = book.0.map(BookId);
        caller.must_have_book_of_list(book)?;
        let after = self::cursor(cursor.0, |text| text.parse::<JobId>().ok())?;
        let filter = DistributionFilter { pool: pool.0.map(PoolId), book, after };
        let limit = self::limit(limit.0)?;
        let page = caller.app.store.list_distributions(caller.business(), filter, limit).await?;
        Ok(Json(List::of(page, DistributionView::from)))
    }

    /// Get a distribution
    #[oai(path = "/distributions/:jobId", method = "get", operation_id = "getDistribution")]
    async fn get(
        &self,
        caller: Caller,
        /// The job of the distribution.
        #[oai(name = "jobId")]
        id: Path<Uuid>,
    ) -> Result<Json<DistributionView>, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        Ok(Json(caller.app.store.get_distribution(caller.business(), JobId(id.0)).await?.into()))
    }

    /// Get the report of a distribution, as CSV
    ///
    /// A line for each user of the pool, in the order of the ids: how many codes it got, which, and `limit_reached` if it has all that
    /// `maxCodesPerUser` allows and others got more. Complete once the job has ended.
    #[oai(path = "/jobs/:id/report", method = "get", operation_id = "getDistributionReport")]
    async fn report(
        &self,
        caller: Caller,
        /// The job of the distribution.
        id: Path<Uuid>,
    ) -> Result<Report, Problem> {
        let job = JobId(id.0);
        caller.must_have_book_of_job(job).await?;
        let store = &caller.app.store;
        store.get_distribution(caller.business(), job).await?;
        store.check_report(job).await?;
        let pieces =
            report_csv(store.clone(), job).map_err(|error: Error| std::io::Error::other(error.chain()));
        let disposition = format!("attachment; filename=\"{job}-report.csv\"");
        Ok(Report::Csv(Binary(RawBody::from_bytes_stream(pieces)), disposition))
    }

    /// Take back the codes of a distribution
    ///
    /// A job makes every code free again that the distribution assigned, that its user still holds through that assignment, and that was
    /// never used; each frees its place in `maxCodesPerUser`. Locked and used codes stay; they count as failed, and
    /// `GET /jobs/{id}/errors` lists them with the user. Codes that were revoked, assigned anew or voided since then stay as they are and
    /// count as succeeded (`goneCount`). The distribution must be over (409 `wrong_job_state`). While a take-back of the same distribution
    /// is open, the response is that job.
    #[oai(path = "/jobs/:id/take-back", method = "post", operation_id = "takeBackDistribution")]
    async fn take_back(
        &self,
        caller: Caller,
        /// The job of the distribution.
        id: Path<Uuid>,
        body: OptionalBody<TakeBackRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView, 202>, Problem> {
        let body = body.0;
        let distribution = JobId(id.0);
        caller.must_have_book_of_job(distribution).await?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
        let (stored, reason) = (held.stored(), body.value.reason);
        let submit =
            async move { store.submit_take_back(stored, business, &actor, distribution, reason).await };
        let answer = caller.app.run(submit).await?;
        Ok(Reply::of(answer, JobView::from)?.at(|job| format!("/api/v1/jobs/{}", job.id)))
    }
}

/// The report, a page at a time. No connection is held while a page is sent to the client.
fn report_csv(store: Store, job: JobId) -> impl Stream<Item = Result<bytes::Bytes>> + Send {
    let pages = stream::try_unfold(None, move |after| {
        let store = store.clone();
        async move {
            let page = store.list_report(job, after).await?;
            let last = page.last().map(|row| row.ordinal);
            Ok(if last.is_some() { Some((csv_of(&page)?, last)) } else { None })
        }
    });
    stream::once(async { Ok(bytes::Bytes::from_static(HEADER)) }).chain(pages)
}

fn csv_of(rows: &[ReportRow]) -> Result<bytes::Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        let user =
            if begins_formula(&row.user_id) { format!("'{}", row.user_id) } else { row.user_id.clone() };
        let (given, note) = (row.given.to_string(), row.note.as_deref().unwrap_or_default());
        writer.write_record([user.as_str(), &given, &row.codes, note]).map_err(Error::internal)?;
    }
    Ok(writer.into_inner().map_err(|error| Error::internal(error.to_string()))?.into())
}
