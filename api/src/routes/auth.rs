//! Logging in, refreshing, logging out.

use std::sync::Arc;

use cuponera_core::credential::{random_secret, secret_hash};
use cuponera_core::error::{Error, Result};
use cuponera_core::id::AccountId;
use cuponera_core::principal::Role;
use cuponera_core::store::{Account, RefreshGrant, Rotated};
use poem::Request;
use poem::http::StatusCode;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use secrecy::SecretString;
use uuid::Uuid;

use super::Tag;
use crate::app::App;
use crate::body::{Body, Fields, FromFields, OptionalBody};
use crate::caller::{Caller, app};
use crate::problem::Problem;

/// Bytes of randomness in a refresh token.
const REFRESH_BYTES: usize = 32;

pub(crate) struct Auth;

/// An email and its password.
#[derive(Debug, Object)]
struct Login {
    /// In any case.
    #[oai(validator(max_length = 254))]
    email: String,
    password: String,
}

impl FromFields for Login {
    fn read(fields: &mut Fields) -> Option<Self> {
        let (email, password) = (fields.required("email"), fields.required("password"));
        Some(Self { email: email?, password: password? })
    }
}

/// A refresh token.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

impl FromFields for Refresh {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { refresh_token: fields.required("refreshToken")? })
    }
}

/// What to log out of.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct Logout {
    /// The login to end.
    refresh_token: Option<String>,
    /// End all logins of the account.
    #[oai(default)]
    everywhere: bool,
}

impl FromFields for Logout {
    fn read(fields: &mut Fields) -> Option<Self> {
        let refresh_token = fields.optional("refreshToken");
        let everywhere = fields.optional("everywhere").unwrap_or(false);
        if refresh_token.is_none() && !everywhere {
            fields.fault("refreshToken", "is required unless everywhere is true");
        }
        Some(Self { refresh_token, everywhere })
    }
}

/// What a login gives.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase")]
struct Session {
    /// Send it as `Authorization: Bearer …`.
    access_token: String,
    /// Good for one refresh.
    refresh_token: String,
    /// `Bearer`.
    token_type: String,
    /// Seconds until the access token runs out.
    expires_in: u64,
}

/// Who calls.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct Me {
    /// Of the account or API key.
    id: Uuid,
    business_id: Uuid,
    /// `ADMIN`, `SERVICE` or `USER`.
    role: String,
    /// The holder id, for users.
    user_id: Option<String>,
    /// For accounts.
    email: Option<String>,
}

#[OpenApi(prefix_path = "/api/v1/auth", tag = "Tag::Auth")]
impl Auth {
    /// Log in
    #[oai(path = "/login", method = "post", operation_id = "login")]
    async fn login(&self, request: &Request, body: Body<Login>) -> Result<Json<Session>, Problem> {
        let app = app(request);
        let found = app.store.find_credential(&body.value.email).await?;
        let hash = found.as_ref().map(|credential| credential.password_hash.clone());
        let matches = app.passwords.verify(SecretString::from(body.value.password), hash).await?;
        match found {
            Some(credential) if matches && !credential.account.is_disabled => {
                Ok(Json(start_session(&app, &credential.account, Uuid::now_v7()).await?))
            }
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_credentials",
                "the email or the password is not right",
            )),
        }
    }

    /// Trade a refresh token for new tokens
    ///
    /// Each refresh token is good once. If one comes a second time somebody has a copy, and the whole login ends.
    #[oai(path = "/refresh", method = "post", operation_id = "refresh")]
    async fn refresh(&self, request: &Request, body: Body<Refresh>) -> Result<Json<Session>, Problem> {
        let app = app(request);
        // Apart from the request: a client that goes away in between must not be left with a token that is used up.
        let held = app.clone();
        let rotate = async move {
            match held.store.use_refresh_if_fresh(&secret_hash(&body.value.refresh_token)).await? {
                Rotated::Fresh(account, family) => start_session(&held, &account, family).await.map(Some),
                Rotated::Reused | Rotated::Unknown => Ok(None),
            }
        };
        match app.run(rotate).await? {
            Some(session) => Ok(Json(session)),
            None => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "invalid_refresh_token",
                "the refresh token is not valid: log in again",
            )),
        }
    }

    /// Log out
    ///
    /// Ends the login of the refresh token, or all logins of the account. Access tokens run out by themselves.
    #[oai(path = "/logout", method = "post", operation_id = "logout")]
    async fn logout(&self, caller: Caller, body: OptionalBody<Logout>) -> Result<(), Problem> {
        let account = AccountId(caller.principal.id);
        let logout = body.0.value;
        if logout.everywhere {
            caller.app.store.revoke_all_refreshes(account).await?;
        } else if let Some(token) = logout.refresh_token {
            caller.app.store.revoke_family(account, &secret_hash(&token)).await?;
        }
        Ok(())
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

async fn start_session(app: &Arc<App>, account: &Account, family: Uuid) -> Result<Session> {
    let refresh_token = random_secret(REFRESH_BYTES)?;
    app.store
        .grant_refresh(&RefreshGrant {
            family,
            account: account.id,
            secret_hash: secret_hash(&refresh_token),
            ttl: app.refresh_ttl,
        })
        .await?;
    Ok(Session {
        access_token: app.tokens.issue(&account.principal()?)?,
        refresh_token,
        token_type: "Bearer".into(),
        expires_in: app.tokens.ttl().as_secs(),
    })
}
