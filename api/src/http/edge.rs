//! The outermost layer: assigns request ids and converts every error to a problem document.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use cuponera_domain::rejection::FieldError;
use cuponera_domain::trace::{TRACE_PARENT, TraceParent};
use cuponera_platform::telemetry::join_trace;
use futures::FutureExt;
use poem::http::uri::Authority;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use tracing::{Instrument, error, error_span, field};
use uuid::Uuid;

use crate::app::App;
use crate::auth::limits::RequestContext;
use crate::http::headers;
use crate::http::language::Language;
use crate::http::problem::Problem;
use crate::http::traffic;
use crate::routes::methods_of;

/// The header of a request's id.
pub(crate) const REQUEST_ID: &str = "X-Request-Id";
/// Maximum length of a client's own id.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The prefix of all paths of the API.
pub(crate) const API: &str = "/api/v1/";
/// The paths of one code.
const COUPONS: &str = "/api/v1/coupons/";
/// Operations that verify a secret in the body. They are counted by address, also with credentials.
const TRYING_SECRETS: [&str; 3] = ["/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/password"];

/// The id of a request, in its response, events and log lines.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

/// Handles a request with `next`.
pub(crate) async fn edge<E: Endpoint>(
    app: Arc<App>,
    next: Arc<E>,
    mut request: Request,
) -> poem::Result<Response> {
    let begun = Instant::now();
    let route = traffic::route_of(request.method(), request.uri().path());
    let id = client_id(&request).unwrap_or_else(|| Uuid::now_v7().to_string().into());
    let context = app.limiter.context_of(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(context.clone());
    let (path, asked) = (request.uri().path().to_owned(), request.headers().clone());
    // An error span, so that every log level includes it. The path itself is never logged, because it can contain codes and
    // keys.
    let (method, route_name) = (route.method, route.template);
    let span = error_span!("request", id = %id, method, route = route_name, trace = field::Empty);
    let trace = join_trace(&span, client_trace(&request));
    request.extensions_mut().insert(trace);
    let answer = async {
        let mut response = match answer(&app, &context, &path, next, request).await {
            Ok(response) => response,
            Err(problem) => problem.into_response(),
        };
        Problem::translate(&mut response, Language::accepted(&asked));
        context.write_headers(response.headers_mut());
        app.cors.mark(&asked, response.headers_mut());
        headers::secure(&path, response.headers_mut());
        if let Ok(value) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        route.answered(response.status(), begun.elapsed());
        response
    };
    Ok(answer.instrument(span).await)
}

/// Checks the rate limit of anonymous requests, and calls `next`. The permit to run is taken by the guard
/// ([`crate::auth::guard`]); health and documentation need none.
async fn answer<E: Endpoint>(
    app: &App,
    context: &RequestContext,
    path: &str,
    next: Arc<E>,
    request: Request,
) -> Result<Response, Problem> {
    must_name_one_host(&request)?;
    if let Some(preflight) = app.cors.preflight(&request, || methods_of(path)) {
        return Ok(preflight);
    }
    if is_anonymous(path, &request) {
        app.limiter.count_anonymous(context).await?;
    }
    must_be_plain(&request)?;
    let mut response = match AssertUnwindSafe(next.call(request)).catch_unwind().await {
        Ok(Ok(response)) => response.into_response(),
        Ok(Err(error)) => as_problem(&error).into_response(),
        Err(_) => {
            error!("a handler panicked");
            Problem::internal().into_response()
        }
    };
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED => {
            let allowed = methods_of(path).and_then(|methods| HeaderValue::from_str(&methods).ok());
            response.headers_mut().extend(allowed.map(|methods| (header::ALLOW, methods)));
        }
        // Requests for codes of others are limited.
        StatusCode::NOT_FOUND if path.starts_with(COUPONS) => app.limiter.count_miss(context).await?,
        _ => {}
    }
    Ok(response)
}

/// Whether a request is counted by address: it has no credentials, or verifies a secret. Paths outside the API are not
/// counted.
fn is_anonymous(path: &str, request: &Request) -> bool {
    let has_credentials =
        request.headers().contains_key(header::AUTHORIZATION) || request.headers().contains_key("X-API-Key");
    path.starts_with(API) && (!has_credentials || TRYING_SECRETS.contains(&path))
}

/// Requires exactly one host (RFC 9112, section 3.2): proxies and servers choose differently between several.
fn must_name_one_host(request: &Request) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let is_host = |host: &HeaderValue| {
        host.to_str().is_ok_and(|host| !host.contains('@') && host.parse::<Authority>().is_ok())
    };
    if host.is_some_and(is_host) && other.is_none() {
        return Ok(());
    }
    let detail = "the request must have one Host header, with a host and an optional port";
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail))
}

/// Rejects compressed bodies, which could expand to a thousand times their size.
fn must_be_plain(request: &Request) -> Result<(), Problem> {
    match request.headers().get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the body without Content-Encoding",
        )),
        _ => Ok(()),
    }
}

/// The client's id, if it is short and has only letters, digits and `-_.:`.
fn client_id(request: &Request) -> Option<Arc<str>> {
    let id = request.header(REQUEST_ID)?;
    let plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    (plain && (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())).then(|| id.into())
}

/// The client's span, if the header occurs once and is valid.
fn client_trace(request: &Request) -> Option<TraceParent> {
    let mut said = request.headers().get_all(TRACE_PARENT).iter();
    let (Some(parent), None) = (said.next(), said.next()) else { return None };
    parent.to_str().ok()?.parse().ok()
}

/// Converts an error of the framework to a problem.
fn as_problem(error: &poem::Error) -> Problem {
    if let Some(problem) = error.downcast_ref::<Problem>() {
        return problem.clone();
    }
    if let Some(param) = error.downcast_ref::<ParseParamError>() {
        let fault = FieldError::new(param.name, format!("is not valid: {}", param.reason));
        let detail = format!("the parameter {} is not valid", param.name);
        return Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail).with_faults(&[fault]);
    }
    if error.is::<ParsePathError>() {
        return Problem::new(StatusCode::NOT_FOUND, "not_found", "this path does not exist");
    }
    if error.is::<ContentTypeError>() {
        return unsupported_type("application/json");
    }
    match error.status() {
        StatusCode::NOT_FOUND => Problem::new(StatusCode::NOT_FOUND, "not_found", "this path does not exist"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not support this method",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is too large")
        }
        status if status.is_client_error() => {
            Problem::new(status, "bad_request", "the request cannot be read")
        }
        _ => {
            error!(%error, "a request failed with an internal error");
            Problem::internal()
        }
    }
}

/// The problem of a body with a media type that the operation does not accept.
pub(crate) fn unsupported_type(taken: &str) -> Problem {
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported_media_type",
        format!("send the body with Content-Type {taken}"),
    )
}
