//! Every refusal and fault as `application/problem+json` (RFC 9457). Internal text cannot get in here: a fault of ours
//! becomes one fixed sentence, and its chain goes to the log.

use cuponera_core::error::{Error, FieldFault, Refusal, RefusalClass};
use poem::error::ResponseError;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type};
use poem_openapi::{ApiResponse, Object};
use tracing::{error, warn};

use crate::reply::REPLAYED;
use crate::time::Time;
use crate::view::MembershipView;

/// The media type of a problem.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// The longest name of a field at fault, in characters: names are what the client made up, and longer ones are cut.
const MAX_FIELD_CHARS: usize = 64;

/// A refusal or fault on its way out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} {}", body.status, body.code)]
pub(crate) struct Problem {
    body: Box<ProblemBody>,
    retry_after_seconds: Option<u32>,
    is_replay: bool,
}

/// Why a request was not done.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Problem", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ProblemBody {
    /// Always `about:blank`: the status says what kind it is, `code` which one.
    #[oai(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable word to match on, such as `sold_out` or `coupon_locked`.
    code: String,
    /// A sentence for people.
    detail: String,
    /// The fields at fault, all at once.
    errors: Option<Vec<ProblemField>>,
    /// With `pattern_exhausted`: how many codes remain.
    remaining: Option<u64>,
    /// With `not_enough_codes`: how many codes the distribution needs.
    needed: Option<u64>,
    /// With `not_enough_codes`: how many codes are free.
    available: Option<u64>,
    /// With `choose_business`: the businesses to choose from.
    businesses: Option<Vec<MembershipView>>,
    /// With `storage_quota_exceeded`: the bytes that are stored for other jobs.
    used_bytes: Option<u64>,
    /// With `storage_quota_exceeded`: the bytes that may be stored.
    allowed_bytes: Option<u64>,
    /// With `coupon_locked`: when the lock runs out.
    locked_until: Option<Time>,
    /// With a file that cannot be imported: the line at fault, from 1.
    line: Option<u64>,
    /// With `unclear_header`: the cells of the record that may be a header, as read.
    first_record: Option<Vec<String>>,
    /// With `unclear_header`: the parameters that settle the question.
    parameters: Option<Vec<String>>,
}

/// A field at fault.
#[derive(Debug, Clone, Object)]
struct ProblemField {
    /// Its name, nested ones with dots.
    field: String,
    /// What is wrong and what would be right.
    message: String,
}

impl Problem {
    /// A problem of the edge itself, which core knows nothing of.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            body: Box::new(ProblemBody {
                kind: "about:blank".into(),
                title: status.canonical_reason().unwrap_or("Error").into(),
                status: status.as_u16(),
                code: code.into(),
                detail: detail.into(),
                errors: None,
                remaining: None,
                needed: None,
                available: None,
                businesses: None,
                used_bytes: None,
                allowed_bytes: None,
                locked_until: None,
                line: None,
                first_record: None,
                parameters: None,
            }),
            retry_after_seconds: None,
            is_replay: false,
        }
    }

    /// No or wrong credentials; nothing more is said.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send a valid access token as `Authorization: Bearer …`, or a valid key as `X-API-Key`",
        )
    }

    /// More than the caller may ask for; the next is let through after so many seconds.
    pub(crate) fn rate_limited(seconds: u32) -> Self {
        let detail = format!("too many requests: ask again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(seconds)
    }

    /// Too many wrong passwords for an email, from an address that has not logged in to it.
    pub(crate) fn too_many_passwords(seconds: u32) -> Self {
        let detail = format!("too many wrong passwords for this email: try again in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(seconds)
    }

    /// The password is right and the account belongs to several businesses.
    pub(crate) fn choose_business(businesses: Vec<MembershipView>) -> Self {
        let detail = "the account belongs to several businesses: send the `businessId` of one of them";
        let mut problem = Self::new(StatusCode::CONFLICT, "choose_business", detail);
        problem.body.businesses = Some(businesses);
        problem
    }

    /// More than the server can do at once.
    pub(crate) fn overloaded() -> Self {
        let detail = "the server has no free place for this request; ask again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).with_retry_after(1)
    }

    /// The client did not send its body in the time it has.
    pub(crate) fn request_timeout() -> Self {
        let detail = "the body did not come in time; send the request again";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    /// A fault of ours.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the server has a fault; the log has it under the request's id",
        )
    }

    /// The same with the fields at fault.
    pub(crate) fn with_faults(mut self, faults: &[FieldFault]) -> Self {
        let field = |fault: &FieldFault| ProblemField {
            field: fault.field.chars().take(MAX_FIELD_CHARS).collect(),
            message: fault.message.clone(),
        };
        self.body.errors = Some(faults.iter().map(field).collect());
        self
    }

    /// The same with when to come back.
    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// The same as the stored answer of an earlier request under the same key.
    pub(crate) fn replayed(mut self) -> Self {
        self.is_replay = true;
        self
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let mut problem = Self::new(status_of(refusal.class()), refusal.code(), refusal.to_string());
        match &refusal {
            Refusal::Invalid { faults } => problem = problem.with_faults(faults),
            Refusal::PatternExhausted { remaining } => problem.body.remaining = Some(*remaining),
            Refusal::NotEnoughCodes { needed, available } => {
                (problem.body.needed, problem.body.available) = (Some(*needed), Some(*available));
            }
            Refusal::StorageQuotaExceeded { used_bytes, allowed_bytes } => {
                (problem.body.used_bytes, problem.body.allowed_bytes) =
                    (Some(*used_bytes), Some(*allowed_bytes));
            }
            Refusal::CouponLocked { locked_until } => {
                problem.body.locked_until = Some((*locked_until).into());
            }
            Refusal::BadFile { line, fault, first_record, .. } => {
                problem.body.line = *line;
                problem.body.code.clone_from(fault);
                problem.body.first_record.clone_from(first_record);
                let settle =
                    || ["header", "codeColumn", "userColumn", "delimiter"].map(str::to_owned).to_vec();
                problem.body.parameters = first_record.as_ref().map(|_| settle());
            }
            Refusal::KeyInProgress => problem = problem.with_retry_after(1),
            _ => {}
        }
        problem
    }
}

fn status_of(class: RefusalClass) -> StatusCode {
    match class {
        RefusalClass::NotFound => StatusCode::NOT_FOUND,
        RefusalClass::Forbidden => StatusCode::FORBIDDEN,
        RefusalClass::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalClass::Conflict => StatusCode::CONFLICT,
        RefusalClass::Gone => StatusCode::GONE,
        RefusalClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Unavailable(_) => {
                warn!(error = error.chain(), "a request has to wait");
                let detail = "the server cannot do this right now; ask again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(1)
            }
            Error::Busy => {
                let detail =
                    "another transaction holds the coupon, or a row that the call changes: ask again";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "coupon_busy", detail).with_retry_after(1)
            }
            Error::Internal(_) => {
                error!(error = error.chain(), "a request met a fault");
                Self::internal()
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::builder()
            .status(self.status())
            .content_type(CONTENT_TYPE)
            .body(self.body.to_json_string());
        if self.status() == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self.is_replay {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        Problem::status(self)
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

/// Which problems an operation may answer is said where the document is completed: see [`crate::document`].
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let content = vec![MetaMediaType { content_type: CONTENT_TYPE, schema: ProblemBody::schema_ref() }];
        let any =
            MetaResponse { description: "", status: None, status_range: None, content, headers: Vec::new() };
        MetaResponses { responses: vec![any] }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}
