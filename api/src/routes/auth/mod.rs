//! The operations on logins: login, refresh, logout, change of business and password.
//!
//! A refresh token identifies its login and is valid once. Programs send it in bodies, browsers in a cookie that no script
//! can read.

mod browser;
mod doc;
mod request;
mod view;

use std::net::IpAddr;

use cuponera_domain::id::{AccountId, BusinessId, LoginId};
use cuponera_domain::principal::{AuditContext, Role};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::text;
use cuponera_platform::credential::{check_password, random_secret, secret_hash};
use cuponera_platform::telemetry::metrics;
use cuponera_store::Result;
use cuponera_store::{Account, AccountCredential, AttemptCheck, Membership, RefreshGrant, Rotated, Store};
use poem::Request;
use poem::http::StatusCode;
use poem_openapi::OpenApi;
use poem_openapi::payload::Json;
use secrecy::SecretString;
use tracing::{info, warn};

use super::Tag;
use crate::app::App;
use crate::auth::caller::{Caller, Origin, app};
use crate::auth::hashing::Turn;
use crate::auth::limits::RequestContext;
use crate::http::body::{Body, OptionalBody};
use crate::http::problem::Problem;
use crate::shares::Claimant;
use browser::TokenTransport;
use request::{Login, Logout, PasswordChange, Refresh, Switch};
use view::{LoginResponse, LogoutResponse, Me, PasswordResponse, Session};

pub(super) use doc::operations;
pub(crate) use view::MembershipView;

/// Bytes of randomness in a refresh token.
const REFRESH_BYTES: usize = 32;

