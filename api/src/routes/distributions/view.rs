//! Distributions as the API shows them.

use cuponera_domain::job::Job;
use cuponera_store::Preview;
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

/// A distribution: a job of the kind `DISTRIBUTE`.
#[derive(Debug, Object)]
#[oai(rename = "Distribution", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(super) struct DistributionView {
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
pub(super) struct PreviewView {
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
