//! Logging in, staying so, and leaving.
//!
//! A login is known by its refresh tokens, each good once. Programs carry them in bodies, browsers in a cookie that no
//! script can read.

mod browser;
mod words;

use cuponera_core::credential::{check_password, random_secret, secret_hash};
use cuponera_core::error::{Error, Refusal, Result};
use cuponera_core::id::{AccountId, LoginId};
use cuponera_core::principal::Role;
use cuponera_core::store::{Account, AccountCredential, RefreshGrant, Rotated};
use poem::Request;
use poem::http::StatusCode;
use poem_openapi::OpenApi;
use poem_openapi::payload::Json;
use secrecy::SecretString;
use tracing::{info, warn};

use super::Tag;
use crate::app::App;
use crate::body::{Body, OptionalBody};
use crate::caller::{Caller, app};
use crate::limits::Visit;
use crate::problem::Problem;
use crate::shares::Claimant;
use browser::Carrier;
use words::{Changed, Ended, Given, Login, Logout, Me, PasswordChange, Refresh, Session};

/// Bytes of randomness in a refresh token.
const REFRESH_BYTES: usize = 32;

pub(crate) struct Auth;

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Auth {
    /// Log in
    ///
    /// A browser is given the refresh token as the cookie `cuponera_refresh`, everybody else in the body.
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, request: &Request, body: Body<Login>) -> Result<Given, Problem> {
        let app = app(request);
        let Login { email, password } = body.value;
        let by = Visit::of(request).claimant();
        match log_in(&app, &by, &email, password.into()).await? {
            Some(granted) => granted.answer(&app, &Carrier::of(request.headers())),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_credentials",
                "the email or the password is not right",
            )),
        }
    }

    /// Trade a refresh token for new tokens
    ///
    /// The token comes in the body or as the cookie of a login. Each is good once. If one comes a second time somebody has
    /// a copy, and the whole login ends: ask once at a time, and log in again if an answer was lost.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, request: &Request, body: OptionalBody<Refresh>) -> Result<Given, Problem> {
        let app = app(request);
        let mut carrier = Carrier::of(request.headers());
        let token = match body.0.value.refresh_token {
            Some(token) => Some(token),
            None => carrier.use_cookie()?,
        };
        let token =
            token.ok_or_else(|| Refusal::invalid("refreshToken", "is required, here or as the cookie"))?;
        // Apart from the request: a client that goes away in between must not leave the memory behind the database.
        let held = app.clone();
        match app.run(async move { rotate(&held, &token).await }).await? {
            Some(granted) => granted.answer(&app, &carrier),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_refresh_token",
                "the refresh token is not valid: log in again",
            )),
        }
    }

    /// Log out
    ///
    /// Ends the caller's login, or the one whose refresh token is given, or all of the account. The access tokens of an
    /// ADMIN end with it (within 5 seconds in other processes); those of a USER run out by themselves.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        request: &Request,
        caller: Caller,
        body: OptionalBody<Logout>,
    ) -> Result<Ended, Problem> {
        let (account, login) = caller.account()?;
        let mut carrier = Carrier::of(request.headers());
        let logins = match body.0.value {
            Logout { everywhere: true, .. } => Logins::All,
            Logout { refresh_token: Some(token), .. } => Logins::OfToken(token),
            Logout { .. } => Logins::Own(login, carrier.use_cookie()?),
        };
        let app = caller.app.clone();
        caller.app.run(async move { end(&app, account, logins).await }).await?;
        Ok(Ended::Ended(carrier.clear()))
    }

    /// Change one's own password
    ///
    /// Ends all other logins of the account; this one stays.
    #[oai(path = "/password", method = "post", operation_id = "changePassword")]
    async fn change_password(&self, caller: Caller, body: Body<PasswordChange>) -> Result<Changed, Problem> {
        let (account, login) = caller.account()?;
        let found = caller.app.store.find_enabled_credential(account).await?;
        let found = found.ok_or_else(Problem::unauthorized)?;
        let PasswordChange { current_password, new_password } = body.value;
        check_password(&new_password, Some(&found.account.email))
            .map_err(|fault| Refusal::invalid("newPassword", fault))?;
        let [current, new] = [current_password, new_password].map(SecretString::from);
        let is_changed = replace_password(&caller, found, login, current, new).await?;
        info!(%account, is_changed, "a password was to be changed");
        if is_changed {
            Ok(Changed::Changed)
        } else {
            Err(Refusal::invalid("currentPassword", "is not right").into())
        }
    }

    /// Who the caller is
    #[oai(path = "/me", method = "get", operation_id = "getMe")]
    async fn me(&self, caller: Caller) -> Result<Json<Me>, Problem> {
        let principal = &caller.principal;
        let account = match caller.app.store.get_account(principal.business, AccountId(principal.id)).await {
            Ok(account) => Some(account),
            // An API key has no account.
            Err(Error::Refused(_)) => None,
            Err(fault) => return Err(fault.into()),
        };
        let user_id = match &principal.role {
            Role::User { user_id } => Some(user_id.clone()),
            Role::Admin | Role::Service => None,
        };
        Ok(Json(Me {
            id: principal.id,
            business_id: principal.business.0,
            role: principal.role.name().as_str().into(),
            user_id,
            email: account.map(|account| account.email),
        }))
    }
}

