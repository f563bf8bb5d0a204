//! What a node's process says of itself: logs on standard error (`RUST_LOG`, `info` by default), and spans over OTLP
//! when the standard variables ask for them (`OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`).

use std::{env, io, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::node::NodeConfig;

/// How long the last spans are waited for when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// The process' telemetry, until [`Telemetry::end`].
#[derive(Debug)]
pub(super) struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

fn asked_for() -> bool {
    let set = |name| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let disabled = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
}

impl Telemetry {
    /// Starts logs, and spans if they are asked for. Must be called on the runtime that is to carry the export.
    ///
    /// # Errors
    /// When the variables are set and the exporter can't be made of them.
    pub(super) fn start(config: &NodeConfig) -> Result<Self, String> {
        let spans = if asked_for() { Some(provider(config)?) } else { None };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let logs = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_ansi(false);
        let exported = spans
            .as_ref()
            .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("target-service")));
        if spans.is_some() {
            opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        }
        // A program that carries the service may have a subscriber already; then that one is used.
        let _ = tracing_subscriber::registry()
            .with(filter)
            .with(logs)
            .with(exported)
            .try_init();
        Ok(Self { spans })
    }

    /// Sends what is left, within a bound.
    pub(super) fn end(self) {
        if let Some(spans) = self.spans
            && let Err(error) = spans.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

fn provider(config: &NodeConfig) -> Result<SdkTracerProvider, String> {
    let wrong = |error| format!("set up the OTLP exporter from the OTEL_* variables: {error}");
    let exporter = SpanExporter::builder().with_tonic().build().map_err(wrong)?;
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.instance.id", config.node.to_string()),
        KeyValue::new("firedrill.zone", config.zone.clone()),
    ]);
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("target-service");
    }
    let provider = SdkTracerProvider::builder().with_resource(resource.build());
    Ok(provider.with_batch_exporter(exporter).build())
}
