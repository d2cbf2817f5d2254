//! Checks the API's address: it is free, or a healthy Cuponera answers there.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use cuponera_platform::config::Settings;
use serde_json::Value;

use super::report::Finding;

const CHECK: &str = "address";
const TIMEOUT: Duration = Duration::from_secs(3);
const FIX: &str = "choose another with CUPONERA_HTTP_ADDR";

/// Checks whether `up` could listen on the address.
pub(super) async fn address(settings: &Settings) -> Finding {
    let address = settings.http_addr;
    match TcpListener::bind(address) {
        Ok(_) if address.port() == 0 => Finding::good(CHECK, format!("{address}: any free port")),
        Ok(_) => Finding::good(CHECK, format!("{address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => taken(address).await,
        Err(error) => Finding::fault(CHECK, format!("cannot listen on {address}: {error}"), FIX),
    }
}

/// Checks whether a Cuponera uses the address.
async fn taken(address: SocketAddr) -> Finding {
    let Some(health) = health(reachable(address)).await else {
        return Finding::fault(CHECK, format!("{address} is in use by a program other than Cuponera"), FIX);
    };
    let [status, version] = ["status", "version"].map(|name| health[name].as_str().unwrap_or("?").to_owned());
    let detail = format!("a Cuponera {version} answers on {address}: {status}");
    if status == "ok" {
        return Finding::good(CHECK, detail);
    }
    Finding::fault(CHECK, detail, "read its log; its database may be unavailable")
}

async fn health(address: SocketAddr) -> Option<Value> {
    let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().ok()?;
    let response = http.get(format!("http://{address}/health")).send().await.ok()?;
    let health: Value = response.json().await.ok()?;
    health["database"].is_string().then_some(health)
}

/// The address to request: loopback if the API listens on all addresses.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
