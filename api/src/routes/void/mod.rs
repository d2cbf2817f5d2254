//! Bulk void: by list, by job, or by filter; as a preview or as a job.

mod doc;
mod request;
mod view;

use std::collections::BTreeSet;

use cuponera_domain::coupon::code::Code;
use cuponera_domain::id::{BookId, JobId};
use cuponera_domain::job::void_codes::Filter;
use cuponera_store::{Error, VoidSelection};
use poem_openapi::param::Header;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{JobView, Tag};
use crate::auth::caller::Caller;
use crate::http::body::Body;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::rejected;
use request::{VoidRequest, voidable};
use view::VoidPreviewView;

pub(super) use doc::operations;

pub(crate) struct BulkVoids;

/// The response to a bulk void.
#[derive(ApiResponse)]
pub(super) enum BulkVoid {
    /// What would be voided.
    #[oai(status = 200)]
    Preview(Json<VoidPreviewView>),
    /// The job that voids the codes.
    #[oai(status = 202)]
    Job(
        Json<Box<JobView>>,
        /// The path of the job.
        #[oai(header = "Location")]
        String,
        /// `true` if this is the stored response to an earlier request with the same key.
        #[oai(header = "Idempotent-Replayed")]
        Option<String>,
    ),
}

#[OpenApi(prefix_path = "/api/v1/coupons", tag = "Tag::Coupons")]
impl BulkVoids {
    /// Void many codes
    ///
    /// A job ends the codes permanently. Codes of a list that do not exist or are redeemed count as failed, and
    /// `GET /jobs/{id}/errors` lists them. With `dryRun` the response is 200 with the codes by status, and nothing changes.
    #[oai(path = "/void", method = "post", operation_id = "voidCoupons")]
    async fn void(
        &self,
        caller: Caller,
        body: Body<VoidRequest>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<BulkVoid, Problem> {
        let VoidRequest { reason, codes, job_id, filter, dry_run } = body.value;
        let selection = match (codes, job_id, filter) {
            (Some(codes), ..) => listed(&caller, &codes).await?,
            (None, Some(job), _) => {
                caller.must_have_book_of_job(JobId(job)).await?;
                VoidSelection::Job(JobId(job))
            }
            (None, None, Some(filter)) => {
                let book = BookId(filter.coupon_book_id);
                caller.must_have_book(book)?;
                let filter = Filter {
                    status: filter.status.as_deref().and_then(voidable),
                    prefix: filter.prefix,
                    created_before: filter.created_before,
                    job: None,
                };
                VoidSelection::Book(book, filter)
            }
            (None, None, None) => return Err(Error::internal("a void of nothing was accepted").into()),
        };
        void_all(&caller, body.fingerprint, selection, reason, dry_run).await
    }
}

/// The codes of a list, each once. What cannot be a code is left as it is, and does not exist.
async fn listed(caller: &Caller, codes: &[String]) -> Result<VoidSelection, Problem> {
    let mut seen = BTreeSet::new();
    let normalized =
        codes.iter().map(|code| Code::parse(code).map_or_else(|_| code.clone(), Code::into_string));
    let codes: Vec<String> = normalized.filter(|code| seen.insert(code.clone())).collect();
    for book in caller.app.store.books_of_codes(caller.business(), &codes).await? {
        caller.must_have_book(book)?;
    }
    Ok(VoidSelection::Codes(codes))
}

/// Counts the codes of a selection, or submits the job that voids them.
pub(super) async fn void_all(
    caller: &Caller,
    fingerprint: Uuid,
    selection: VoidSelection,
    reason: String,
    dry_run: bool,
) -> Result<BulkVoid, Problem> {
    let (store, business) = (caller.store(), caller.business());
    // Also checks the key of a dry run, which stores nothing.
    let held = HeldKey::take(caller, fingerprint)?;
    if dry_run {
        return Ok(BulkVoid::Preview(Json(store.preview_void(business, &selection).await?.into())));
    }
    let (stored, actor) = (held.stored(), caller.principal.to_string());
    let submit = async move { store.submit_void(stored, business, &actor, selection, &reason).await };
    let answer = caller.app.run(submit).await?;
    match answer.outcome {
        Ok(job) => {
            let location = format!("/api/v1/jobs/{}", job.id);
            let replayed = answer.replayed.then(|| "true".to_owned());
            Ok(BulkVoid::Job(Json(Box::new(JobView::from(job))), location, replayed))
        }
        Err(rejection) => Err(rejected(rejection, answer.replayed)),
    }
}
