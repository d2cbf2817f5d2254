//! Distributing codes of a book to the users of a pool.

use cuponera_core::csv::begins_formula;
use cuponera_core::distribution::{Mode, OnShortage, Rules};
use cuponera_core::error::{Error, FieldFault, Refusal, Result};
use cuponera_core::id::{BookId, JobId, PoolId};
use cuponera_core::job::Job;
use cuponera_core::store::{
    DistributionFilter, MAX_MEMBERS_PREVIEWED, NewDistribution, Preview, ReportRow, Store,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use poem::Body as RawBody;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::Value;
use uuid::Uuid;

use super::{Tag, cursor, limit};
use crate::body::{Body, Fields, FromFields};
use crate::caller::Caller;
use crate::idempotency::HeldKey;
use crate::problem::Problem;
use crate::reply::{Either, Reply};
use crate::time::Time;
use crate::view::{JobView, List};

const HEADER: &[u8] = b"userId,given,codes,note\n";

pub(crate) struct Distributions;

/// Which codes the users of the pool get.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct NewDistributionBody {
    coupon_book_id: Uuid,
    /// `EQUAL` gives each user the same number, or numbers that differ by one. `RANDOM` gives each code to a user drawn uniformly from
    /// those below `maxCodesPerUser`.
    mode: String,
    /// For `EQUAL`: the number of codes for each user, in addition to those that it has. Either this or `totalCodes`.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000")))]
    codes_per_user: Option<i64>,
    /// The number of codes for all users together.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000000")))]
    total_codes: Option<i64>,
    /// The same seed, users and remaining quotas give each user the same number of codes. Drawn if absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "9007199254740991")))]
    seed: Option<i64>,
    /// `FAIL` (if absent) assigns nothing if the book has too few codes; `PARTIAL` distributes those that it has.
    on_shortage: Option<String>,
    /// Only compute the result.
    dry_run: Option<bool>,
    #[oai(skip)]
    rules: Option<ReadRules>,
}

/// The rules, as a type of core.
#[derive(Debug, Clone, Copy)]
struct ReadRules(Rules);

impl FromFields for NewDistributionBody {
    fn read(fields: &mut Fields) -> Option<Self> {
        let book = fields.required("couponBookId");
        let mode = fields.required::<String>("mode");
        let mode = mode.and_then(|mode| fields.word("mode", &mode, Mode::parse, "EQUAL, RANDOM"));
        let mut number = |name| {
            let number = fields.optional::<i64>(name)?;
            // One that is negative is out of range too.
            Some(u64::try_from(number).unwrap_or(u64::MAX))
        };
        let (per_user, total, seed) = (number("codesPerUser"), number("totalCodes"), number("seed"));
        let on_shortage = fields.optional::<String>("onShortage");
        let on_shortage = on_shortage
            .and_then(|choice| fields.word("onShortage", &choice, OnShortage::parse, "FAIL, PARTIAL"))
            .unwrap_or_default();
        let dry_run = fields.optional("dryRun");
        let rules = Rules::new(mode.unwrap_or(Mode::Equal), per_user, total, seed, on_shortage, drawn_seed());
        let rules = match rules {
            Ok(rules) => Some(ReadRules(rules)),
            Err(Refusal::Invalid { faults }) => {
                for FieldFault { field, message } in faults {
                    fields.fault(&field, message);
                }
                None
            }
            Err(_) => None,
        };
        mode?;
        Some(Self {
            coupon_book_id: book?,
            mode: String::new(),
            codes_per_user: None,
            total_codes: None,
            seed: None,
            on_shortage: None,
            dry_run,
            rules: Some(rules?),
        })
    }
}

/// The random bits of a new id.
fn drawn_seed() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}

/// A distribution: a job of the kind `DISTRIBUTE`.
#[derive(Debug, Object)]
#[oai(rename = "Distribution", rename_all = "camelCase", skip_serializing_if_is_none)]
struct DistributionView {
    job_id: Uuid,
    pool_id: Uuid,
    coupon_book_id: Uuid,
    /// `EQUAL` or `RANDOM`.
    mode: String,
    codes_per_user: Option<i64>,
    total_codes: Option<i64>,
    /// As requested, or as drawn.
    seed: i64,
    /// `FAIL` or `PARTIAL`.
    on_shortage: String,
    /// The status of the job.
    status: String,
    /// Users of the pool when the job was planned.
    members: i64,
    /// Codes that are assigned so far.
    given: i64,
    /// Codes that were missing in the book.
    short: i64,
    created_at: Time,
}

impl From<Job> for DistributionView {
    fn from(job: Job) -> Self {
        let id = |name: &str| job.result[name].as_str().and_then(|id| id.parse().ok()).unwrap_or_default();
        let text = |name: &str| job.result[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| job.result.get(name).and_then(Value::as_i64);
        Self {
            job_id: job.id.0,
            pool_id: id("poolId"),
            coupon_book_id: id("couponBookId"),
            mode: text("mode"),
            codes_per_user: number("codesPerUser"),
            total_codes: number("totalCodes"),
            seed: number("seed").unwrap_or_default(),
            on_shortage: text("onShortage"),
            status: job.status.as_str().to_owned(),
            members: number("members").unwrap_or_default(),
            given: number("given").unwrap_or_default(),
            short: number("short").unwrap_or_default(),
            created_at: job.created_at.into(),
        }
    }
}

/// The result that a distribution would have.
#[derive(Debug, Object)]
#[oai(rename = "DistributionPreview", rename_all = "camelCase")]
struct PreviewView {
    /// Users of the pool.
    members: u64,
    /// Users that may get a code.
    eligible: u64,
    /// Codes that they can be given within `maxCodesPerUser`.
    codes_needed: u64,
    /// Free codes that no other distribution has reserved.
    codes_available: u64,
    per_user: PerUserView,
    /// Codes that are missing: with `FAIL` nothing would be assigned.
    short: u64,
    /// The first 20 users.
    sample: Vec<SampleView>,
}

/// The smallest and the largest number of codes of an eligible user.
#[derive(Debug, Object)]
#[oai(rename = "CodesPerUser")]
struct PerUserView {
    min: u32,
    max: u32,
}

/// A user and its number of codes.
#[derive(Debug, Object)]
#[oai(rename = "DistributionSample", rename_all = "camelCase")]
struct SampleView {
    user_id: String,
    given: u32,
}

impl From<Preview> for PreviewView {
    fn from(preview: Preview) -> Self {
        let sample =
            preview.sample.into_iter().map(|user| SampleView { user_id: user.user_id, given: user.given });
        Self {
            members: preview.members,
            eligible: preview.eligible,
            codes_needed: preview.codes_needed,
            codes_available: preview.codes_available,
            per_user: PerUserView { min: preview.per_user.min, max: preview.per_user.max },
            short: preview.short,
            sample: sample.collect(),
        }
    }
}

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
        body: Body<NewDistributionBody>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Either<Json<PreviewView>, Reply<JobView, 202>>, Problem> {
        let new = body.value;
        let (pool, book) = (PoolId(id.0), BookId(new.coupon_book_id));
        caller.must_have_book(book)?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let ReadRules(rules) = new.rules.ok_or_else(|| Error::internal("the rules were not read"))?;
        let new = NewDistribution { pool, book, rules, dry_run: new.dry_run.unwrap_or(false) };
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
