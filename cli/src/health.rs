//! `cuponera health`: sends one request to a server and reports the result as the exit status. For containers that have
//! no other HTTP client.

use std::process::ExitCode;
use std::time::Duration;

/// The liveness check of this container's API at its default port.
pub(crate) const URL: &str = "http://127.0.0.1:8080/health/live";
/// Timeout of the request; a slower server counts as unhealthy.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds if the answer has a 2xx status.
pub(crate) fn run(url: &str) -> Result<ExitCode, String> {
    if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(format!("{url}: must be a URL such as {URL}"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(ask(url)).map_err(|fault| format!("{url}: {fault}"))?;
    Ok(ExitCode::SUCCESS)
}

async fn ask(url: &str) -> Result<(), String> {
    // The server is nearby: use no proxy.
    let client =
        reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
    let answer = client.get(url).send().await.map_err(|error| cause(&error))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("answered {status}")) }
}

/// The innermost cause; the outer errors repeat the URL.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
