//! The metrics, for programs on this machine, unless the settings give them a separate address.

use std::net::IpAddr;

use cuponera_platform::telemetry::{MEDIA_TYPE, MetricsAccess};
use poem::http::uri::Authority;
use poem::http::{StatusCode, header};
use poem::{Request, Response};

use crate::auth::caller::app;
use crate::http::problem::Problem;

/// The path of the metrics.
pub(crate) const METRICS: &str = "/metrics";

/// Headers that proxies add. A proxy on this machine also connects from loopback, but for other clients.
const PROXY_HEADERS: [&str; 9] = [
    "CF-Connecting-IP",
    "Forwarded",
    "True-Client-IP",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Server",
    "X-Real-IP",
];

/// All metrics as text.
pub(crate) async fn expose(request: Request) -> poem::Result<Response> {
    let app = app(&request);
    if app.metrics.metrics_access() == MetricsAccess::OwnAddress {
        let detail = "the metrics have a separate address (CUPONERA_METRICS_ADDR)";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail).into());
    }
    if !is_from_this_machine(&request) {
        let detail = "the metrics are available only to programs on the same machine; \
                      CUPONERA_METRICS_ADDR gives them a separate address";
        return Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail).into());
    }
    Ok(Response::builder().content_type(MEDIA_TYPE).body(app.metrics.render().await))
}

/// Whether the request came over loopback, without a proxy, and its host is a loopback name. The host is checked because a page in
/// a browser on this machine could resolve its own name to loopback (DNS rebinding).
fn is_from_this_machine(request: &Request) -> bool {
    let peer = request.remote_addr().as_socket_addr().map(|peer| peer.ip().to_canonical());
    let is_forwarded = PROXY_HEADERS.iter().any(|header| request.headers().contains_key(*header));
    peer.is_some_and(|peer| peer.is_loopback()) && !is_forwarded && has_loopback_host(request)
}

fn has_loopback_host(request: &Request) -> bool {
    let host = request.header(header::HOST).and_then(|host| host.parse::<Authority>().ok());
    host.is_some_and(|host| {
        let host = host.host();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
        host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(is_loopback)
    })
}