pub(crate) struct Auth;

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Auth {
    /// Log in
    ///
    /// A browser gets the refresh token as the cookie `cuponera_refresh`, other clients in the body. An account of several businesses
    /// names one with `businessId`; otherwise the response is 409 `choose_business` with the list. After 10 wrong passwords for an
    /// email in 15 minutes, requests from addresses without a login to it in the last 30 days are rejected (429).
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, request: &Request, body: Body<Login>) -> Result<LoginResponse, Problem> {
        let app = app(request);
        let claimant = RequestContext::of(request).claimant();
        let granted = log_in(&app, &claimant, body.value, &Origin::of(request)).await?;
        granted.answer(&app, &TokenTransport::of(request.headers()))
    }

    /// Exchange a refresh token for new tokens
    ///
    /// The token is in the body or in the cookie of a login. Each token is valid once. A second use shows that it was copied, and
    /// ends the whole login: send one request at a time, and log in again if a response was lost.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(
        &self,
        request: &Request,
        body: OptionalBody<Refresh>,
    ) -> Result<LoginResponse, Problem> {
        let app = app(request);
        let mut transport = TokenTransport::of(request.headers());
        let token = match body.0.value.refresh_token {
            Some(token) => Some(token),
            None => transport.use_cookie()?,
        };
        let token = token
            .ok_or_else(|| Rejection::invalid("refreshToken", "is required, in the body or as the cookie"))?;
        // In a task, so that a disconnect of the client does not leave a stale cache entry.
        let (held, audit) = (app.clone(), Origin::of(request).audit());
        match app.run(async move { rotate(&held, &token, audit).await }).await? {
            Some(granted) => granted.answer(&app, &transport),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_refresh_token",
                "the refresh token is not valid: log in again",
            )),
        }
    }

    /// Log out
    ///
    /// Ends the caller's login, or the login of the given refresh token, or all logins of the account in all its businesses. Their
    /// access tokens stop working immediately in the process that responds, and within 5 seconds in others.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(
        &self,
        request: &Request,
        caller: Caller,
        body: OptionalBody<Logout>,
    ) -> Result<LogoutResponse, Problem> {
        let (account, login) = caller.account()?;
        let mut transport = TokenTransport::of(request.headers());
        let logins = match body.0.value {
            Logout { everywhere: true, .. } => Logins::All,
            Logout { refresh_token: Some(token), .. } => Logins::OfToken(token),
            Logout { .. } => Logins::Own(login, transport.use_cookie()?),
        };
        let (app, store) = (caller.app.clone(), caller.store());
        caller.app.run(async move { end(&app, &store, account, logins).await }).await?;
        Ok(LogoutResponse::Ended(transport.clear()))
    }

    /// Change to another business
    ///
    /// Returns tokens for another business of the account, as a login does. The caller's login and its refresh token end. 404 if the
    /// account does not belong to the business.
    #[oai(path = "/switch", method = "post", operation_id = "switchBusiness")]
    async fn switch(
        &self,
        request: &Request,
        caller: Caller,
        body: Body<Switch>,
    ) -> Result<LoginResponse, Problem> {
        let (account, login) = caller.account()?;
        let (app, store, address) = (caller.app.clone(), caller.store(), caller.origin.ip);
        let (refresh_token, grant) = new_refresh_token(&app)?;
        let business = BusinessId(body.value.business_id);
        let change = async move {
            let switched = store.switch_login(login, business, &grant, address).await;
            app.logins.invalidate(&login).await;
            switched
        };
        let (login, account_there) =
            caller.app.run(change).await?.ok_or_else(|| Rejection::not_found("business"))?;
        let businesses = caller.app.store.list_memberships(account).await?;
        info!(%account, %login, %business, "changed to another business");
        let granted = Granted { account: account_there, login, refresh_token, businesses: Some(businesses) };
        granted.answer(&caller.app, &TokenTransport::of(request.headers()))
    }

    /// Change the caller's password
    ///
    /// Ends all other logins of the account.
    #[oai(path = "/password", method = "post", operation_id = "changePassword")]
    async fn change_password(
        &self,
        caller: Caller,
        body: Body<PasswordChange>,
    ) -> Result<PasswordResponse, Problem> {
        let (account, login) = caller.account()?;
        let found = caller.app.store.find_credential_of(account).await?;
        let found = found.ok_or_else(Problem::unauthorized)?;
        let PasswordChange { current_password, new_password } = body.value;
        check_password(&new_password, Some(&found.email))
            .map_err(|fault| Rejection::invalid("newPassword", fault))?;
        let [current, new] = [current_password, new_password].map(SecretString::from);
        let email = text::trim(&found.email).to_owned();
        let hash = Some(found.password_hash.clone());
        let turn = caller.app.passwords.turn(&caller.claimant, &email).await?;
        if !verify_counted(&caller.app, turn, &email, caller.origin.ip, current, hash).await? {
            info!(%account, "a password change failed: wrong current password");
            return Err(Rejection::invalid("currentPassword", "is wrong").into());
        }
        if !replace_password(&caller, found, login, new).await? {
            // The password was changed or the login ended while the new password was hashed.
            return Err(Problem::unauthorized());
        }
        info!(%account, "a password was changed");
        Ok(PasswordResponse::Changed)
    }

    /// Get the caller
    #[oai(path = "/me", method = "get", operation_id = "getMe")]
    async fn me(&self, caller: Caller) -> Result<Json<Me>, Problem> {
        let principal = &caller.principal;
        let account = match caller.account() {
            Ok((account, _)) => Some(caller.app.store.get_account(principal.business, account).await?),
            // An API key has no account.
            Err(_) => None,
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

/// A new or continued login, and its next refresh token.
struct Granted {
    account: Account,
    login: LoginId,
    refresh_token: String,
    /// The businesses of the account, if they were looked up.
    businesses: Option<Vec<Membership>>,
}

impl Granted {
    fn answer(self, app: &App, transport: &TokenTransport) -> Result<LoginResponse, Problem> {
        let mut session = Session {
            access_token: app.tokens.issue(&self.account.principal()?, self.login)?,
            refresh_token: None,
            token_type: "Bearer".into(),
            expires_in: app.tokens.ttl().as_secs(),
            businesses: self.businesses.map(|list| list.into_iter().map(MembershipView::from).collect()),
        };
        let cookie = transport.cookie_with(&self.refresh_token, app.refresh_ttl);
        if cookie.is_none() {
            session.refresh_token = Some(self.refresh_token);
        }
        Ok(LoginResponse::Session(Json(session), cookie))
    }
}

/// A new refresh token: the secret for the client, and its stored form.
fn new_refresh_token(app: &App) -> Result<(String, RefreshGrant)> {
    let token = random_secret(REFRESH_BYTES)?;
    let grant = RefreshGrant { secret_hash: secret_hash(&token), ttl: app.refresh_ttl };
    Ok((token, grant))
}

/// Does the same work for an unknown email, a wrong password and a disabled account. The log names accounts by their ids.
async fn log_in(app: &App, by: &Claimant, login: Login, origin: &Origin) -> Result<Granted, Problem> {
    let address = origin.ip;
    let Login { email, password, business_id } = login;
    let turn = app.passwords.turn(by, &email).await?;
    let found = app.store.find_credential(&email).await?;
    let hash = found.as_ref().map(|credential| credential.password_hash.clone());
    let matches = verify_counted(app, turn, &email, address, password.into(), hash).await?;
    let Some(AccountCredential { account, password_hash, .. }) = found else {
        info!("a login failed: unknown account");
        return Err(invalid_credentials());
    };
    if !matches {
        info!(%account, "a login failed");
        return Err(invalid_credentials());
    }
    let businesses = app.store.list_memberships(account).await?;
    let business = choose(&businesses, business_id.map(BusinessId))?;
    let (refresh_token, grant) = new_refresh_token(app)?;
    let store = app.store.clone().acting_as(origin.audit().with_account(account));
    let start = async move {
        store.start_login_if_verified(account, business, &password_hash, &grant, address).await
    };
    let (login, account) = app.run(start).await?.ok_or_else(invalid_credentials)?;
    info!(account = %account.id, %login, "logged in");
    Ok(Granted { account, login, refresh_token, businesses: Some(businesses) })
}

/// Whether a password is correct. An attempt counts as wrong until it is verified: see [`Store::count_password_attempt`].
///
/// [`Store::count_password_attempt`]: cuponera_store::Store::count_password_attempt
async fn verify_counted(
    app: &App,
    turn: Turn,
    email: &str,
    address: Option<IpAddr>,
    password: SecretString,
    hash: Option<String>,
) -> Result<bool, Problem> {
    let attempt = match app.store.count_password_attempt(email, address).await? {
        AttemptCheck::Allowed(attempt) => attempt,
        AttemptCheck::Rejected(wait) => {
            metrics::rate_limited("passwords");
            let seconds = wait.as_secs_f64().ceil();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 900")]
            return Err(Problem::too_many_passwords(seconds as u32));
        }
    };
    let verified = app.passwords.verify(turn, password, hash).await;
    if !matches!(verified, Ok(false)) {
        app.store.take_back_password_attempt(email, attempt).await?;
    }
    Ok(verified?)
}

/// The business to log in to: the given one, or the only one.
fn choose(businesses: &[Membership], named: Option<BusinessId>) -> Result<BusinessId, Problem> {
    match (named, businesses) {
        (Some(named), _) if businesses.iter().any(|membership| membership.business == named) => Ok(named),
        (None, [only]) => Ok(only.business),
        // A disabled account, or a business that it does not belong to.
        (Some(_), _) | (None, []) => Err(invalid_credentials()),
        (None, several) => {
            Err(Problem::choose_business(several.iter().cloned().map(MembershipView::from).collect()))
        }
    }
}

fn invalid_credentials() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "invalid_credentials", "the email or the password is wrong")
}

