//! The authenticated caller of a request, and the checks of its permissions.

use std::net::IpAddr;
use std::sync::Arc;

use cuponera_domain::id::{AccountId, BookId, BusinessId, JobId, LoginId};
use cuponera_domain::principal::{AuditContext, Permission, Principal, Role, parse_user_id};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::text;
use cuponera_domain::trace::TraceParent;
use cuponera_store::Result;
use cuponera_store::{Presenter, Store, Visibility};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::app::App;
use crate::auth::credentials::{Identity, Lifetime, identify, shows_unknown_key};
use crate::auth::limits::RequestContext;
use crate::auth::policy::{check_permission, forbidden};
use crate::http::edge::RequestId;
use crate::http::problem::Problem;
use crate::shares::Claimant;

/// An authenticated caller and its request. [`crate::auth::guard`] has checked its credentials and role.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) app: Arc<App>,
    pub(crate) principal: Principal,
    identity: Identity,
    /// The owners to which its use of resources is charged.
    pub(crate) claimant: Claimant,
    pub(crate) origin: Origin,
    /// The request's span.
    trace: Option<TraceParent>,
    /// Method and path: the scope of an idempotency key.
    pub(crate) operation: String,
    /// The bytes of the `Idempotency-Key` header.
    pub(crate) key: Option<Vec<u8>>,
}

/// Where a request comes from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) ip: Option<IpAddr>,
    user_agent: Option<String>,
    request_id: Option<Arc<str>>,
}

impl Origin {
    pub(crate) fn of(request: &Request) -> Self {
        Self {
            ip: RequestContext::of(request).ip,
            user_agent: request.header("User-Agent").map(str::to_owned),
            request_id: request.data::<RequestId>().map(|id| id.0.clone()),
        }
    }

    /// The audit context of a change by the program itself, for a request without credentials.
    pub(crate) fn audit(&self) -> AuditContext {
        AuditContext::of_program("system").with_request(
            self.ip,
            self.user_agent.as_deref(),
            self.request_id.as_deref(),
        )
    }
}

/// The state that all routes share.
pub(crate) fn app(request: &Request) -> Arc<App> {
    request.data::<Arc<App>>().expect("all routes are built with their state").clone()
}

impl Caller {
    /// The caller's tenant.
    pub(crate) fn business(&self) -> BusinessId {
        self.principal.business
    }

    /// The audit context of this request.
    pub(crate) fn audit(&self) -> AuditContext {
        AuditContext::of_request(
            &self.principal,
            self.origin.ip,
            self.origin.user_agent.as_deref(),
            self.origin.request_id.as_deref(),
        )
    }

    /// The database, for changes: admin events have the audit context of this request, and jobs belong to its trace.
    pub(crate) fn store(&self) -> Store {
        self.app.store.clone().with_trace(self.trace).acting_as(self.audit())
    }

    /// What the caller can see of the coupons of other users.
    pub(crate) fn visibility(&self) -> Visibility {
        match self.principal.role {
            Role::Admin | Role::Service => Visibility::All,
            Role::User { .. } => Visibility::OwnOnly,
        }
    }

    /// Checks a permission that only some requests of an operation need. [`crate::auth::policy`] lists those that all of
    /// its requests need.
    pub(crate) fn must_have(&self, permission: Permission) -> Result<()> {
        Ok(check_permission(permission, &self.identity)?)
    }

    /// Rejects an API key that is limited to other books.
    pub(crate) fn must_have_book(&self, book: BookId) -> Result<()> {
        if self.identity.scope.has_book(book) { Ok(()) } else { Err(other_books().into()) }
    }

    /// The same for the book of a code. If the code does not exist, the operation reports it.
    pub(crate) async fn must_have_book_of_code(&self, code: &str) -> Result<()> {
        if self.identity.scope.books.is_none() {
            return Ok(());
        }
        let book = self.app.store.find_book_of_code(self.business(), code).await?;
        book.map_or(Ok(()), |book| self.must_have_book(book))
    }

    /// The same for the book of a job.
    pub(crate) async fn must_have_book_of_job(&self, job: JobId) -> Result<()> {
        if self.identity.scope.books.is_none() {
            return Ok(());
        }
        let book = self.app.store.get_book_of_job(self.business(), job).await?;
        book.map_or(Err(other_books().into()), |book| self.must_have_book(book))
    }

    /// The same for a list with an optional book filter: a key limited to books must name one of them.
    pub(crate) fn must_have_book_of_list(&self, book: Option<BookId>) -> Result<()> {
        match book {
            Some(book) => self.must_have_book(book),
            None if self.identity.scope.books.is_none() => Ok(()),
            None => {
                Err(forbidden("the API key is limited to some coupon books: name one as `couponBookId`")
                    .into())
            }
        }
    }

