//! Watching, stopping and retrying long work.

use std::time::Instant;

use cuponera_core::error::{Error, Result};
use cuponera_core::id::JobId;
use cuponera_core::job::{Job, JobKind, JobStatus};
use cuponera_core::store::{Answer, JobFilter};
use cuponera_core::telemetry::metrics::Bound;
use futures::TryStreamExt;
use poem::http::StatusCode;
use poem::{Body, Request};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{Tag, cursor, limit, word};
use crate::body::half_hash;
use crate::caller::Caller;
use crate::credentials::Lifetime;
use crate::idempotency::HeldKey;
use crate::job_errors::errors_csv;
use crate::job_events::JobEvents;
use crate::place::Place;
use crate::prefer;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::shares::Full;
use crate::view::{JobView, List, RedriveView};

/// When a client that found no place for a stream may try again, in seconds.
const RETRY_STREAM_SECONDS: u32 = 5;

pub(crate) struct Jobs;

#[derive(ApiResponse)]
enum Found {
    /// The job.
    #[oai(status = 200)]
    Job(
        Json<JobView>,
        /// `wait=` and the most seconds the answer may have waited, if it was asked to wait.
        #[oai(header = "Preference-Applied")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum Events {
    /// `event: job` with the job as `data`: at once, whenever it has changed, and last when it is over.
    #[oai(status = 200)]
    Stream(JobEvents),
}

#[derive(ApiResponse)]
enum Errors {
    /// A CSV file with the header `line,code,reason,row,detail`: the physical line of the upload, the code as it stands there,
    /// a stable word for why it was refused, the whole row, and a sentence. A text cell that a spreadsheet would take for a
    /// formula has an apostrophe before it.
    #[oai(status = 200, content_type = "text/csv; charset=utf-8")]
    Csv(
        Binary<Body>,
        /// `attachment` with the name of the file: browsers save it, and show nothing.
        #[oai(header = "Content-Disposition")]
        String,
    ),
}

#[OpenApi(prefix_path = "/api/v1/jobs", tag = "Tag::Jobs")]
impl Jobs {
    /// List jobs, newest first
    ///
    /// A page may be short or empty before the end of the list: `nextCursor` alone says whether there is more.
    #[oai(path = "/", method = "get", operation_id = "listJobs")]
    async fn list(
        &self,
        caller: Caller,
        /// `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`.
        status: Query<Option<String>>,
        /// `GENERATE_CODES`, `IMPORT_CODES`, `DELETE_BOOK`, `IMPORT_MEMBERS` or `DISTRIBUTE`.
        kind: Query<Option<String>>,
        /// `nextCursor` of the page before.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<JobView>>, Problem> {
        let filter = JobFilter {
            status: word(
                "status",
                status.0,
                JobStatus::parse,
                "QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED",
            )?,
            kind: word("kind", kind.0, JobKind::parse, &JobKind::ALL.map(JobKind::as_str).join(", "))?,
            after: self::cursor(cursor.0, |text| text.parse().ok())?,
        };
        let page = caller.app.store.list_jobs(caller.business(), &filter, self::limit(limit.0)?).await?;
        Ok(Json(List::of(page, JobView::from)))
    }

    /// Get a job
    ///
    /// With `Prefer: wait=20` the answer comes when the job is over, or after 20 seconds; 401 when the access token or API key ends
    /// meanwhile.
    #[oai(path = "/:id", method = "get", operation_id = "getJob")]
    async fn get(
        &self,
        caller: Caller,
        request: &Request,
        /// The job.
        id: Path<Uuid>,
        /// `wait=` and how many seconds the answer may wait for the job to be over; at most 60.
        #[oai(name = "Prefer")]
        _prefer: Header<Option<String>>,
    ) -> Result<Found, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let (watches, business, id) = (&caller.app.watches, caller.business(), JobId(id.0));
        let wait = prefer::wait(request.headers());
        // Without a slot the preference is passed over, and the answer does not claim it.
        let slot = || watches.slot_to_wait(&caller.claimant).ok();
        let Some((wait, slot)) = wait.and_then(|wait| Some((wait, slot()?))) else {
            return Ok(Found::Job(Json(caller.app.progress.get(business, id).await?.into()), None));
        };
        let pending = watches.watch(slot, business, id).await?;
        Place::of(request).give_up();
        let job = tokio::select! {
            job = pending.end(wait) => job,
            () = caller.ended(Lifetime::Credential) => return Err(Problem::unauthorized()),
        };
        Ok(Found::Job(Json(job.into()), Some(format!("wait={}", wait.as_secs()))))
    }

