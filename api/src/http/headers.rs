//! Response headers for browsers: security headers and CORS.

use cuponera_domain::rejection::Rejection;
use cuponera_platform::config::Origin;
use poem::http::header::{self, HeaderName};
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode};
use poem::{Request, Response};

use crate::auth::caller;
use crate::http::problem::Problem;

/// The cookie that carries the refresh token of a login.
const LOGIN_COOKIE: &str = "cuponera_refresh";

/// Headers that forbid browsers to guess the type of a response, show it in a frame, run scripts of it, or store it.
const OF_ANSWERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The documentation page has inline scripts and styles.
const DOCUMENTATION_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Request headers that a page may send.
const SENT: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, If-Range, Prefer, Range, X-API-Key, X-Request-Id";
/// Response headers that a page may read.
const SHOWN: &str = "Content-Disposition, Content-Range, ETag, Idempotent-Replayed, Location, Preference-Applied, RateLimit, \
     RateLimit-Policy, Retry-After, X-Request-Id";
/// How long a browser may cache a preflight response, in seconds.
const REMEMBERED: &str = "600";

/// Adds the security headers. Values that a handler has set are kept.
pub(crate) fn secure(path: &str, headers: &mut HeaderMap) {
    for (name, value) in OF_ANSWERS {
        let is_page = path.starts_with("/docs") && name == header::CONTENT_SECURITY_POLICY;
        let value = if is_page { DOCUMENTATION_POLICY } else { value };
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Whether a request has a refresh token as a cookie.
fn has_login_cookie(headers: &HeaderMap) -> bool {
    let name = format!("{LOGIN_COOKIE}=");
    headers
        .get_all(header::COOKIE)
        .iter()
        .any(|line| line.as_bytes().windows(name.len()).any(|window| window == name.as_bytes()))
}

/// Whether an origin is this server's: http or https (a proxy may terminate TLS) with the host of the request, or with the
/// host that a trusted proxy forwards.
fn is_own(origin: &HeaderValue, request: &Request) -> bool {
    let is_from_proxy = caller::app(request).limiter.comes_from_proxy(request);
    let forwarded = request.headers().get("x-forwarded-host").filter(|_| is_from_proxy);
    let host = forwarded.or_else(|| request.headers().get(header::HOST));
    let (Some(host), Ok(origin)) = (host.and_then(|host| host.to_str().ok()), origin.to_str()) else {
        return false;
    };
    let on_host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    on_host.is_some_and(|on_host| on_host.eq_ignore_ascii_case(host))
}

/// The pages that may call the API.
#[derive(Debug)]
pub(crate) struct Cors {
    origins: Vec<Origin>,
}

impl Cors {
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        Self { origins }
    }

    /// The response to a preflight request. None for other requests.
    pub(crate) fn preflight(
        &self,
        request: &Request,
        methods: impl FnOnce() -> Option<String>,
    ) -> Option<Response> {
        let asks = request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if self.origins.is_empty() || request.method() != Method::OPTIONS || !asks {
            return None;
        }
        let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
        if self.allows(request.headers()).is_some() {
            let headers = response.headers_mut();
            let methods = methods().and_then(|methods| HeaderValue::from_str(&methods).ok());
            headers.extend(methods.map(|methods| (header::ACCESS_CONTROL_ALLOW_METHODS, methods)));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(SENT));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED));
        }
        Some(response)
    }

    /// Adds the CORS headers of a response to a request with these headers.
    pub(crate) fn mark(&self, request: &HeaderMap, response: &mut HeaderMap) {
        if self.origins.is_empty() {
            return;
        }
        response.append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(allowed) = self.allows(request) else { return };
        if allowed != "*" {
            let yes = HeaderValue::from_static("true");
            response.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(SHOWN));
    }

    /// Rejects a login cookie from a page of another origin. Allowed are pages of this server and of the origins in the
    /// settings. Programs send no `Origin`.
    pub(crate) fn check_cookie(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        let Some(origin) = headers.get(header::ORIGIN).filter(|_| has_login_cookie(headers)) else {
            return Ok(());
        };
        let is_named = |named: &Origin| matches!(named, Origin::Exact(exact) if *exact == *origin);
        let is_only = headers.get_all(header::ORIGIN).iter().nth(1).is_none();
        if is_only && (self.origins.iter().any(is_named) || is_own(origin, request)) {
            return Ok(());
        }
        let reason = "the cookie is not accepted from pages of other origins; CUPONERA_CORS_ORIGINS names the origins whose \
                      pages may use it";
        Err(Rejection::Forbidden { reason: reason.to_owned() }.into())
    }

    /// The value of `Access-Control-Allow-Origin`, if the origin is allowed.
    fn allows(&self, request: &HeaderMap) -> Option<HeaderValue> {
        let said = request.get(header::ORIGIN)?;
        let is_named = |origin: &Origin| matches!(origin, Origin::Exact(exact) if *exact == *said);
        if self.origins.iter().any(is_named) {
            Some(said.clone())
        } else {
            self.origins.contains(&Origin::Any).then(|| HeaderValue::from_static("*"))
        }
    }
}
