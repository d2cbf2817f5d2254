//! The HTTP API: parse, authorize, one call into core, convert.
//!
//! Handlers hold no SQL and no rule of the business. What changes something runs apart from the request's own future, so
//! that a client that goes away takes nothing down with it: hot writes in a lane of [`batching`], the rest in a tracked
//! task.

mod app;
mod batching;
mod body;
mod caller;
mod document;
mod edge;
mod idempotency;
mod problem;
mod reply;
mod routes;
mod time;
mod view;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poem::listener::{Acceptor, Listener, TcpAcceptor, TcpListener};
use poem::{EndpointExt, IntoEndpoint, Route, Server};
use tokio_util::sync::CancellationToken;

pub use app::{App, Parts};

/// How long requests that run may take to end at a shutdown.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How long changes that nobody waits for any more may take after that.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

/// The OpenAPI document, as `/openapi.json` serves it.
pub fn openapi_document() -> String {
    serde_json::to_string_pretty(&document::DOCUMENT.value).expect("a JSON value is JSON") + "\n"
}

/// What the tables behind the document say wrongly or not at all; nothing, if they are right.
pub fn openapi_faults() -> &'static [String] {
    &document::DOCUMENT.faults
}

/// All operations as a `.http` file.
pub fn http_file() -> String {
    document::http_file()
}

/// The page of error codes, as Markdown.
pub fn error_page() -> String {
    document::error_page()
}

/// All routes, under the edge that gives each request its id and makes every refusal a problem.
pub fn routes(app: Arc<App>) -> impl IntoEndpoint {
    let page = Bytes::from(document::page());
    Route::new()
        .at("/openapi.json", fixed("application/json", openapi_document()))
        .at("/docs", fixed("text/html; charset=utf-8", page.clone()))
        .at("/docs/", fixed("text/html; charset=utf-8", page))
        .at("/docs/errors", fixed("text/plain; charset=utf-8", error_page()))
        .nest("/", routes::service())
        .data(app)
        .around(edge::edge)
}

/// A text that is made once.
fn fixed(media: &'static str, text: impl Into<Bytes>) -> impl IntoEndpoint {
    let text = text.into();
    poem::get(poem::endpoint::make_sync(move |_| {
        poem::Response::builder().content_type(media).body(text.clone())
    }))
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
    let endpoint = routes(app.clone());
    let served = Server::new_with_acceptor(acceptor)
        .run_with_graceful_shutdown(endpoint, async move { stop.cancelled().await }, Some(SHUTDOWN_PATIENCE))
        .await;
    app.finish(FINISH_PATIENCE).await;
    served
}
