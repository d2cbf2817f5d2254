//! Problem documents: `application/problem+json` (RFC 9457). They cannot contain internal text: an internal error becomes a
//! fixed sentence, and its chain of causes goes to the log.

use cuponera_domain::rejection::{FieldError, Rejection, RejectionClass};
use cuponera_store::Error;
use poem::error::ResponseError;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type};
use poem_openapi::{ApiResponse, Object};
use serde_json::Value;
use tracing::{error, warn};

use crate::http::language::Language;
use crate::http::time::Time;
use crate::routes::MembershipView;

pub(crate) mod spanish;

/// The media type of a problem.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

/// The header of a response that was stored by an earlier request with the same key.
pub(crate) const REPLAYED: &str = "Idempotent-Replayed";

/// Maximum length of a field name, in characters. Names come from the client; longer ones are cut.
const MAX_FIELD_CHARS: usize = 64;

/// A rejection or an error, as a response.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} {}", body.status, body.code)]
pub(crate) struct Problem {
    body: Box<ProblemBody>,
    retry_after_seconds: Option<u32>,
    /// The length of the file of which a range was requested.
    file_bytes: Option<u64>,
    is_replay: bool,
}

/// Why a request failed.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Problem", rename_all = "camelCase", skip_serializing_if_is_none)]
struct ProblemBody {
    /// Always `about:blank`: `status` and `code` identify the problem.
    #[oai(rename = "type")]
    kind: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// The stable code to match on, such as `sold_out` or `coupon_locked`.
    code: String,
    /// A sentence for people, in English, or in Spanish if `Accept-Language` prefers it.
    detail: String,
    /// All invalid fields.
    errors: Option<Vec<ProblemField>>,
    /// With `user_limit_reached` and `webhook_limit_reached`: the maximum.
    limit: Option<i64>,
    /// With `too_large`, if a file exceeds it: the maximum number of bytes.
    limit_bytes: Option<u64>,
    /// With `invalid_transition`: the status of the book.
    from: Option<String>,
    /// With `invalid_transition`: the requested status.
    to: Option<String>,
    /// With `wrong_job_state`: the status of the job.
    job_status: Option<String>,
    /// With `events_archived`: the last archived month, such as `2027-06`.
    month: Option<String>,
    /// With `pattern_exhausted`: the number of codes that are left.
    remaining: Option<u64>,
    /// With `not_enough_codes`: the number of codes that the distribution needs.
    needed: Option<u64>,
    /// With `not_enough_codes`: the number of free codes.
    available: Option<u64>,
    /// With `choose_business`: the businesses of the account.
    businesses: Option<Vec<MembershipView>>,
    /// With `storage_quota_exceeded`: the bytes that are stored for other jobs.
    used_bytes: Option<u64>,
    /// With `storage_quota_exceeded`: the bytes that may be stored.
    allowed_bytes: Option<u64>,
    /// With `coupon_locked`: the end of the lock.
    locked_until: Option<Time>,
    /// With a file that cannot be imported: the line of the fault, from 1.
    line: Option<u64>,
    /// With `unclear_header`: the cells of the record that may be a header.
    first_record: Option<Vec<String>>,
    /// With `unclear_header`: the parameters that determine the format.
    parameters: Option<Vec<String>>,
}

/// An invalid field.
#[derive(Debug, Clone, Object)]
struct ProblemField {
    /// Its name. Names of nested fields have dots.
    field: String,
    /// The fault and the expected value.
    message: String,
}

impl Problem {
    /// A problem that is not an error of core.
    pub(crate) fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            body: Box::new(ProblemBody {
                kind: "about:blank".into(),
                title: status.canonical_reason().unwrap_or("Error").into(),
                status: status.as_u16(),
                code: code.into(),
                detail: detail.into(),
                errors: None,
                limit: None,
                limit_bytes: None,
                from: None,
                to: None,
                job_status: None,
                month: None,
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
            file_bytes: None,
            is_replay: false,
        }
    }

