//! Log, metrics and traces for operators. None contains secrets, codes or personal data.
//!
//! The log has one line for each event, with the ids of requests, jobs and traces. These are fields of
//! spans, and spans have the level ERROR, so they are present at every log level.

mod exposition;
mod listener;
pub mod metrics;
mod process;
mod trace;

#[cfg(feature = "otlp")]
mod export;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Settings};

pub use exposition::{Exposition, MEDIA_TYPE, MetricsAccess};
pub use listener::serve;
pub use trace::join_trace;

/// The log and the traces of a process. Keep it until the process ends: dropping it sends the last spans.
#[derive(Debug)]
#[must_use = "traces end when it is dropped"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _export: Option<export::Export>,
}

/// Starts the log on standard error, and the traces if an endpoint is set. Errors name the setting at
/// fault.
pub fn start(settings: &Settings) -> Result<Telemetry, String> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| format!("CUPONERA_LOG: {error}"))?;
    #[cfg(feature = "otlp")]
    let export = settings.otlp_endpoint.as_deref().map(export::Export::start).transpose()?;
    #[cfg(feature = "otlp")]
    let traces = export.as_ref().map(export::Export::layer);
    #[cfg(not(feature = "otlp"))]
    let traces: Option<tracing_subscriber::layer::Identity> = None;
    let registry = tracing_subscriber::registry().with(filter).with(traces);
    let format = settings
        .log_format
        .unwrap_or_else(|| if std::io::stderr().is_terminal() { LogFormat::Text } else { LogFormat::Json });
    let started = match format {
        LogFormat::Text => registry
            .with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false))
            .try_init(),
        LogFormat::Json => {
            let layer =
                tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            registry.with(layer).try_init()
        }
    };
    started.map_err(|error| error.to_string())?;
    Ok(Telemetry {
        #[cfg(feature = "otlp")]
        _export: export,
    })
}
