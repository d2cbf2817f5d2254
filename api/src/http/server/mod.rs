//! Connections: a limit on their number, and time limits for each.
//!
//! poem's own server has no time-outs for slow clients and no limit on connections; this is its accept loop with both.
//! **Invariant.** A connection keeps its slot until it is closed. Time limits close one that sends no request, sends its head
//! too slowly or reads its answer too slowly. One address has at most its share of the slots (`CUPONERA_SHARE_ADDRESS`).
//! HTTP/1.1 only: a client that needs HTTP/2 speaks it to the proxy in front.

mod heads;
mod pace;
mod unread;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_platform::config::Settings;
use cuponera_platform::telemetry::metrics;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Request, RequestParts, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::app::App;
use crate::shares::Permit;
use heads::StrictHeads;
use pace::Paced;
use unread::CountedBody;

/// Maximum number of connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 4_096;
/// Time limit of the first request head of a connection.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of the next request head. It is longer than the 60 s for which load balancers keep idle connections; otherwise
/// they could send a request on a connection that is being closed.
const NEXT_HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Maximum size of a request head, and of the read buffer of a connection, in bytes. Tokens and cookies of known clients need
/// a quarter of it.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Size of the kernel's send buffer, in bytes (Linux doubles it). The default grows to 4 MiB, and a client would not appear slow
/// until it is full.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// How long running requests may take at a shutdown. With the steps after it the API exits within 10 s.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(6);
/// Pause after an error of `accept`, usually the limit of open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The response to a connection above the limit.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\nretry-after: 1\r\ncontent-length: 150\r\nconnection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"overloaded\",\
\"detail\":\"the server has no capacity for this connection: retry\"}";
/// Maximum number of connections that get this response at the same time. Others are closed without it.
const MAX_REJECTIONS: usize = 256;
/// How long a closing connection discards further input.
const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

type Routes = Arc<BoxEndpoint<'static, Response>>;

/// Binds the address. Called before anything else is started, so that an address in use is reported first.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds the address of the settings. An error message names the setting.
pub fn listen(settings: &Settings) -> Result<TcpListener, String> {
    let address = settings.http_addr;
    bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}. Choose another address with CUPONERA_HTTP_ADDR")
    })
}

/// Accepts connections until `stop`, then waits for running requests.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: impl Endpoint<Output = Response> + 'static,
    stop: &CancellationToken,
    app: &App,
) {
    let routes: Routes = Arc::new(poem::EndpointExt::boxed(routes));
    let (connections, end) = (TaskTracker::new(), CancellationToken::new());
    let rejections = Arc::new(Semaphore::new(MAX_REJECTIONS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match app.connections.take(&app.limiter.peer(peer.ip())) {
                Ok(slot) => {
                    let (routes, slot) = (routes.clone(), CountedSlot::new(slot));
                    let (stop, end) = (stop.clone(), end.clone());
                    connections.spawn(Connection { peer, routes, stop, end, _slot: slot }.serve(stream));
                }
                Err(_) => reject(&connections, &rejections, stream),
            },
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(SHUTDOWN_TIMEOUT, connections.wait()).await.is_err() {
        warn!(
            connections = connections.len(),
            "requests still run at the end of the shutdown: closing their connections"
        );
        end.cancel();
        connections.wait().await;
    }
}

fn reject(tasks: &TaskTracker, rejections: &Arc<Semaphore>, mut stream: TcpStream) {
    metrics::edge().connections_refused.increment(1);
    let Ok(permit) = rejections.clone().try_acquire_owned() else { return };
    tasks.spawn(async move {
        let written = timeout(LINGER_TIMEOUT, stream.write_all(BUSY)).await;
        if matches!(written, Ok(Ok(()))) {
            linger(stream).await;
        }
        drop(permit);
    });
}

/// Closes a connection so that the client can read the last response. Closing it with unread input would reset it; a rejected
/// upload, for example, is still being sent.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut unread = vec![0; 16 * 1024];
    let closing = async {
        stream.shutdown().await?;
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(LINGER_TIMEOUT, closing).await;
}

/// The permit of a connection, counted in the metrics.
#[derive(Debug)]
struct CountedSlot(#[expect(dead_code, reason = "held for its drop")] Permit);

impl CountedSlot {
    fn new(slot: Permit) -> Self {
        metrics::edge().connections.increment(1);
        Self(slot)
    }
}

impl Drop for CountedSlot {
    fn drop(&mut self) {
        metrics::edge().connections.decrement(1);
    }
}

struct Connection {
    peer: SocketAddr,
    routes: Routes,
    /// Accept no further request.
    stop: CancellationToken,
    /// Close the connection now.
    end: CancellationToken,
    _slot: CountedSlot,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Responses are small and written as a whole: waiting for more data only adds delay.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let has_request = AtomicBool::new(false);
        let answer = service_fn(|request| {
            has_request.store(true, Ordering::Relaxed);
            Box::pin(self.answer(local, request))
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_HEAD_TIMEOUT)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(StrictHeads::new(Paced::new(stream))), answer);
        let mut first_head = pin!(sleep(FIRST_HEAD_TIMEOUT));
        let (mut is_new, mut is_stopping) = (true, false);
        loop {
            tokio::select! {
                // Errors of the client are not logged.
                _ = poll_fn(|context| connection.poll_without_shutdown(context)) => break,
                () = &mut first_head, if is_new => {
                    if !has_request.load(Ordering::Relaxed) {
                        return;
                    }
                    is_new = false;
                }
                () = self.stop.cancelled(), if !is_stopping => {
                    Pin::new(&mut connection).graceful_shutdown();
                    is_stopping = true;
                }
                () = self.end.cancelled() => return,
            }
        }
        let (stream, is_too_slow) = connection.into_parts().io.into_inner().into_inner().into_inner();
        if is_too_slow {
            // Otherwise the kernel would keep unsent data for minutes.
            let _ = stream.set_zero_linger();
            debug!("closed a connection: the client reads too slowly");
            return;
        }
        linger(stream).await;
    }

    async fn answer(
        &self,
        local: SocketAddr,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<impl Body<Data = Bytes, Error = io::Error> + use<>>, Infallible> {
        let (local, remote) = (LocalAddr(Addr::from(local)), RemoteAddr(Addr::from(self.peer)));
        let is_last = heads::is_last(request.headers());
        let (head, body) = request.into_parts();
        let (body, unread) = CountedBody::new(body);
        let parts = RequestParts::from((head, local, remote, Scheme::HTTP));
        let body = BoxBody::new(body.map_err(io::Error::other));
        let mut response = self.routes.get_response(Request::from_parts(parts, body.into())).await;
        if is_last || unread.closes() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(hyper::Response::from(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overload_response_has_the_content_length_of_its_body() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "overloaded");
    }
}
