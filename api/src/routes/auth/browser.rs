//! Transport of refresh tokens: in bodies for programs, in a cookie for browsers, where no script can read it.
//!
//! The browser sends the cookie only to `/api/v1/auth`, and never with a request that another site started.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use cuponera_domain::rejection::Rejection;
use poem::http::{HeaderMap, HeaderName, header};

use crate::http::problem::Problem;

/// The name of the cookie.
const NAME: &str = "cuponera_refresh";
/// The path to which the browser sends the cookie.
const PATH: &str = "/api/v1/auth";

// Only browsers send this header (Fetch Metadata).
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The properties of a request that determine the transport.
#[derive(Debug)]
pub(super) struct TokenTransport {
    /// The refresh token from the cookie.
    cookie: Option<String>,
    /// The client gets tokens as cookies: it is a browser, or sent a token as a cookie.
    takes_cookies: bool,
    /// The page that sent the request was loaded over TLS.
    is_secure: bool,
    /// A page of another site started the request.
    is_foreign: bool,
}

impl TokenTransport {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let origin = headers.get(header::ORIGIN);
        let site = headers.get(&FETCH_SITE);
        let ours: [&[u8]; 3] = [b"same-origin", b"same-site", b"none"];
        Self {
            cookie: find_cookie(headers),
            takes_cookies: origin.is_some() || site.is_some(),
            is_secure: origin.is_some_and(|origin| origin.as_bytes().starts_with(b"https://")),
            is_foreign: site.is_some_and(|site| !ours.contains(&site.as_bytes())),
        }
    }

    /// The token from the cookie, if there is one. Fails if a page of another site started the request.
    pub(super) fn use_cookie(&mut self) -> Result<Option<String>, Problem> {
        if self.cookie.is_some() && self.is_foreign {
            let reason = "the cookie is not accepted from pages of other sites".to_owned();
            return Err(Rejection::Forbidden { reason }.into());
        }
        self.takes_cookies |= self.cookie.is_some();
        Ok(self.cookie.clone())
    }

    /// The cookie with a token, if the client gets tokens as cookies.
    pub(super) fn cookie_with(&self, token: &str, ttl: Duration) -> Option<String> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        self.takes_cookies.then(|| self.cookie(token, seconds))
    }

    /// The cookie that replaces an existing one and expires immediately, if the client may have one.
    pub(super) fn clear(&self) -> Option<String> {
        (self.takes_cookies || self.cookie.is_some()).then(|| self.cookie("", 0))
    }

    fn cookie(&self, token: &str, max_age_seconds: i64) -> String {
        Cookie::build((NAME, token))
            .path(PATH)
            .http_only(true)
            .same_site(SameSite::Strict)
            .secure(self.is_secure)
            .max_age(cookie::time::Duration::seconds(max_age_seconds))
            .build()
            .to_string()
    }
}

fn find_cookie(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(Cookie::split_parse).flatten();
    let ours = cookies.find(|cookie| cookie.name() == NAME && !cookie.value().is_empty())?;
    Some(ours.value().to_owned())
}
