//! Serves the metrics on a separate address, to any client. Programs without an API have no other address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::exposition::{Exposition, MEDIA_TYPE};

/// Only a few scrapers connect.
const MAX_CONNECTIONS: usize = 16;
/// Timeout of a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum duration of a connection, which serves one request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after an accept error, usually that no more files can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `GET /metrics` until `stop`, and `GET /health/live`, which does not depend on the database.
pub async fn serve(listener: TcpListener, exposition: Exposition, stop: CancellationToken) {
    let (connections, places) = (TaskTracker::new(), Arc::new(Semaphore::new(MAX_CONNECTIONS)));
    let next = async || {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        (place, listener.accept().await)
    };
    while let Some((place, accepted)) = stop.run_until_cancelled(next()).await {
        match accepted {
            Ok((stream, _)) => {
                let exposition = exposition.clone();
                connections.spawn(async move {
                    // A client that disconnects or is too slow is not an error.
                    let _ = timeout(TIMEOUT, handle_connection(stream, exposition)).await;
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection for metrics could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn handle_connection(stream: TcpStream, exposition: Exposition) -> hyper::Result<()> {
    let answer = service_fn(|request| answer(request, &exposition));
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

async fn answer(
    request: Request<Incoming>,
    exposition: &Exposition,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match (request.uri().path(), request.method()) {
        ("/metrics", &Method::GET | &Method::HEAD) => (StatusCode::OK, exposition.render().await),
        ("/health/live", &Method::GET | &Method::HEAD) => (StatusCode::OK, "ok".to_owned()),
        ("/metrics" | "/health/live", _) => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "only /metrics and /health/live exist here\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    Ok(response)
}
