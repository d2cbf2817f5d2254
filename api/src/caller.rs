//! Who calls: the credentials of a request, checked, and what the caller may ask for.

use std::net::IpAddr;
use std::sync::Arc;

use cuponera_core::error::{Refusal, Result};
use cuponera_core::id::{AccountId, BusinessId, LoginId};
use cuponera_core::principal::{Principal, Role, Trail, parse_user_id};
use cuponera_core::store::{Sight, Store};
use cuponera_core::telemetry::TraceParent;
use cuponera_core::text;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::app::App;
use crate::credentials::{identify, shows_unknown_key};
use crate::edge::RequestId;
use crate::limits::Visit;
use crate::problem::Problem;

/// An authenticated caller and its request. An operation that takes one refuses everybody else.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    login: Option<LoginId>,
    ip: Option<IpAddr>,
    user_agent: Option<String>,
    request_id: Option<Arc<str>>,
    /// The request's span.
    trace: Option<TraceParent>,
    /// Method and path: what an idempotency key belongs to.
    pub(crate) operation: String,
    /// The `Idempotency-Key` header as it came, if it did.
    pub(crate) key: Option<Vec<u8>>,
}

/// The state behind the routes.
pub(crate) fn app(request: &Request) -> Arc<App> {
    request.data::<Arc<App>>().expect("all routes are built with their state").clone()
}

impl Caller {
    /// The caller's tenant.
    pub(crate) fn business(&self) -> BusinessId {
        self.principal.business
    }

    /// What the audit trail says of this request.
    pub(crate) fn trail(&self) -> Trail {
        Trail::of_request(&self.principal, self.ip, self.user_agent.as_deref(), self.request_id.as_deref())
    }

    /// The database; jobs that are submitted through this belong to the request's trace.
    pub(crate) fn store(&self) -> Store {
        self.app.store.clone().with_trace(self.trace)
    }

    /// What the caller may learn of coupons that are not its user's.
    pub(crate) fn sight(&self) -> Sight {
        match self.principal.role {
            Role::Admin | Role::Service => Sight::Whole,
            Role::User { .. } => Sight::Own,
        }
    }

    /// Only admins.
    pub(crate) fn must_be_admin(&self) -> Result<()> {
        match self.principal.role {
            Role::Admin => Ok(()),
            Role::Service | Role::User { .. } => Err(forbidden("only an ADMIN may do this")),
        }
    }

    /// Admins and trusted backends.
    pub(crate) fn must_be_trusted(&self) -> Result<()> {
        match self.principal.role {
            Role::Admin | Role::Service => Ok(()),
            Role::User { .. } => Err(forbidden("only an ADMIN or a SERVICE may do this")),
        }
    }

    /// The account that calls, and its login; an API key has neither.
    pub(crate) fn account(&self) -> Result<(AccountId, LoginId)> {
        let login = self.login.ok_or_else(|| {
            forbidden("an API key has no login and no password: revoke it with DELETE /api-keys/{id}")
        })?;
        Ok((AccountId(self.principal.id), login))
    }

    /// The user that a call is about: users speak for themselves, the others must say whom they speak for.
    pub(crate) fn user(&self, named: Option<String>) -> Result<String> {
        match (&self.principal.role, named) {
            (Role::User { user_id }, None) => Ok(user_id.clone()),
            // The account's own id is as it was stored, perhaps before ids were trimmed.
            (Role::User { user_id }, Some(named)) if text::trim(user_id) == text::trim(&named) => {
                Ok(user_id.clone())
            }
            (Role::User { .. }, Some(_)) => Err(forbidden("a USER may only act for itself")),
            (Role::Admin | Role::Service, None) => Err(Refusal::invalid("userId", "is required").into()),
            (Role::Admin | Role::Service, Some(named)) => match parse_user_id(&named) {
                Ok(user_id) => Ok(user_id.to_owned()),
                Err(message) => Err(Refusal::invalid("userId", message).into()),
            },
        }
    }

    async fn of(request: &Request) -> Result<Self, Problem> {
        let app = app(request);
        let visit = Visit::of(request);
        if app.limiter.is_spent(&visit) && shows_unknown_key(&app, request.headers()) {
            // Looking a key up costs a query, and most of what comes from there is junk.
            app.limiter.count_anonymous(&visit).await?;
        }
        let Some(known) = identify(&app, request.headers()).await? else {
            app.limiter.count_anonymous(&visit).await?;
            return Err(Problem::unauthorized());
        };
        app.limiter.count(&visit, &known.principal).await?;
        let _ = visit.principal.set(known.principal.clone());
        Ok(Self {
            principal: known.principal,
            login: known.login,
            ip: visit.ip,
            user_agent: request.header("User-Agent").map(str::to_owned),
            request_id: request.data::<RequestId>().map(|id| id.0.clone()),
            trace: request.data::<TraceParent>().copied(),
            key: request.headers().get("Idempotency-Key").map(|value| value.as_bytes().to_vec()),
            operation: format!("{} {}", request.method(), request.original_uri().path()),
            app,
        })
    }
}

fn forbidden(reason: &str) -> cuponera_core::error::Error {
    Refusal::Forbidden { reason: reason.to_owned() }.into()
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        let scheme = |ty, description| MetaSecurityScheme {
            ty,
            description: Some(description),
            name: None,
            key_in: None,
            scheme: None,
            bearer_format: None,
            flows: None,
            openid_connect_url: None,
        };
        registry.create_security_scheme(
            "accessToken",
            MetaSecurityScheme {
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                ..scheme("http", "The `accessToken` of a login.")
            },
        );
        registry.create_security_scheme(
            "apiKey",
            MetaSecurityScheme {
                name: Some("X-API-Key"),
                key_in: Some("header"),
                ..scheme("apiKey", "A key made with `POST /api-keys`.")
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec!["accessToken", "apiKey"]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self::of(request).await?)
    }
}
