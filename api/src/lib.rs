//! The HTTP API: parse, authorize, one call into core, convert.
//!
//! Handlers hold no SQL and no rule of the business. What changes something runs apart from the request's own future, so
//! that a client that goes away takes nothing down with it: hot writes in a lane of [`batching`], the rest in a tracked
//! task.

mod app;
mod batching;
mod body;
mod caller;
mod edge;
mod idempotency;
mod job_events;
mod prefer;
mod problem;
mod reply;
mod routes;
mod view;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use poem::listener::{Acceptor, Listener, TcpAcceptor, TcpListener};
use poem::{EndpointExt, IntoEndpoint, Route, Server};
use tokio_util::sync::CancellationToken;

pub use app::{App, Parts};
pub use watch::Watching;

/// How long requests that run may take to end at a shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How long changes that nobody waits for any more may take after that.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

/// The OpenAPI document, as `/openapi.json` serves it.
pub fn openapi_document() -> String {
    let document: serde_json::Value =
        serde_json::from_str(&routes::service().spec()).expect("the document is made by a serializer");
    serde_json::to_string_pretty(&document).expect("a JSON value is JSON") + "\n"
}

/// All routes, under the edge that gives each request its id and makes every refusal a problem.
pub fn routes(app: Arc<App>) -> impl IntoEndpoint {
    let service = routes::service();
    let document = openapi_document();
    let spec = poem::endpoint::make_sync(move |_| {
        poem::Response::builder().content_type("application/json").body(document.clone())
    });
    let docs = service.swagger_ui();
    Route::new()
        .at("/openapi.json", poem::get(spec))
        .nest("/docs", docs)
        .nest("/", service)
        .data(app)
        .around(edge::edge)
}

/// Takes the address, so that a taken one is known before anything else is started.
pub async fn bind(address: std::net::SocketAddr) -> std::io::Result<TcpAcceptor> {
    TcpListener::bind(address).into_acceptor().await
}

/// Serves until told to stop, then lets what runs end.
pub async fn serve(
    acceptor: impl Acceptor + 'static,
    app: Arc<App>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let (endpoint, watched) = (routes(app.clone()), app.clone());
    let told_to_stop = async move {
        stop.cancelled().await;
        watched.end_watches();
    };
    let served = Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(endpoint, told_to_stop, Some(SHUTDOWN_PATIENCE))
        .await;
    app.finish(FINISH_PATIENCE).await;
    served
}
