//! The checks of every operation under `/api/v1`, in this order: repeated headers (400), credentials (401, and the rate limit of
//! the caller), permission (403), names of query parameters (422). Then the JSON body is read, and then the request takes a
//! permit to run.
//!
//! **Invariant.** No request reaches an operation without its guard: the guard is added where operations become routes, and
//! only the guard provides a [`Caller`](crate::auth::caller::Caller).

mod limited;

use std::collections::HashMap;
use std::pin::pin;
use std::task::Poll;

use futures::poll;
use poem::endpoint::BoxEndpoint;
use poem::http::header::AUTHORIZATION;
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Endpoint, EndpointExt, Request, Response};
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaApi, MetaOperation, MetaParamIn, Registry};

use crate::app::App;
use crate::auth::caller::{app, authenticate};
use crate::auth::credentials::{API_KEY, Identity, shows_unknown_key};
use crate::auth::limits::RequestContext;
use crate::auth::policy::{self, Access, Rule, forbidden};
use crate::http::body::must_be_json;
use crate::http::edge::API;
use crate::http::problem::Problem;
use crate::http::query;
use crate::http::received::receive;
use crate::http::request_permit::{self, RequestPermit};
use crate::shares::Claimant;
use limited::LimitedKey;

/// The media type of bodies that are read before a request runs.
const JSON: &str = "application/json";
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The operations that accept a refresh token as a cookie.
const TAKING_COOKIES: [&str; 2] = ["refresh", "logout"];

type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// Operations, each with its guard.
pub(crate) struct Guarded<T>(pub(crate) T);

