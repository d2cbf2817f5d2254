//! What operators see: the log, metrics, traces. None of them ever has a secret, a code, or who somebody is.
//!
//! The log is one line an event, with the ids of requests, jobs and traces. They stand in spans, and spans are made at the
//! level of errors: so they are there however little is logged.

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

pub use exposition::{Exposition, MEDIA_TYPE, Reach};
pub use listener::serve;
pub use trace::{NoTraceParent, TRACE_PARENT, TraceParent};

/// The log and the traces of a process; keep it until the process ends, for then the last spans are sent.
#[derive(Debug)]
#[must_use = "traces end when it is dropped"]
pub struct Telemetry {
    #[cfg(feature = "otlp")]
    _export: Option<export::Export>,
}

/// Starts the log on standard error, and the traces if there is somebody to send them to. The message of an error names
/// the setting at fault.
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
