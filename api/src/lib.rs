//! The HTTP API: parse, authorize, one call into core, convert.
//!
//! Handlers hold no SQL and no rule of the business. What changes something runs apart from the request's own future, so
//! that a client that goes away takes nothing down with it: hot writes in a lane of [`hot::lanes`], the rest in a tracked
//! task.

mod app;
mod http;

mod auth;

mod routes;

mod hot;
mod jobs;
mod shares;

mod document;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use poem::{EndpointExt, IntoEndpoint, Route};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use app::{App, InUse, Parts};
pub use auth::limits::{Limits, Misses};
pub use http::server::{bind, listen};
pub use jobs::watch::Watching;

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

/// What each role and API key may do, as a page of Markdown.
pub fn permission_page() -> String {
    document::permission_page()
}

/// All routes, under the edge that gives each request its id and makes every refusal a problem.
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

/// A text that is made once.
fn fixed(media: &'static str, text: impl Into<Bytes>) -> impl IntoEndpoint {
    let text = text.into();
    poem::get(poem::endpoint::make_sync(move |_| {
        poem::Response::builder().content_type(media).body(text.clone())
    }))
}

/// Serves until told to stop, then lets what runs end.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    let endpoint = routes(app.clone()).into_endpoint().map_to_response();
    let forgetting = stop.run_until_cancelled(app.forget_quiet_callers());
    let ending = async {
        stop.cancelled().await;
        app.end_watches();
    };
    tokio::join!(http::server::serve(listener, endpoint, &stop, &app), forgetting, ending);
    app.finish(FINISH_PATIENCE).await;
}
