//! What every operation under `/api/v1` checks before it begins, in this order: how often headers come (400), the credentials
//! (401, and the caller's limit), the permission (403), the names of the query parameters (422). Then its JSON body is read, and
//! then it takes a place among the requests that run.
//!
//! **Invariant.** An operation cannot be reached around its guard: the guard is put on where the operations become routes,
//! and an operation that takes a [`Caller`](crate::caller::Caller) gets it from the guard alone.

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

use crate::access::{self, Access, Rule, forbidden};
use crate::app::App;
use crate::body::{is_json, must_be_json};
use crate::caller::{app, authenticate};
use crate::credentials::{API_KEY, Known, shows_unknown_key};
use crate::edge::API;
use crate::limits::Visit;
use crate::place::{self, Place};
use crate::problem::Problem;
use crate::query;
use crate::received::receive;
use crate::shares::Claimant;
use limited::LimitedKey;

/// The media type of bodies that are read before a request runs.
const JSON: &str = "application/json";
const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// The operations that take the refresh token of a login as a cookie.
const TAKING_COOKIES: [&str; 2] = ["refresh", "logout"];

type Routes = HashMap<String, HashMap<Method, BoxEndpoint<'static>>>;

/// The same operations, each behind its guard.
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
                // Without an operation nobody may call it.
                let guard = guards.remove(&(shape_of(&path), method.clone())).unwrap_or_default();
                let endpoint = if path.starts_with(API) { guard.before(endpoint) } else { endpoint };
                of_path.insert(method, endpoint);
            }
        }
    }
}

/// The path without the names of its parameters, which are others in the router than in the document: `/jobs/:` stands for
/// `/jobs/{id}` and for `/jobs/:param0`.
fn shape_of(path: &str) -> String {
    let is_parameter = |segment: &str| segment.starts_with(['{', ':']);
    path.split('/')
        .map(|segment| if is_parameter(segment) { ":" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

/// What an operation asks of its callers.
#[derive(Debug, Default)]
struct Guard {
    /// None: nobody may call it.
    rule: Option<Rule>,
    /// The names of its query parameters.
    known: Vec<String>,
    body: JsonBody,
    /// Whether it takes the refresh token of a login as a cookie.
    takes_cookie: bool,
}

/// Whether an operation reads a JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum JsonBody {
    #[default]
    None,
    Optional,
    Required,
    /// JSON, or a body of another type, which the operation reads itself.
    OrOther,
}

impl Guard {
    fn of(operation: &MetaOperation) -> Self {
        let in_query = operation.params.iter().filter(|param| param.in_type == MetaParamIn::Query);
        let mut known: Vec<_> = in_query.map(|param| param.name.clone()).collect();
        known.sort_unstable();
        let body = match &operation.request {
            Some(body) if body.content.iter().any(|content| content.content_type == JSON) => {
                match (body.content.len(), body.required) {
                    (2.., _) => JsonBody::OrOther,
                    (_, true) => JsonBody::Required,
                    (_, false) => JsonBody::Optional,
                }
            }
            _ => JsonBody::None,
        };
        let takes_cookie = operation.operation_id.is_some_and(|id| TAKING_COOKIES.contains(&id));
        Self { rule: operation.operation_id.and_then(access::of), known, body, takes_cookie }
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
                let caller = authenticate_in_place(request).await?;
                rule.ok_or_else(|| forbidden("nobody may do this"))?.check(&caller)?;
                request.set_data(caller);
            }
        }
        request.uri().query().map_or(Ok(()), |query| query::check(query, &self.known))?;
        Ok(())
    }

    /// Takes what the request needs to run: memory for its body, which it reads, and then a place.
    async fn admit(&self, request: &mut Request) -> Result<Place, Problem> {
        let (app, claimant, place) = (app(request), Visit::of(request).claimant(), Place::default());
        if self.body == JsonBody::Required {
            must_be_json(request)?;
        }
        let reads_json = match self.body {
            JsonBody::None => false,
            JsonBody::OrOther => is_json(request),
            JsonBody::Optional | JsonBody::Required => true,
        };
        if reads_json {
            place.hold(receive(request, &app.bodies, &claimant).await?);
        }
        place.hold(place::take(&app.requests, &claimant)?);
        request.set_data(place.clone());
        Ok(place)
    }
}

/// Authenticates a request. What has to be looked up takes a place meanwhile.
async fn authenticate_in_place(request: &Request) -> Result<Known, Problem> {
    let mut known = pin!(authenticate(request));
    if let Poll::Ready(known) = poll!(&mut known) {
        return known;
    }
    let app = app(request);
    let _place = place::take(&app.requests, &presumed(&app, request))?;
    known.await
}

/// Whom the place of a look-up counts for, before it is known whether the credentials are good.
fn presumed(app: &App, request: &Request) -> Claimant {
    let (visit, headers) = (Visit::of(request), request.headers());
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    match bearer.map(|(_, token)| app.tokens.check(token.trim())) {
        Some(Some(bearer)) => visit.claimant_of(&bearer.principal),
        None if headers.contains_key(&API_KEY) && !shows_unknown_key(app, headers) => visit.peer(),
        Some(None) | None => visit.claimant(),
    }
}

/// Refuses a header that comes more than once: which of them counts must not be a guess.
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
        let place = self.guard.admit(&mut request).await?;
        let limited_key = LimitedKey::of(self.guard.rule, &request);
        let answer = match (self.operation.call(request).await, limited_key) {
            (Err(error), Some(key)) => Err(key.or_forbidden(error).await),
            (answer, _) => answer,
        };
        place.give_up();
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
