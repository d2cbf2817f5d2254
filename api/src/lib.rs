//! The HTTP API: parse, authorize, one call into core, convert.
//!
//! Handlers contain no SQL and no business rule. Writes do not run in the request's own future, so a client that disconnects
//! cancels none of them: hot writes run in a lane of [`hot::lanes`], others in a tracked task.

mod app;
mod http;

mod auth;

mod routes;

mod follow;
mod hot;
mod jobs;
mod shares;

mod document;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use poem::{EndpointExt, IntoEndpoint, Route};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use app::{App, AppBuilder, InUse};
pub use auth::limits::{Limits, Misses};
pub use http::server::{bind, listen};
pub use jobs::watch::Watching;

/// How long tracked tasks may run after the last connection is closed.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The OpenAPI document, as `/openapi.json` serves it.
pub fn openapi_document() -> String {
    serde_json::to_string_pretty(&document::DOCUMENT.value).expect("a JSON value is JSON") + "\n"
}

/// Mismatches between the tables of the document and the code. Empty if there are none.
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

/// The page of permissions, as Markdown.
pub fn permission_page() -> String {
    document::permission_page()
}

/// All routes, inside the layer that assigns request ids and converts every error to a problem document.
pub fn routes(app: Arc<App>) -> impl IntoEndpoint {
    let page = Bytes::from(document::page());
    Route::new()
        .at("/openapi.json", fixed("application/json", openapi_document()))
        .at("/docs", fixed("text/html; charset=utf-8", page.clone()))
        .at("/docs/", fixed("text/html; charset=utf-8", page))
        .at("/docs/errors", fixed("text/plain; charset=utf-8", error_page()))
        .at(routes::METRICS, poem::get(poem::endpoint::make(routes::expose)))
        .nest("/", routes::service())
        .data(app.clone())
        .around(move |next, request| http::edge::edge(app.clone(), next, request))
}

/// A constant text.
fn fixed(media: &'static str, text: impl Into<Bytes>) -> impl IntoEndpoint {
    let text = text.into();
    poem::get(poem::endpoint::make_sync(move |_| {
        poem::Response::builder().content_type(media).body(text.clone())
    }))
}

/// Serves until `stop` is cancelled, then waits for running requests and tasks, up to their time limits.
///
/// Boxed, so that programs and tests link to the endpoints instead of compiling them again.
pub fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) -> BoxFuture<'static, ()> {
    let serving = async move {
        let endpoint = routes(app.clone()).into_endpoint().map_to_response();
        let eviction = stop.run_until_cancelled(app.evict_idle_callers());
        let ending = async {
            stop.cancelled().await;
            app.end_watches();
        };
        tokio::join!(http::server::serve(listener, endpoint, &stop, &app), eviction, ending);
        app.finish(FINISH_TIMEOUT).await;
    };
    Box::pin(serving)
}
