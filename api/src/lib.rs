//! The HTTP API: parse, authorize, one call into core, convert.
//!
//! Handlers hold no SQL and no rule of the business. What changes something runs apart from the request's own future, so
//! that a client that goes away takes nothing down with it: hot writes in a lane of [`batching`], the rest in a tracked
//! task.

mod app;
mod batching;
mod body;
mod caller;
mod credentials;
mod edge;
mod headers;
mod idempotency;
mod job_events;
mod limits;
mod memory;
mod prefer;
mod problem;
mod reply;
mod routes;
mod server;
mod view;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use poem::{EndpointExt, IntoEndpoint, Route};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use app::{App, Parts};
pub use limits::{Limits, Misses};
pub use server::bind;
pub use watch::Watching;

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
        .data(app.clone())
        .around(move |next, request| edge::edge(app.clone(), next, request))
}

/// Serves until told to stop, then lets what runs end.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken) {
    let endpoint = routes(app.clone()).into_endpoint().map_to_response();
    let forgetting = stop.run_until_cancelled(app.forget_quiet_callers());
    let ending = async {
        stop.cancelled().await;
        app.end_watches();
    };
    tokio::join!(server::serve(listener, endpoint, &stop, app.connections), forgetting, ending);
    app.finish(FINISH_PATIENCE).await;
}
