//! Connections: a limit on their number, and time limits for each.
//!
//! poem's own server has no time-outs for slow clients and no limit on connections; this is its accept loop with both.
//! **Invariant.** A connection keeps its slot until it is closed. Time limits close one that sends no request, sends its head
//! too slowly or reads its answer too slowly. One address has at most its share of the slots (`CUPONERA_SHARE_ADDRESS`).
//! HTTP/1.1 only: a client that needs HTTP/2 speaks it to the proxy in front.

mod heads;
mod pace;

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_core::config::Settings;
use cuponera_core::telemetry::metrics;
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::endpoint::BoxEndpoint;
use poem::http::uri::Scheme;
use poem::http::{HeaderValue, header};
use poem::web::{LocalAddr, RemoteAddr};
use poem::{Addr, Endpoint, Response};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::app::App;
use crate::shares::Held;
use heads::StrictHeads;
use pace::Paced;

/// How many connections the system may hold for us until they are accepted.
const BACKLOG: u32 = 4_096;
/// The most connections; fewer if the system lets this process open fewer files.
const MAX_CONNECTIONS: usize = 10_000;
/// Files that are none of clients: connections to the database, uploads, the log.
const OTHER_FILES: usize = 512;
/// How long a new connection may take to send the head of its first request.
const FIRST_HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may wait for the next head: longer than the 60 s for which load balancers keep idle connections,
/// or they would send a request into one that is just being closed.
const NEXT_HEAD_PATIENCE: Duration = Duration::from_secs(75);
/// The longest head of a request, and the size of a connection's read buffer, in bytes: each stranger may fill it. Tokens and
/// cookies of all clients we know of fit into a quarter of it.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// What the system may hold of an answer for a client that does not read, in bytes (Linux doubles it). Without this it is up
/// to 4 MiB, and a slow client would look quick until that is full.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// How long requests that run may take to end at a shutdown. With what comes after it the API has ended within 10 s.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(6);
/// After an error of accepting, mostly that there are no more files to open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a connection is told for which there is no place.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/problem+json\r\nretry-after: 1\r\ncontent-length: 153\r\nconnection: close\r\n\r\n\
{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"code\":\"overloaded\",\
\"detail\":\"the server has no free place for a connection; ask again\"}";
/// So many connections are told so at once; more are just closed.
const MAX_REFUSALS: usize = 256;
/// How long a client may go on sending what nobody reads any more, while it is told so.
const LEAVE_PATIENCE: Duration = Duration::from_secs(1);

type Routes = Arc<BoxEndpoint<'static, Response>>;

/// Takes the address, so that a taken one is known before anything else is started.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Takes the address of the settings; the message of an error names the setting.
pub fn listen(settings: &Settings) -> Result<TcpListener, String> {
    let address = settings.http_addr;
    bind(address).map_err(|error| {
        format!("cannot listen on {address}: {error}. Choose another address with CUPONERA_HTTP_ADDR")
    })
}

/// Accepts and answers until `stop`, then lets what runs end.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: impl Endpoint<Output = Response> + 'static,
    stop: &CancellationToken,
    app: &App,
) {
    let routes: Routes = Arc::new(poem::EndpointExt::boxed(routes));
    let (connections, end) = (TaskTracker::new(), CancellationToken::new());
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => match app.connections.take(&app.limiter.peer(peer.ip())) {
                Ok(slot) => {
                    let (routes, slot) = (routes.clone(), CountedSlot::new(slot));
                    let (stop, end) = (stop.clone(), end.clone());
                    connections.spawn(Connection { peer, routes, stop, end, _slot: slot }.serve(stream));
                }
                Err(_) => refuse(&connections, &refusals, stream),
            },
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    if timeout(SHUTDOWN_PATIENCE, connections.wait()).await.is_err() {
        warn!(
            connections = connections.len(),
            "requests still run at the end of the shutdown: they are cut off"
        );
        end.cancel();
        connections.wait().await;
    }
}

/// Raises what this process may open to what it is allowed to, and says how many connections that leaves room for.
pub(crate) fn most_connections() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            debug!(%error, "the limit of open files stays as it is");
        }
    }
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(MAX_CONNECTIONS, |files| files.saturating_sub(OTHER_FILES).clamp(16, MAX_CONNECTIONS))
}

fn refuse(tasks: &TaskTracker, refusals: &Arc<Semaphore>, mut stream: TcpStream) {
    metrics::edge().connections_refused.increment(1);
    let Ok(permit) = refusals.clone().try_acquire_owned() else { return };
    tasks.spawn(async move {
        // Whoever does not listen is not told.
        let told = timeout(LEAVE_PATIENCE, stream.write_all(BUSY)).await;
        if matches!(told, Ok(Ok(()))) {
            take_leave(stream).await;
        }
        drop(permit);
    });
}

/// Ends a connection so that the last answer is read: closing it on unread bytes would take the answer back, and a refusal
/// of an upload comes while its body does.
async fn take_leave(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut unread = vec![0; 16 * 1024];
    let leave = async {
        stream.shutdown().await?;
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    };
    let _ = timeout(LEAVE_PATIENCE, leave).await;
}

/// A connection's slot, which the metrics count.
#[derive(Debug)]
struct CountedSlot(#[expect(dead_code, reason = "held for its drop")] Held);

impl CountedSlot {
    fn new(slot: Held) -> Self {
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
    /// Nothing new is to be begun.
    stop: CancellationToken,
    /// What has not ended is to be cut off.
    end: CancellationToken,
    _slot: CountedSlot,
}

impl Connection {
    async fn serve(self, stream: TcpStream) {
        // Answers are small and written whole: waiting for more to send with them only adds delay.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        let has_asked = AtomicBool::new(false);
        let answer = service_fn(|request| {
            has_asked.store(true, Ordering::Relaxed);
            Box::pin(self.answer(local, request))
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_HEAD_PATIENCE)
            .max_header_size(MAX_HEAD_BYTES)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(StrictHeads::new(Paced::new(stream))), answer);
        let mut first_head = pin!(sleep(FIRST_HEAD_PATIENCE));
        let (mut is_new, mut is_stopping) = (true, false);
        loop {
            tokio::select! {
                // A client that breaks off or sends nonsense is no concern of ours.
                _ = poll_fn(|context| connection.poll_without_shutdown(context)) => break,
                () = &mut first_head, if is_new => {
                    if !has_asked.load(Ordering::Relaxed) {
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
            // The system would keep what is unsent for minutes.
            let _ = stream.set_zero_linger();
            debug!("a connection was closed: its client read too slowly");
            return;
        }
        take_leave(stream).await;
    }

    async fn answer(
        &self,
        local: SocketAddr,
        request: hyper::Request<Incoming>,
    ) -> Result<hyper::Response<impl Body<Data = Bytes, Error = io::Error> + use<>>, Infallible> {
        let (local, remote) = (LocalAddr(Addr::from(local)), RemoteAddr(Addr::from(self.peer)));
        let is_last = heads::is_last(request.headers());
        let mut response = self.routes.get_response((request, local, remote, Scheme::HTTP).into()).await;
        if is_last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(hyper::Response::from(response))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_refused_are_told_is_as_long_as_it_says() {
        let text = std::str::from_utf8(BUSY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], "overloaded");
    }
}