    /// Missing or invalid credentials. The problem does not say which.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send a valid access token as `Authorization: Bearer …`, or a valid key as `X-API-Key`",
        )
    }

    /// The rate limit is exceeded until `seconds` from now.
    pub(crate) fn rate_limited(seconds: u32) -> Self {
        let detail = format!("too many requests: retry in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(seconds)
    }

    /// Too many wrong passwords for an email, from an address without a recent login to it.
    pub(crate) fn too_many_passwords(seconds: u32) -> Self {
        let detail = format!("too many wrong passwords for this email: retry in {seconds} s");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail).with_retry_after(seconds)
    }

    /// The password is correct and the account belongs to several businesses.
    pub(crate) fn choose_business(businesses: Vec<MembershipView>) -> Self {
        let detail = "the account belongs to several businesses: send the `businessId` of one of them";
        let mut problem = Self::new(StatusCode::CONFLICT, "choose_business", detail);
        problem.body.businesses = Some(businesses);
        problem
    }

    /// A resource of the server is used up.
    pub(crate) fn overloaded() -> Self {
        let detail = "the server has no capacity for this request: retry";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail).with_retry_after(1)
    }

    /// The body did not arrive in time.
    pub(crate) fn request_timeout() -> Self {
        let detail = "the body did not arrive in time: send the request again";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail)
    }

    /// An internal error.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "internal server error: the log contains the cause under the request id",
        )
    }

    /// Adds the invalid fields.
    pub(crate) fn with_faults(mut self, faults: &[FieldError]) -> Self {
        let field = |fault: &FieldError| ProblemField {
            field: fault.field.chars().take(MAX_FIELD_CHARS).collect(),
            message: fault.message.clone(),
        };
        self.body.errors = Some(faults.iter().map(field).collect());
        self
    }

    /// Adds `Retry-After`.
    pub(crate) fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Adds `Content-Range` with the length of the file.
    pub(crate) fn with_content_range(mut self, file_bytes: u64) -> Self {
        self.file_bytes = Some(file_bytes);
        self
    }

    /// Marks it as the stored response to an earlier request with the same key.
    pub(crate) fn replayed(mut self) -> Self {
        self.is_replay = true;
        self
    }

    /// If the response is a problem, puts its sentence into this language.
    pub(crate) fn translate(response: &mut Response, language: Language) {
        let Some(mut problem) = response.extensions_mut().remove::<Self>() else { return };
        let translated = match language {
            Language::English => None,
            Language::Spanish => problem.in_spanish(),
        };
        let language = if translated.is_some() { language } else { Language::English };
        if let Some(detail) = translated {
            problem.body.detail = detail;
            response.set_body(problem.body.to_json_string());
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LANGUAGE, HeaderValue::from_static(language.tag()));
        headers.append(header::VARY, HeaderValue::from_static("Accept-Language"));
    }

    /// The sentence with the values of this problem. `None` for a code of a newer version.
    pub(crate) fn in_spanish(&self) -> Option<String> {
        let fields = self.body.to_json()?;
        let mut parts = spanish::sentence(&self.body.code)?.split(['{', '}']);
        let mut sentence = parts.next()?.to_owned();
        while let (Some(name), Some(text)) = (parts.next(), parts.next()) {
            sentence.push_str(&match name {
                "retryAfter" => self.retry_after_seconds?.to_string(),
                name => words(fields.get(name)?)?,
            });
            sentence.push_str(text);
        }
        Some(sentence)
    }

    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let mut problem = Self::new(status_of(rejection.class()), rejection.code(), rejection.to_string());
        match &rejection {
            Rejection::Invalid { faults } => problem = problem.with_faults(faults),
            Rejection::UserLimitReached { limit } | Rejection::RedeemLimitReached { limit } => {
                problem.body.limit = Some(i64::from(*limit));
            }
            Rejection::WebhookLimitReached { limit } => problem.body.limit = Some(*limit),
            Rejection::TooLarge { limit_bytes } => problem.body.limit_bytes = Some(*limit_bytes),
            Rejection::InvalidTransition { from, to } => {
                (problem.body.from, problem.body.to) = (Some(from.clone()), Some(to.clone()));
            }
            Rejection::EventsArchived { month } => problem.body.month = Some(month.clone()),
            Rejection::WrongJobState { status, .. } => problem.body.job_status = Some(status.clone()),
            Rejection::PatternExhausted { remaining } => problem.body.remaining = Some(*remaining),
            Rejection::NotEnoughCodes { needed, available } => {
                (problem.body.needed, problem.body.available) = (Some(*needed), Some(*available));
            }
            Rejection::StorageQuotaExceeded { used_bytes, allowed_bytes } => {
                (problem.body.used_bytes, problem.body.allowed_bytes) =
                    (Some(*used_bytes), Some(*allowed_bytes));
            }
            Rejection::CouponLocked { locked_until } => {
                problem.body.locked_until = Some((*locked_until).into());
            }
            Rejection::BadFile { line, fault, first_record, .. } => {
                problem.body.line = *line;
                problem.body.code.clone_from(fault);
                problem.body.first_record.clone_from(first_record);
                let settle =
                    || ["header", "codeColumn", "userColumn", "delimiter"].map(str::to_owned).to_vec();
                problem.body.parameters = first_record.as_ref().map(|_| settle());
            }
            Rejection::KeyInProgress => problem = problem.with_retry_after(1),
            _ => {}
        }
        problem
    }
}

/// A value in a sentence. Of invalid fields, their names.
fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Object(field) => words(field.get("field")?),
        Value::Array(all) => Some(all.iter().filter_map(words).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) => None,
    }
}

fn status_of(class: RejectionClass) -> StatusCode {
    match class {
        RejectionClass::NotFound => StatusCode::NOT_FOUND,
        RejectionClass::Forbidden => StatusCode::FORBIDDEN,
        RejectionClass::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        RejectionClass::Conflict => StatusCode::CONFLICT,
        RejectionClass::Gone => StatusCode::GONE,
        RejectionClass::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Rejected(rejection) => rejection.into(),
            Error::Unavailable(_) => {
                warn!(error = error.chain(), "a request failed temporarily");
                let detail = "a service that the server needs is unavailable: retry";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail).with_retry_after(1)
            }
            Error::Busy => {
                let detail = "another transaction has locked a row that the call changes: retry";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "coupon_busy", detail).with_retry_after(1)
            }
            Error::Internal(_) => {
                error!(error = error.chain(), "a request failed with an internal error");
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
        if let Some(range) =
            self.file_bytes.and_then(|bytes| HeaderValue::from_str(&format!("bytes */{bytes}")).ok())
        {
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        if self.is_replay {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response.extensions_mut().insert(self);
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

/// The document lists the problems of each operation: see [`crate::document`].
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
