//! The credentials that a request shows, and whether they still hold.
//!
//! An API key, and the login behind an ADMIN's access token, are looked up, and believed for a few seconds: they can do
//! much, and there are few of them. A USER's access token is good until it runs out.

use std::sync::Arc;

use cuponera_core::credential::{Bearer, secret_hash};
use cuponera_core::error::Result;
use cuponera_core::id::LoginId;
use cuponera_core::principal::{KeyScope, Principal, Role};
use cuponera_core::store::KeyHolder;
use poem::http::{HeaderMap, HeaderName, header};

use crate::app::App;

/// Of an API key.
pub(crate) static API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Who shows good credentials.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) principal: Principal,
    /// The login of an access token; an API key has none.
    pub(crate) login: Option<LoginId>,
    /// What an API key is limited to; an access token has no limits beside its role's.
    pub(crate) scope: Arc<KeyScope>,
}

/// A header that came twice, or is no text.
struct Garbled;

/// Whom the credentials stand for; none if there are none, or they are not good.
pub(crate) async fn identify(app: &App, headers: &HeaderMap) -> Result<Option<Known>> {
    match (only(headers, &header::AUTHORIZATION), only(headers, &API_KEY)) {
        (Ok(Some(authorization)), _) => of_token(app, authorization).await,
        (Ok(None), Ok(Some(key))) => of_api_key(app, key).await,
        (Ok(None), Ok(None) | Err(Garbled)) | (Err(Garbled), _) => Ok(None),
    }
}

/// A header's only value.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Garbled> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| Garbled),
        (Some(_), Some(_)) => Err(Garbled),
    }
}

/// Whether the request shows an API key that has not been good lately.
pub(crate) fn shows_unknown_key(app: &App, headers: &HeaderMap) -> bool {
    let key = only(headers, &API_KEY).ok().flatten();
    key.is_some_and(|key| !app.good_keys.contains_key(&secret_hash(key)))
}

async fn of_token(app: &App, authorization: &str) -> Result<Option<Known>> {
    let Some((scheme, token)) = authorization.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Ok(None);
    }
    let Some(Bearer { principal, login }) = app.tokens.check(token.trim()) else { return Ok(None) };
    let holds = match principal.role {
        Role::Admin => {
            let found = app.admins.find(login, app.store.find_admin_of_login(login)).await?;
            found.as_ref() == Some(&principal)
        }
        Role::User { .. } => true,
        Role::Service => false,
    };
    Ok(holds.then(|| Known { principal, login: Some(login), scope: Arc::default() }))
}

async fn of_api_key(app: &App, key: &str) -> Result<Option<Known>> {
    let hash = secret_hash(key);
    let found = app.api_keys.find(hash.clone(), app.store.find_key_holder(&hash)).await?;
    if found.is_some() {
        app.good_keys.insert(hash, ());
    }
    Ok(found.map(|KeyHolder { principal, scope }| Known { principal, login: None, scope: Arc::new(scope) }))
}