/// A login that was started, or goes on, and its next refresh token.
struct Granted {
    account: Account,
    login: LoginId,
    refresh_token: String,
}

impl Granted {
    fn answer(self, app: &App, carrier: &Carrier) -> Result<Given, Problem> {
        let mut session = Session {
            access_token: app.tokens.issue(&self.account.principal()?, self.login)?,
            refresh_token: None,
            token_type: "Bearer".into(),
            expires_in: app.tokens.ttl().as_secs(),
        };
        let cookie = carrier.carry(&self.refresh_token, app.refresh_ttl);
        if cookie.is_none() {
            session.refresh_token = Some(self.refresh_token);
        }
        Ok(Given::Session(Json(session), cookie))
    }
}

/// A new refresh token: what the client keeps, and what we do.
fn new_refresh_token(app: &App) -> Result<(String, RefreshGrant)> {
    let token = random_secret(REFRESH_BYTES)?;
    let grant = RefreshGrant { secret_hash: secret_hash(&token), ttl: app.refresh_ttl };
    Ok((token, grant))
}

/// Does the same work for an unknown email, a wrong password and a disabled account. The log names accounts by their ids.
async fn log_in(app: &App, by: &Claimant, email: &str, password: SecretString) -> Result<Option<Granted>> {
    let found = app.store.find_credential(email).await?;
    let hash = found.as_ref().map(|credential| credential.password_hash.clone());
    let matches = app.passwords.verify(by, email, password, hash).await?;
    let Some(AccountCredential { account, password_hash }) = found else {
        info!("a login failed: there is no such account");
        return Ok(None);
    };
    let (refresh_token, grant) = new_refresh_token(app)?;
    let login = if matches {
        app.store.start_login_if_verified(account.id, &password_hash, &grant).await?
    } else {
        None
    };
    let Some(login) = login else {
        info!(account = %account.id, "a login failed");
        return Ok(None);
    };
    info!(account = %account.id, %login, "logged in");
    Ok(Some(Granted { account, login, refresh_token }))
}

/// Whether the current password was right: then the new one holds, and only this login is left.
async fn replace_password(
    caller: &Caller,
    found: AccountCredential,
    kept: LoginId,
    current: SecretString,
    new: SecretString,
) -> Result<bool> {
    let (app, by) = (&caller.app, &caller.claimant);
    let (account, verified) = (found.account.id, found.password_hash);
    if !app.passwords.verify(by, &found.account.email, current, Some(verified.clone())).await? {
        return Ok(false);
    }
    let (held, new) = (app.clone(), app.passwords.hash(by, new).await?);
    let change = async move {
        let changed = held.store.change_password_if_unchanged(account, &verified, &new, kept).await;
        held.admins.forget_all();
        changed
    };
    app.run(change).await
}

async fn rotate(app: &App, token: &str) -> Result<Option<Granted>> {
    let (refresh_token, grant) = new_refresh_token(app)?;
    match app.store.rotate_refresh_if_fresh(&secret_hash(token), &grant).await? {
        Rotated::Fresh(account, login) => Ok(Some(Granted { account, login, refresh_token })),
        Rotated::Reused(login) => {
            app.admins.forget_all();
            warn!(%login, "a refresh token came a second time: its login has ended");
            Ok(None)
        }
        Rotated::Unknown => Ok(None),
    }
}

/// Which logins are to end.
enum Logins {
    All,
    OfToken(String),
    /// The caller's own, and the one of its cookie if that is another.
    Own(LoginId, Option<String>),
}

async fn end(app: &App, account: AccountId, logins: Logins) -> Result<()> {
    let ended = match logins {
        Logins::All => app.store.end_all_logins(account).await,
        Logins::OfToken(token) => app.store.end_login_of(account, &secret_hash(&token)).await,
        Logins::Own(login, cookie) => {
            if let Some(token) = cookie {
                app.store.end_login_of(account, &secret_hash(&token)).await?;
            }
            app.store.end_login(account, login).await
        }
    };
    app.admins.forget_all();
    info!(%account, "logged out");
    ended
}
