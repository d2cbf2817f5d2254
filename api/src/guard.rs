//! What every operation under `/api/v1` checks before it reads its request, in this order: the credentials (401, and the
//! caller's limit), the permission (403), the names of the query parameters (422).
//!
//! **Invariant.** An operation cannot be reached around its guard: the guard is put on where the operations become routes,
//! and an operation that takes a [`Caller`](crate::caller::Caller) gets it from the guard alone.

use std::collections::HashMap;

use poem::endpoint::BoxEndpoint;
use poem::http::Method;
use poem::{Endpoint, EndpointExt, Request, Response};
use poem_openapi::OpenApi;
use poem_openapi::registry::{MetaApi, MetaOperation, MetaParamIn, Registry};

use crate::access::{self, Access, Rule, forbidden};
use crate::caller::authenticate;
use crate::edge::API;
use crate::problem::Problem;
use crate::query;

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
}

impl Guard {
    fn of(operation: &MetaOperation) -> Self {
        let in_query = operation.params.iter().filter(|param| param.in_type == MetaParamIn::Query);
        let mut known: Vec<_> = in_query.map(|param| param.name.clone()).collect();
        known.sort_unstable();
        Self { rule: operation.operation_id.and_then(access::of), known }
    }

    fn before(self, operation: BoxEndpoint<'static>) -> BoxEndpoint<'static> {
        GuardedOperation { guard: self, operation }.boxed()
    }

    async fn check(&self, request: &mut Request) -> Result<(), Problem> {
        match self.rule {
            Some(Rule { access: Access::Open, .. }) => {}
            rule => {
                let caller = authenticate(request).await?;
                rule.ok_or_else(|| forbidden("nobody may do this"))?.check(&caller)?;
                request.set_data(caller);
            }
        }
        request.uri().query().map_or(Ok(()), |query| query::check(query, &self.known))?;
        Ok(())
    }
}

struct GuardedOperation {
    guard: Guard,
    operation: BoxEndpoint<'static>,
}

impl Endpoint for GuardedOperation {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        self.guard.check(&mut request).await?;
        self.operation.call(request).await
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
