//! The operations on jobs.

mod doc;
mod view;

use std::time::Instant;

use cuponera_domain::id::JobId;
use cuponera_domain::job::{Job, JobKind, JobStatus};
use cuponera_platform::telemetry::metrics::Bound;
use cuponera_store::{CallResult, JobFilter};
use cuponera_store::{Error, Result};
use futures::TryStreamExt;
use poem::http::StatusCode;
use poem::{Body, Request};
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::{Binary, Json};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{List, Tag, cursor, limit, word};
use crate::auth::caller::Caller;
use crate::auth::credentials::Lifetime;
use crate::http::body::half_hash;
use crate::http::idempotency::HeldKey;
use crate::http::prefer;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request_permit::RequestPermit;
use crate::jobs::errors_file::errors_csv;
use crate::jobs::events::JobEvents;
use crate::shares::Full;
use view::RedriveView;

pub(super) use doc::operations;
pub(crate) use view::JobView;

/// `Retry-After` of a rejected stream, in seconds.
const RETRY_STREAM_SECONDS: u32 = 5;

pub(crate) struct Jobs;

#[derive(ApiResponse)]
enum Found {
    /// The job.
    #[oai(status = 200)]
    Job(
        Json<JobView>,
        /// `wait=` and the maximum wait in seconds, if the request preferred to wait.
        #[oai(header = "Preference-Applied")]
        Option<String>,
    ),
}

#[derive(ApiResponse)]
enum Events {
    /// `event: job` with the job as `data`: immediately and after each change. The last event is the ended job.
    #[oai(status = 200)]
    Stream(JobEvents),
}

#[derive(ApiResponse)]
enum Errors {
    /// A CSV file with the header `line,code,reason,row,detail`: the line number in the upload, the code as written there, a
    /// stable reason, the whole row, and a sentence. A cell that a spreadsheet would treat as a formula begins with an
    /// apostrophe.
    #[oai(status = 200, content_type = "text/csv; charset=utf-8")]
    Csv(
        Binary<Body>,
        /// `attachment` with the name of the file: browsers save it and do not display it.
        #[oai(header = "Content-Disposition")]
        String,
    ),
}

#[OpenApi(prefix_path = "/api/v1/jobs", tag = "Tag::Jobs")]
impl Jobs {
    /// List jobs, newest first
    ///
    /// A page may be short or empty before the end of the list: only `nextCursor` shows whether there are more.
    #[oai(path = "/", method = "get", operation_id = "listJobs")]
    async fn list(
        &self,
        caller: Caller,
        /// `QUEUED`, `RUNNING`, `SUCCEEDED`, `FAILED` or `CANCELLED`.
        status: Query<Option<String>>,
        /// `GENERATE_CODES`, `IMPORT_CODES`, `DELETE_BOOK`, `VOID_CODES`, `IMPORT_MEMBERS`, `DISTRIBUTE`,
        /// `TAKE_BACK`, `ASSIGN_CODES` or `EXPORT`.
        kind: Query<Option<String>>,
        /// `nextCursor` of the previous page.
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
    /// With `Prefer: wait=20` the response is sent when the job ends, at the latest after 20 seconds; 401 if the access token or API
    /// key becomes invalid meanwhile.
    #[oai(path = "/:id", method = "get", operation_id = "getJob")]
    async fn get(
        &self,
        caller: Caller,
        request: &Request,
        /// The job.
        id: Path<Uuid>,
        /// `wait=` and the maximum number of seconds to wait for the end of the job, up to 60.
        #[oai(name = "Prefer")]
        _prefer: Header<Option<String>>,
    ) -> Result<Found, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let (watches, business, id) = (&caller.app.watches, caller.business(), JobId(id.0));
        let wait = prefer::wait(request.headers());
        // Without a free slot the preference is ignored, and the response does not confirm it.
        let slot = || watches.wait_slot(&caller.claimant).ok();
        let Some((wait, slot)) = wait.and_then(|wait| Some((wait, slot()?))) else {
            return Ok(Found::Job(Json(caller.app.progress.get(business, id).await?.into()), None));
        };
        let pending = watches.watch(slot, business, id).await?;
        RequestPermit::of(request).release();
        let job = tokio::select! {
            job = pending.end(wait) => job,
            () = caller.ended(Lifetime::Credential) => return Err(Problem::unauthorized()),
        };
        Ok(Found::Job(Json(job.into()), Some(format!("wait={}", wait.as_secs()))))
    }

