//! A receiver of webhooks on a loopback address: answers as a test determines, and records the requests.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// An answer of the receiver.
#[derive(Debug, Clone)]
pub enum Answer {
    /// This status, without a body.
    Status(u16),
    /// This status with a header and a body.
    With(u16, (&'static str, String), String),
    /// None: the connection stays open.
    Hang,
}

/// A request that arrived.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

type Plan = dyn Fn(usize, &Received) -> Answer + Send + Sync;

/// The receiver. Dropping it stops it.
pub struct Receiver {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    _task: AbortOnDropHandle<()>,
}

impl Received {
    /// The JSON of the body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("the body is not JSON")
    }

    /// A header; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Receiver {
    /// A receiver that accepts everything.
    pub async fn healthy() -> Self {
        Self::answering(|_, _| Answer::Status(204)).await
    }

    /// A receiver whose answers `plan` determines, from the number of earlier requests and the request.
    pub async fn answering(plan: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::at((IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into(), plan).await
    }

    /// The same at an address.
    pub async fn at(
        address: SocketAddr,
        plan: impl Fn(usize, &Received) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address cannot be bound");
        let address = listener.local_addr().expect("a bound listener has an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, Arc::new(plan), received.clone()));
        Self { address, received, _task: AbortOnDropHandle::new(task) }
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, plan: Arc<Plan>, received: Arc<Mutex<Vec<Received>>>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (plan, received) = (plan.clone(), received.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &*plan, &received));
            // A client may close the connection at any time.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    plan: &Plan,
    received: &Mutex<Vec<Received>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let request = Received { headers: head.headers, body: String::from_utf8_lossy(&body).into_owned() };
    let answer = {
        let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = plan(received.len(), &request);
        received.push(request);
        answer
    };
    let (status, header, body) = match answer {
        Answer::Status(status) => (status, None, String::new()),
        Answer::With(status, header, body) => (status, Some(header), body),
        Answer::Hang => std::future::pending().await,
    };
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(body.into())).expect("the test has valid headers"))
}
