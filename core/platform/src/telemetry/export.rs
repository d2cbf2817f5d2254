//! Sends spans to a collector by OpenTelemetry's protocol (OTLP) over HTTP.
//!
//! Uses a separate runtime with one thread, so that a slow or unavailable collector delays nothing else.
//! Spans that cannot be sent are dropped.

use std::sync::mpsc;
use std::time::Duration;

use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::runtime::Tokio;
use opentelemetry_sdk::trace::SdkTracerProvider;
use opentelemetry_sdk::trace::span_processor_with_async_runtime::BatchSpanProcessor;
use tokio::runtime::{Builder, Runtime};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use cuponera_domain::trace::TraceParent;

/// Time for the last spans when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The crates whose spans are sent. Of their events only warnings and errors are sent.
const OURS: [&str; 4] = ["cuponera_api", "cuponera_platform", "cuponera_store", "cuponera_worker"];

/// Sends spans while it exists, and the last spans when it is dropped.
#[derive(Debug)]
pub(super) struct Export {
    provider: SdkTracerProvider,
    runtime: Option<Runtime>,
}

impl Export {
    /// Sends to the collector at this address, which need not be available yet.
    pub(super) fn start(endpoint: &str) -> Result<Self, String> {
        let fault = |error: String| format!("OTEL_EXPORTER_OTLP_ENDPOINT: {error}");
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("traces").enable_all().build();
        let runtime = runtime.map_err(|error| fault(error.to_string()))?;
        let inside = runtime.enter();
        let traces = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let exporter = SpanExporter::builder().with_http().with_endpoint(traces).build();
        let exporter = exporter.map_err(|error| fault(error.to_string()))?;
        // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence over these attributes.
        let named = std::env::var_os("OTEL_SERVICE_NAME").is_some();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let resource = if named { resource } else { resource.with_service_name("cuponera") };
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(exporter, Tokio).build())
            .with_resource(resource.build())
            .build();
        drop(inside);
        Ok(Self { provider, runtime: Some(runtime) })
    }

    /// The layer that passes the spans of `tracing` to the exporter.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = Targets::new().with_targets(OURS.map(|target| (target, Level::WARN)));
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("cuponera"))
            .with_location(false)
            .with_threads(false)
            .with_filter(ours)
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // The batch processor ignores its shutdown timeout, so this enforces one. Spans that are not sent
        // by then are lost.
        let (provider, (flushed, end)) = (self.provider.clone(), mpsc::channel());
        let flush = move || {
            let _ = flushed.send(provider.shutdown());
        };
        if std::thread::Builder::new().name("last-traces".to_owned()).spawn(flush).is_ok() {
            let _ = end.recv_timeout(FLUSH_TIMEOUT);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Sets the parent of a span; returns the span's own context. `None` if spans are not exported.
pub(super) fn adopt(span: &Span, parent: Option<TraceParent>) -> Option<TraceParent> {
    if let Some(parent) = parent {
        span.set_parent(Context::new().with_remote_span_context(remote(parent))).ok()?;
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    let trace = u128::from_be_bytes(own.trace_id().to_bytes());
    let id = u64::from_be_bytes(own.span_id().to_bytes());
    own.is_valid().then(|| TraceParent::of_parts(trace, id, own.trace_flags().to_u8()))
}

fn remote(parent: TraceParent) -> SpanContext {
    let (trace, span, flags) = parent.parts();
    let (trace, span) = (TraceId::from(trace), SpanId::from(span));
    SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default())
}