    /// Follow a job
    ///
    /// Server-sent events: `event: job`, its `data` the same JSON as `GET /jobs/{id}` gives. The first comes at once, others
    /// when the job has changed, at most four a second; the stream ends after the one of a job that is over, and when the access
    /// token or API key ends. Comments in between show that it is alive.
    #[oai(path = "/:id/events", method = "get", operation_id = "followJob")]
    async fn events(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
    ) -> Result<Events, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let watches = &caller.app.watches;
        let slot = watches.slot_to_follow(&caller.claimant).map_err(too_many_streams)?;
        let job = watches.watch(slot, caller.business(), JobId(id.0)).await?;
        Ok(Events::Stream(JobEvents { job, ended: Box::pin(caller.ended(Lifetime::Credential)) }))
    }

    /// Stop a job
    ///
    /// What it has done stays. 409 if it is over.
    #[oai(path = "/:id/cancel", method = "post", operation_id = "cancelJob")]
    async fn cancel(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
        /// Answers the same again to the same key and request.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView>, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.app.store.clone(), caller.business(), held.stored());
        let change = async move { store.cancel_job_if_open(stored, business, JobId(id.0)).await };
        Reply::of(changed(&caller, change).await?, JobView::from)
    }

    /// Run again what is left of a job that failed
    #[oai(path = "/:id/retry", method = "post", operation_id = "retryJob")]
    async fn retry(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
        /// Answers the same again to the same key and request.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView, 202>, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.app.store.clone(), caller.business(), held.stored());
        let change = async move { store.retry_job_if_failed(stored, business, JobId(id.0)).await };
        Ok(Reply::of(changed(&caller, change).await?, JobView::from)?
            .at(|job| format!("/api/v1/jobs/{}", job.id)))
    }

    /// Run again what is left of all jobs that failed
    ///
    /// Of the caller's business, in the last 14 days, the oldest first, 500 at most in one call. Once the cause is mended. Dead
    /// letters of these jobs are taken off their queue, if there is one.
    #[oai(path = "/redrive", method = "post", operation_id = "redriveJobs")]
    async fn redrive(
        &self,
        caller: Caller,
        /// Answers the same again to the same key and request.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RedriveView>, Problem> {
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.app.store.clone(), caller.business(), held.stored());
        let begun = Instant::now();
        let answer = caller.app.run(async move { store.redrive_jobs(stored, business).await }).await?;
        if let Some(redrive) = answer.effect() {
            caller.app.progress.keep_anew(&redrive.jobs, begun).await;
        }
        caller.app.letters.forget_needless(&caller.app);
        Reply::of(answer, RedriveView::from)
    }

    /// What a job refused, as CSV
    ///
    /// The columns are `line,code,reason,row,detail`. Of the chunks that are done so far; complete once the job is over.
    #[oai(path = "/:id/errors", method = "get", operation_id = "getJobErrors")]
    async fn errors(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
    ) -> Result<Errors, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let app = &caller.app;
        let pieces = errors_csv(&app.store, &app.files, caller.business(), JobId(id.0)).await?;
        let body = pieces.map_err(|error: Error| std::io::Error::other(error.chain()));
        let disposition = format!("attachment; filename=\"{}-errors.csv\"", id.0);
        Ok(Errors::Csv(Binary(Body::from_bytes_stream(body)), disposition))
    }
}

/// Changes a job; whoever polls hears of it as soon as the caller does.
async fn changed(
    caller: &Caller,
    change: impl Future<Output = Result<Answer<Job>>> + Send + 'static,
) -> Result<Answer<Job>> {
    let begun = Instant::now();
    let answer = caller.app.run(change).await?;
    if let Some(job) = answer.effect() {
        caller.app.progress.keep(job, begun).await;
    }
    Ok(answer)
}

fn too_many_streams(Full { bound, limit }: Full) -> Problem {
    let whose = match bound {
        Bound::Total | Bound::Anonymous => "the server",
        Bound::Business => "the business",
        Bound::Caller => "the caller",
        Bound::Address | Bound::Network => "the address",
    };
    let detail = format!(
        "{whose} has {limit} streams of events open, which is the limit: come back later, or ask for the job itself"
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
        .with_retry_after(RETRY_STREAM_SECONDS)
}