/// Changes the password if the verified one is still current. Ends all other logins.
async fn replace_password(
    caller: &Caller,
    found: AccountCredential,
    kept: LoginId,
    new: SecretString,
) -> Result<bool> {
    let (account, verified) = (found.account, found.password_hash);
    let app = &caller.app;
    let new = app.passwords.hash(&caller.claimant, new).await?;
    let (held, store) = (app.clone(), caller.store());
    let change = async move {
        let changed = store.change_password_if_unchanged(account, &verified, &new, kept).await;
        held.logins.invalidate_all();
        changed
    };
    app.run(change).await
}

async fn rotate(app: &App, token: &str, audit: AuditContext) -> Result<Option<Granted>> {
    let (refresh_token, grant) = new_refresh_token(app)?;
    let store = app.store.clone().acting_as(audit);
    match store.rotate_refresh_if_fresh(&secret_hash(token), &grant).await? {
        Rotated::Fresh(account, login) => {
            Ok(Some(Granted { account, login, refresh_token, businesses: None }))
        }
        Rotated::Reused(login) => {
            app.logins.invalidate(&login).await;
            warn!(%login, "a refresh token was used twice: its login is ended");
            Ok(None)
        }
        Rotated::Unknown => Ok(None),
    }
}

/// The logins to end.
enum Logins {
    All,
    OfToken(String),
    /// The caller's own login, and the login of its cookie.
    Own(LoginId, Option<String>),
}

/// Ends logins. Invalidates their cache entries also if the change fails.
async fn end(app: &App, store: &Store, account: AccountId, logins: Logins) -> Result<()> {
    match logins {
        Logins::All => {
            let ended = store.end_all_logins(account).await;
            app.logins.invalidate_all();
            ended?;
        }
        Logins::OfToken(token) => end_login_of_token(app, store, account, &token).await?,
        Logins::Own(login, cookie) => {
            if let Some(token) = cookie {
                end_login_of_token(app, store, account, &token).await?;
            }
            let ended = store.end_login(account, login).await;
            app.logins.invalidate(&login).await;
            ended?;
        }
    }
    info!(%account, "logged out");
    Ok(())
}

async fn end_login_of_token(app: &App, store: &Store, account: AccountId, token: &str) -> Result<()> {
    match store.end_login_of(account, &secret_hash(token)).await {
        Ok(Some(login)) => app.logins.invalidate(&login).await,
        Ok(None) => {}
        Err(fault) => {
            // The outcome of the commit is unknown.
            app.logins.invalidate_all();
            return Err(fault);
        }
    }
    Ok(())
}
