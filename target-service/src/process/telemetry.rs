//! What a node's process says of itself: logs on standard error (`RUST_LOG`, `info` by default), and spans and metrics over
//! OTLP when the standard variables ask for them (`OTEL_EXPORTER_OTLP_ENDPOINT` for both, or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` and `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` for one). docs/metrics.md lists the metrics.
//!
//! Spans are bounded three times: a [`CallSampler`] keeps some calls of each second (unless `OTEL_TRACES_SAMPLER` says
//! otherwise), the SDK's queue holds 2048 spans (`OTEL_BSP_MAX_QUEUE_SIZE`) and drops what it has no room for, and the
//! end of the process waits two seconds for the rest. What was left out and what was dropped is counted and logged.

use std::{env, io, time::Duration};

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::sampler::CallSampler;
use crate::{env::Clock, node::NodeConfig};

/// How long the last spans are waited for when the process ends.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);
/// How long a span waits for company, unless `OTEL_BSP_SCHEDULE_DELAY` says: a node that is killed takes what waits with
/// it, so this is shorter than the SDK's five seconds.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
/// How often metrics are exported, unless `OTEL_METRIC_EXPORT_INTERVAL` says.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// The process' telemetry, until [`Telemetry::end`].
#[derive(Debug)]
pub(super) struct Telemetry {
    spans: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    sampler: Option<CallSampler>,
}

/// Whether what goes to `endpoint` is asked for, and not switched off by `exporter`.
fn asked_for(endpoint: &str, exporter: &str) -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it.trim().eq_ignore_ascii_case(value));
    let set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let off = is("OTEL_SDK_DISABLED", "true") || is(exporter, "none");
    !off && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set(endpoint))
}

fn wants_spans() -> bool {
    asked_for("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER")
}

fn wants_metrics() -> bool {
    asked_for("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_METRICS_EXPORTER")
}

impl Telemetry {
    /// Starts logs, and spans and metrics if they are asked for. Must be called on the runtime that is to carry the export,
    /// and before the node is made, which takes its instruments then.
    ///
    /// # Errors
    /// When the variables are set and the exporter can't be made of them.
    pub(super) fn start(config: &NodeConfig) -> Result<Self, String> {
        let sampler =
            (wants_spans() && env::var_os("OTEL_TRACES_SAMPLER").is_none()).then(|| CallSampler::new(Clock::system()));
        let spans = match wants_spans() {
            true => Some(provider(config, sampler.clone())?),
            false => None,
        };
        let metrics = match wants_metrics() {
            true => Some(meters(config)?),
            false => None,
        };
        if let Some(metrics) = &metrics {
            opentelemetry::global::set_meter_provider(metrics.clone());
        }
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
        Ok(Self {
            spans,
            metrics,
            sampler,
        })
    }

    /// Sends what is left, within a bound.
    pub(super) fn end(self) {
        if let Some(left_out) = self.sampler.map(|sampler| sampler.left_out())
            && left_out > 0
        {
            tracing::info!(left_out, "calls without a span, to bound the trace");
        }
        if let Some(spans) = self.spans
            && let Err(error) = spans.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::warn!(%error, "the last spans were not exported");
        }
        if let Some(metrics) = self.metrics
            && let Err(error) = metrics.shutdown_with_timeout(FLUSH_WITHIN)
        {
            tracing::warn!(%error, "the last metrics were not exported");
        }
    }
}

fn resource(config: &NodeConfig) -> Resource {
    let mut resource = Resource::builder().with_attributes([
        KeyValue::new("service.instance.id", config.node.to_string()),
        KeyValue::new("firedrill.zone", config.zone.clone()),
    ]);
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name("target-service");
    }
    resource.build()
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("set up the OTLP exporter from the OTEL_* variables: {error}")
}

fn meters(config: &NodeConfig) -> Result<SdkMeterProvider, String> {
    let exporter = MetricExporter::builder().with_tonic().build().map_err(wrong)?;
    let mut reader = PeriodicReader::builder(exporter);
    if env::var_os("OTEL_METRIC_EXPORT_INTERVAL").is_none() {
        reader = reader.with_interval(METRICS_EVERY);
    }
    let provider = SdkMeterProvider::builder().with_resource(resource(config));
    Ok(provider.with_reader(reader.build()).build())
}

fn provider(config: &NodeConfig, sampler: Option<CallSampler>) -> Result<SdkTracerProvider, String> {
    let exporter = SpanExporter::builder().with_tonic().build().map_err(wrong)?;
    let mut batch = BatchConfigBuilder::default();
    if env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        batch = batch.with_scheduled_delay(EXPORT_EVERY);
    }
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batch.build());
    let mut provider = SdkTracerProvider::builder()
        .with_resource(resource(config))
        .with_span_processor(processor.build());
    if let Some(sampler) = sampler {
        provider = provider.with_sampler(sampler);
    }
    Ok(provider.build())
}