impl<T: OpenApi> OpenApi for Guarded<T> {
    fn meta() -> Vec<MetaApi> {
        T::meta()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn add_routes(self, routes: &mut Routes) {
        let mut guards = HashMap::new();
        for path in T::meta().into_iter().flat_map(|api| api.paths) {
            for operation in path.operations {
                guards.insert((shape_of(&path.path), operation.method.clone()), Guard::of(&operation));
            }
        }
        let mut own = Routes::new();
        self.0.add_routes(&mut own);
        for (path, methods) in own {
            let of_path = routes.entry(path.clone()).or_default();
            for (method, endpoint) in methods {
                // The default guard rejects everybody.
                let guard = guards.remove(&(shape_of(&path), method.clone())).unwrap_or_default();
                let endpoint = if path.starts_with(API) { guard.before(endpoint) } else { endpoint };
                of_path.insert(method, endpoint);
            }
        }
    }
}

/// The path without the names of its parameters, because the router and the document use different names: `/jobs/{id}` and
/// `/jobs/:param0` both become `/jobs/:`.
fn shape_of(path: &str) -> String {
    let is_parameter = |segment: &str| segment.starts_with(['{', ':']);
    path.split('/')
        .map(|segment| if is_parameter(segment) { ":" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

/// The requirements of an operation.
#[derive(Debug, Default)]
struct Guard {
    /// None rejects everybody.
    rule: Option<Rule>,
    /// The names of its query parameters.
    known: Vec<String>,
    body: JsonBody,
    /// Whether it accepts a refresh token as a cookie.
    takes_cookie: bool,
}

/// Whether an operation reads a JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum JsonBody {
    #[default]
    None,
    Optional,
    Required,
}

impl Guard {
    fn of(operation: &MetaOperation) -> Self {
        let in_query = operation.params.iter().filter(|param| param.in_type == MetaParamIn::Query);
        let mut known: Vec<_> = in_query.map(|param| param.name.clone()).collect();
        known.sort_unstable();
        let body = match &operation.request {
            Some(body) if body.content.iter().any(|content| content.content_type == JSON) => {
                if body.required { JsonBody::Required } else { JsonBody::Optional }
            }
            _ => JsonBody::None,
        };
        let takes_cookie = operation.operation_id.is_some_and(|id| TAKING_COOKIES.contains(&id));
        Self { rule: operation.operation_id.and_then(policy::of), known, body, takes_cookie }
    }

    fn before(self, operation: BoxEndpoint<'static>) -> BoxEndpoint<'static> {
        GuardedOperation { guard: self, operation }.boxed()
    }

    async fn check(&self, request: &mut Request) -> Result<(), Problem> {
        if self.takes_cookie {
            app(request).cors.check_cookie(request)?;
        }
        must_come_once(request.headers(), IDEMPOTENCY_KEY)?;
        match self.rule {
            Some(Rule { access: Access::Open, .. }) => {}
            rule => {
                let caller = authenticate_with_permit(request).await?;
                rule.ok_or_else(|| forbidden("no role may do this"))?.check(&caller)?;
                request.set_data(caller);
            }
        }
        request.uri().query().map_or(Ok(()), |query| query::check(query, &self.known))?;
        Ok(())
    }

    /// Takes the resources of the request: memory for its body, which is read here, and then a permit to run.
    async fn admit(&self, request: &mut Request) -> Result<RequestPermit, Problem> {
        let (app, claimant, permit) =
            (app(request), RequestContext::of(request).claimant(), RequestPermit::default());
        if self.body == JsonBody::Required {
            must_be_json(request)?;
        }
        if self.body != JsonBody::None {
            permit.add(receive(request, &app.bodies, &claimant).await?);
        }
        permit.add(request_permit::take(&app.requests, &claimant)?);
        request.set_data(permit.clone());
        Ok(permit)
    }
}

/// Authenticates a request. Takes a permit while a lookup runs.
async fn authenticate_with_permit(request: &Request) -> Result<Identity, Problem> {
    let mut known = pin!(authenticate(request));
    if let Poll::Ready(known) = poll!(&mut known) {
        return known;
    }
    let app = app(request);
    let _permit = request_permit::take(&app.requests, &presumed_claimant(&app, request))?;
    known.await
}

/// The owners to which the permit of a lookup is charged, before the credentials are verified.
fn presumed_claimant(app: &App, request: &Request) -> Claimant {
    let (context, headers) = (RequestContext::of(request), request.headers());
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    match bearer.map(|(_, token)| app.tokens.check(token.trim())) {
        Some(Some(bearer)) => context.claimant_of(&bearer.principal),
        None if headers.contains_key(&API_KEY) && !shows_unknown_key(app, headers) => context.peer(),
        Some(None) | None => context.claimant(),
    }
}

/// Rejects a header that occurs more than once, because it is not defined which value counts.
fn must_come_once(headers: &HeaderMap, name: &str) -> Result<(), Problem> {
    if headers.get_all(name).iter().nth(1).is_none() {
        return Ok(());
    }
    let detail = format!("send one {name} header: there are several");
    Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail))
}

struct GuardedOperation {
    guard: Guard,
    operation: BoxEndpoint<'static>,
}

impl Endpoint for GuardedOperation {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        self.guard.check(&mut request).await?;
        let permit = self.guard.admit(&mut request).await?;
        let limited_key = LimitedKey::of(self.guard.rule, &request);
        let answer = match (self.operation.call(request).await, limited_key) {
            (Err(error), Some(key)) => Err(key.or_forbidden(error).await),
            (answer, _) => answer,
        };
        permit.release();
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::routes::{Operations, operations};

    /// Invariant I-37.
    #[test]
    fn every_route_has_an_operation() {
        let paths = Operations::meta().into_iter().flat_map(|api| api.paths);
        let documented: BTreeSet<_> = paths
            .flat_map(|path| {
                let shape = shape_of(&path.path);
                path.operations.into_iter().map(move |operation| format!("{} {shape}", operation.method))
            })
            .collect();
        let mut routes = Routes::new();
        operations().add_routes(&mut routes);
        let reachable: BTreeSet<_> = routes
            .iter()
            .flat_map(|(path, methods)| {
                methods.keys().map(move |method| format!("{method} {}", shape_of(path)))
            })
            .collect();
        assert_eq!(reachable, documented);
    }
}
