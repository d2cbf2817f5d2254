//! Verifies the credentials of a request, and checks that they are still valid while a long request runs.
//!
//! The login of an access token and an API key are read from the database and cached for `credential_cache::TTL`. Longer
//! requests (streams, waiting requests, uploads) are checked again every `RECHECK`. **Invariant.** A credential that is revoked
//! in the database stops working in every process within 5 seconds.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use cuponera_domain::id::LoginId;
use cuponera_domain::principal::{KeyScope, Principal};
use cuponera_platform::credential::{VerifiedToken, secret_hash};
use cuponera_store::Result;
use cuponera_store::{KeyHolder, LoginHolder};
use poem::http::{HeaderMap, HeaderName, header};
use tokio::time::sleep;
use tracing::warn;

use crate::app::App;

/// The header of an API key.
pub(crate) static API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The interval of the checks during a long request. With the lifetime of a cache entry it stays below the promised
/// 5 seconds.
const RECHECK: Duration = Duration::from_secs(1);

/// The caller that valid credentials identify.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) principal: Principal,
    pub(crate) credential: Credential,
    /// The limits of an API key. An access token is limited by its role only.
    pub(crate) scope: Arc<KeyScope>,
    /// Whether the business is the one of the account's first membership; true for an API key.
    pub(crate) is_first_business: bool,
}

/// The credential of a request.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// An access token.
    Token {
        /// Its login.
        login: LoginId,
        /// When it expires.
        expires_at: DateTime<Utc>,
    },
    /// An API key.
    Key {
        /// SHA-256 of the key.
        hash: Vec<u8>,
    },
}

/// The lifetime of a credential that is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lifetime {
    /// The credential itself, with the expiry of an access token.
    Credential,
    /// The login of an access token: the token may expire while its request runs. An API key as above.
    Login,
}

impl Identity {
    /// The login of an access token; an API key has none.
    pub(crate) fn login(&self) -> Option<LoginId> {
        match self.credential {
            Credential::Token { login, .. } => Some(login),
            Credential::Key { .. } => None,
        }
    }

    /// Whether the credential is valid and identifies the same caller as before.
    pub(crate) async fn holds(&self, app: &App, lifetime: Lifetime) -> Result<bool> {
        match &self.credential {
            Credential::Token { login, expires_at } => {
                if lifetime == Lifetime::Credential && *expires_at <= Utc::now() {
                    return Ok(false);
                }
                Ok(login_holder(app, *login).await?.is_some_and(|holder| holder.principal == self.principal))
            }
            Credential::Key { hash } => {
                let found = key_holder(app, hash).await?;
                Ok(found
                    .is_some_and(|holder| holder.principal == self.principal && holder.scope == *self.scope))
            }
        }
    }

    /// Completes when the credential is no longer valid. It counts as valid while the database does not answer.
    pub(crate) async fn ended(&self, app: &App, lifetime: Lifetime) {
        loop {
            sleep(RECHECK).await;
            match self.holds(app, lifetime).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => warn!(error = error.chain(), "cannot check a credential again"),
            }
        }
    }
}

/// A header that is repeated or is not text.
struct InvalidHeader;

/// The caller that the credentials identify. None if they are absent or invalid.
pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Identity>> {
    match (only(headers, &header::AUTHORIZATION), only(headers, &API_KEY)) {
        (Ok(Some(authorization)), _) => of_token(app, authorization).await,
        (Ok(None), Ok(Some(key))) => of_api_key(app, key).await,
        (Ok(None), Ok(None) | Err(InvalidHeader)) | (Err(InvalidHeader), _) => Ok(None),
    }
}

/// The value of a header that occurs at most once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, InvalidHeader> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| InvalidHeader),
        (Some(_), Some(_)) => Err(InvalidHeader),
    }
}

/// Whether the request has an API key that was not valid recently.
pub(crate) fn shows_unknown_key(app: &App, headers: &HeaderMap) -> bool {
    let key = only(headers, &API_KEY).ok().flatten();
    key.is_some_and(|key| !app.good_keys.contains_key(&secret_hash(key)))
}

async fn of_token(app: &App, authorization: &str) -> Result<Option<Identity>> {
    let Some((scheme, token)) = authorization.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Ok(None);
    }
    let Some(VerifiedToken { principal, login, expires_at }) = app.tokens.check(token.trim()) else {
        return Ok(None);
    };
    let holder = login_holder(app, login).await?.filter(|holder| holder.principal == principal);
    Ok(holder.map(|LoginHolder { principal, is_first }| Identity {
        principal,
        credential: Credential::Token { login, expires_at },
        scope: Arc::default(),
        is_first_business: is_first,
    }))
}

async fn of_api_key(app: &App, key: &str) -> Result<Option<Identity>> {
    let hash = secret_hash(key);
    let found = key_holder(app, &hash).await?;
    if found.is_some() {
        app.good_keys.insert(hash.clone(), ());
    }
    Ok(found.map(|KeyHolder { principal, scope }| Identity {
        principal,
        credential: Credential::Key { hash },
        scope: Arc::new(scope),
        is_first_business: true,
    }))
}

async fn login_holder(app: &App, login: LoginId) -> Result<Option<LoginHolder>> {
    app.logins.find(login, app.store.find_login_holder(login)).await
}

async fn key_holder(app: &App, hash: &[u8]) -> Result<Option<KeyHolder>> {
    app.api_keys.find(hash.to_vec(), app.store.find_key_holder(hash)).await
}
