//! The body of a bulk void.

use chrono::{DateTime, Utc};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::job::void_codes::MAX_LISTED_CODES;
use poem_openapi::Object;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};
use crate::routes::undo::reason;

const STATUSES: &str = "AVAILABLE, ASSIGNED, LOCKED";

/// Which codes are voided: exactly one of `codes`, `jobId` and `filter`.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct VoidRequest {
    /// 1 to 500 characters, for the history of each code.
    #[oai(validator(min_length = 1, max_length = 500))]
    pub(super) reason: String,
    /// These codes, 10,000 at most.
    #[oai(validator(min_items = 1, max_items = 10000))]
    pub(super) codes: Option<Vec<String>>,
    /// The codes that this job generated or imported. The job must be over.
    pub(super) job_id: Option<Uuid>,
    pub(super) filter: Option<VoidFilter>,
    /// Only count the codes.
    #[oai(default)]
    pub(super) dry_run: bool,
}

/// Codes of a book. Codes that are redeemed are never voided.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
pub(super) struct VoidFilter {
    pub(super) coupon_book_id: Uuid,
    /// Only with this status: `AVAILABLE`, `ASSIGNED` or `LOCKED`.
    pub(super) status: Option<String>,
    /// Only with this prefix.
    #[oai(validator(min_length = 1, max_length = 64))]
    pub(super) prefix: Option<String>,
    /// Only if created before this time.
    pub(super) created_before: Option<DateTime<Utc>>,
}

impl FromFields for VoidFilter {
    fn read(fields: &mut Fields) -> Option<Self> {
        let book = fields.required("couponBookId");
        let status = fields.optional::<String>("status");
        if let Some(status) = &status {
            fields.word("status", status, voidable, STATUSES);
        }
        let prefix = fields.optional::<String>("prefix").map(|prefix| prefix.trim().to_uppercase());
        if prefix.as_ref().is_some_and(|prefix| !(1..=64).contains(&prefix.chars().count())) {
            fields.fault("prefix", "must have 1 to 64 characters");
        }
        let created_before = fields.optional("createdBefore");
        Some(Self { coupon_book_id: book?, status, prefix, created_before })
    }
}

pub(super) fn voidable(name: &str) -> Option<CouponStatus> {
    CouponStatus::parse(name).filter(|status| {
        matches!(status, CouponStatus::Available | CouponStatus::Assigned | CouponStatus::Locked)
    })
}

impl FromFields for VoidRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        let reason = reason(fields);
        let (codes, job_id) = (fields.optional::<Vec<String>>("codes"), fields.optional("jobId"));
        let filter = fields.optional::<Map<String, Value>>("filter");
        let selections = [codes.is_some(), job_id.is_some(), filter.is_some()]
            .into_iter()
            .filter(|is_set| *is_set)
            .count();
        if selections != 1 {
            fields.fault("codes", "is required, or `jobId`, or `filter`: exactly one of them");
        }
        if codes.as_ref().is_some_and(|codes| !(1..=MAX_LISTED_CODES).contains(&codes.len())) {
            fields.fault("codes", "must have 1 to 10000 codes");
        }
        let filter = filter.and_then(|filter| fields.nested::<VoidFilter>("filter", filter));
        let dry_run = fields.optional("dryRun").unwrap_or(false);
        Some(Self { reason: reason?, codes, job_id, filter, dry_run })
    }
}