    /// Follow a job
    ///
    /// Server-sent events: `event: job` with the JSON of `GET /jobs/{id}` as `data`. The first event is sent immediately, others
    /// after changes, at most four a second. The stream ends after the event of the ended job, and when the access token or API
    /// key becomes invalid. Comments are sent as a heartbeat.
    #[oai(path = "/:id/events", method = "get", operation_id = "followJob")]
    async fn events(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
    ) -> Result<Events, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let watches = &caller.app.watches;
        let slot = watches.stream_slot(&caller.claimant).map_err(too_many_streams)?;
        let job = watches.watch(slot, caller.business(), JobId(id.0)).await?;
        Ok(Events::Stream(JobEvents { job, ended: Box::pin(caller.ended(Lifetime::Credential)) }))
    }

    /// Cancel a job
    ///
    /// Its effects so far remain. 409 if it has ended.
    #[oai(path = "/:id/cancel", method = "post", operation_id = "cancelJob")]
    async fn cancel(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView>, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let change = async move { store.cancel_job_if_open(stored, business, JobId(id.0)).await };
        Reply::of(changed(&caller, change).await?, JobView::from)
    }

    /// Retry the rest of a failed job
    #[oai(path = "/:id/retry", method = "post", operation_id = "retryJob")]
    async fn retry(
        &self,
        caller: Caller,
        /// The job.
        id: Path<Uuid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<JobView, 202>, Problem> {
        caller.must_have_book_of_job(JobId(id.0)).await?;
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let change = async move { store.retry_job_if_failed(stored, business, JobId(id.0)).await };
        Ok(Reply::of(changed(&caller, change).await?, JobView::from)?
            .at(|job| format!("/api/v1/jobs/{}", job.id)))
    }

    /// Retry the rest of all failed jobs
    ///
    /// Those of the caller's business in the last 14 days, the oldest first, at most 500 in one call. Use it when the cause of the
    /// failures is fixed. Dead letters of these jobs are deleted from their queue, if there is one.
    #[oai(path = "/redrive", method = "post", operation_id = "redriveJobs")]
    async fn redrive(
        &self,
        caller: Caller,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<RedriveView>, Problem> {
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let begun = Instant::now();
        let answer = caller.app.run(async move { store.redrive_jobs(stored, business).await }).await?;
        if let Some(redrive) = answer.effect() {
            caller.app.progress.keep_anew(&redrive.jobs, begun).await;
        }
        if let Some(pass) = caller.app.dead_letters.pass(&caller.app.store, &caller.app.queue) {
            caller.app.run_in_background(pass);
        }
        Reply::of(answer, RedriveView::from)
    }

    /// Get the rejected rows of a job, as CSV
    ///
    /// The columns are `line,code,reason,row,detail`. Contains the chunks that are finished; complete when the job has ended.
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

/// Changes a job, and stores its new state for watchers before the response is sent.
async fn changed(
    caller: &Caller,
    change: impl Future<Output = Result<CallResult<Job>>> + Send + 'static,
) -> Result<CallResult<Job>> {
    let begun = Instant::now();
    let answer = caller.app.run(change).await?;
    if let Some(job) = answer.effect() {
        caller.app.progress.keep(job, begun).await;
    }
    Ok(answer)
}

pub(super) fn too_many_streams(Full { bound, limit }: Full) -> Problem {
    let whose = match bound {
        Bound::Total | Bound::Anonymous => "the server",
        Bound::Business => "the business",
        Bound::Caller => "the caller",
        Bound::Address | Bound::Network => "the address",
    };
    let detail =
        format!("{whose} has reached the limit of {limit} open event streams: retry later, or poll the job");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
        .with_retry_after(RETRY_STREAM_SECONDS)
}