    /// The books that the caller may access; none if it may access all of them.
    pub(crate) fn books(&self) -> Option<&[BookId]> {
        self.identity.scope.books.as_deref()
    }

    /// The account and login of the caller. An API key has neither.
    pub(crate) fn account(&self) -> Result<(AccountId, LoginId), Problem> {
        let login = self.identity.login().ok_or_else(Problem::unauthorized)?;
        Ok((AccountId(self.principal.id), login))
    }

    /// The owner of the caller's idempotency keys. An account has separate keys in each of its businesses.
    pub(crate) fn key_owner(&self) -> Vec<u8> {
        let mut owner = self.principal.id.as_bytes().to_vec();
        if !self.identity.is_first_business {
            owner.extend_from_slice(self.principal.business.0.as_bytes());
        }
        owner
    }

    /// Rejects a caller whose login or key was revoked since the request began.
    pub(crate) async fn must_still_hold(&self) -> Result<(), Problem> {
        if self.identity.holds(&self.app, Lifetime::Login).await? {
            Ok(())
        } else {
            Err(Problem::unauthorized())
        }
    }

    /// Completes when the credentials are no longer valid. Long requests end then.
    pub(crate) fn ended(&self, lifetime: Lifetime) -> impl Future<Output = ()> + Send + 'static {
        let (app, identity) = (self.app.clone(), self.identity.clone());
        async move { identity.ended(&app, lifetime).await }
    }

    /// The user that a call concerns. A USER acts for itself; other roles must name the user.
    pub(crate) fn user(&self, named: Option<String>) -> Result<String> {
        match (&self.principal.role, named) {
            (Role::User { user_id }, None) => Ok(user_id.clone()),
            // Ids stored by earlier versions may not be trimmed.
            (Role::User { user_id }, Some(named)) if text::trim(user_id) == text::trim(&named) => {
                Ok(user_id.clone())
            }
            (Role::User { .. }, Some(_)) => Err(forbidden("a USER may only act for itself").into()),
            (Role::Admin | Role::Service, None) => Err(Rejection::invalid("userId", "is required").into()),
            (Role::Admin | Role::Service, Some(named)) => match parse_user_id(&named) {
                Ok(user_id) => Ok(user_id.to_owned()),
                Err(message) => Err(Rejection::invalid("userId", message).into()),
            },
        }
    }

    /// The user who presents a code: as [`Self::user`], but a trusted caller may name none.
    pub(crate) fn presenter(&self, named: Option<String>) -> Result<Presenter> {
        match (&self.principal.role, named) {
            (Role::Admin | Role::Service, None) => Ok(Presenter::Bearer),
            (_, named) => self.user(named).map(Presenter::User),
        }
    }

    /// The caller that the guard authenticated.
    pub(crate) fn of(request: &Request) -> Result<Self, Problem> {
        let context = RequestContext::of(request);
        let identity = request.data::<Identity>().ok_or_else(Problem::unauthorized)?.clone();
        Ok(Self {
            app: app(request),
            claimant: context.claimant_of(&identity.principal),
            principal: identity.principal.clone(),
            identity,
            origin: Origin::of(request),
            trace: request.data::<TraceParent>().copied(),
            key: request.headers().get("Idempotency-Key").map(|value| value.as_bytes().to_vec()),
            operation: format!("{} {}", request.method(), request.original_uri().path()),
        })
    }
}

fn other_books() -> Rejection {
    forbidden("the API key is limited to other coupon books")
}

/// Authenticates a request. Counts it against the rate limit of the caller or, without valid credentials, of the address.
pub(crate) async fn authenticate(request: &Request) -> Result<Identity, Problem> {
    let app = app(request);
    let context = RequestContext::of(request);
    if app.limiter.is_spent(&context) && shows_unknown_key(&app, request.headers()) {
        // A lookup costs a query, and most keys from this address are invalid.
        app.limiter.count_anonymous(&context).await?;
    }
    let Some(identity) = identify(&app, request.headers()).await? else {
        app.limiter.count_anonymous(&context).await?;
        return Err(Problem::unauthorized());
    };
    app.limiter.count(&context, &identity.principal).await?;
    let _ = context.principal.set(identity.principal.clone());
    Ok(identity)
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
                ..scheme("apiKey", "A key created with `POST /api-keys`.")
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
        Ok(Self::of(request)?)
    }
}
