//! How a refresh token travels: in bodies for programs, in a cookie for browsers, where no script can read it.
//!
//! The cookie goes back to `/api/v1/auth` alone, and never with a request that another site has started.

use std::time::Duration;

use cookie::{Cookie, SameSite};
use cuponera_core::error::Refusal;
use poem::http::{HeaderMap, HeaderName, header};

use crate::problem::Problem;

/// The cookie's name.
const NAME: &str = "cuponera_refresh";
/// Where the browser sends it: to where it is used.
const PATH: &str = "/api/v1/auth";

// What only browsers send (Fetch Metadata).
static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request says of the client that carries the token.
#[derive(Debug)]
pub(super) struct Carrier {
    /// The refresh token that came as a cookie.
    cookie: Option<String>,
    /// It gets its tokens as cookies: it is a browser, or has just shown one.
    takes_cookies: bool,
    /// Its page came over TLS.
    is_secure: bool,
    /// Another site's page has started this.
    is_foreign: bool,
}

impl Carrier {
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

    /// The token of the cookie, if there is one. Another site's page may not use it.
    pub(super) fn use_cookie(&mut self) -> Result<Option<String>, Problem> {
        if self.cookie.is_some() && self.is_foreign {
            let reason = "the cookie is not taken from another site's page".to_owned();
            return Err(Refusal::Forbidden { reason }.into());
        }
        self.takes_cookies |= self.cookie.is_some();
        Ok(self.cookie.clone())
    }

    /// The cookie that carries a token, if this client gets it so.
    pub(super) fn carry(&self, token: &str, ttl: Duration) -> Option<String> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        self.takes_cookies.then(|| self.cookie(token, seconds))
    }

    /// The cookie that takes the place of one and is gone at once, if this client may have one.
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
