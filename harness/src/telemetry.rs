//! Mirrors a run to OpenTelemetry, when the standard `OTEL_*` variables ask for it. Never feeds back.
//!
//! The spans are those of [`SpanTracker`], sent as they end. They go straight to the exporter rather than through a
//! tracer, because their ids and times are the history's own. The gRPC exporter is used: the asynchronous HTTP one
//! panics outside a runtime.

use std::{
    env,
    time::{Duration, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    metrics::{Gauge, MeterProvider as _},
    trace::{Event as OtelEvent, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use tokio::sync::mpsc;

use crate::history::{Event, Header, SpanRecord, SpanTracker, TraceIds};

/// How many ended spans wait for the exporter at most; more are dropped and counted.
const QUEUE_MAX: usize = 1024;
/// How long the exporter is waited for at the end of a run.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);

/// Whether the environment asks for an export.
#[must_use]
pub fn asked_for() -> bool {
    let set = |name: &str| env::var(name).is_ok_and(|value| !value.trim().is_empty());
    let disabled = env::var("OTEL_SDK_DISABLED").is_ok_and(|value| value.eq_ignore_ascii_case("true"));
    !disabled && (set("OTEL_EXPORTER_OTLP_ENDPOINT") || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
}

/// The mirror of one run.
#[derive(Debug)]
pub struct Mirror {
    tracker: SpanTracker,
    ids: TraceIds,
    origin: SystemTime,
    queue: mpsc::Sender<SpanData>,
    exporter: tokio::task::JoinHandle<()>,
    faults_active: Gauge<u64>,
    metrics: SdkMeterProvider,
    dropped: u64,
}

impl Mirror {
    /// A mirror for the run with this header, whose origin was at `origin` on the wall clock. Must be called on a tokio
    /// runtime. None when the environment does not ask for one.
    ///
    /// # Errors
    /// When the variables are set but wrong; the text names what is.
    pub fn from_env(header: &Header, origin: SystemTime) -> Result<Option<Self>, String> {
        if asked_for() {
            Self::start(header, origin, None).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The same, to a stated collector (`http://127.0.0.1:4317`), or with none to the one that the environment names.
    ///
    /// # Errors
    /// When the exporter can't be set up; the text says why.
    pub fn start(header: &Header, origin: SystemTime, collector: Option<&str>) -> Result<Self, String> {
        let wrong =
            |error: &dyn std::fmt::Display| format!("set up the OTLP exporter from the OTEL_* variables: {error}");
        let resource = Resource::builder().with_service_name(service_name()).build();
        let (mut spans, mut metrics) = (
            SpanExporter::builder().with_tonic(),
            MetricExporter::builder().with_tonic(),
        );
        if let Some(collector) = collector {
            spans = spans.with_endpoint(collector);
            metrics = metrics.with_endpoint(collector);
        }
        let mut spans = spans.build().map_err(|e| wrong(&e))?;
        spans.set_resource(&resource);
        let metrics = metrics.build().map_err(|e| wrong(&e))?;
        let metrics = SdkMeterProvider::builder()
            .with_periodic_exporter(metrics)
            .with_resource(resource)
            .build();
        let faults_active = metrics
            .meter("firedrill")
            .u64_gauge("firedrill.faults.active")
            .with_description("Faults that bite at this moment")
            .build();
        let (queue, inbox) = mpsc::channel(QUEUE_MAX);
        let tracker = SpanTracker::new(header);
        Ok(Self {
            ids: tracker.ids(),
            tracker,
            origin,
            queue,
            exporter: tokio::spawn(export(spans, inbox)),
            faults_active,
            metrics,
            dropped: 0,
        })
    }

    /// Takes the next event of the history. Never waits.
    pub fn on_event(&mut self, event: &Event) {
        let ended = self.tracker.on_event(event);
        if matches!(event, Event::Fault(_)) {
            self.faults_active.record(self.tracker.faults_active() as u64, &[]);
        }
        self.send(ended);
    }

    /// Ends the trace with the run's verdict and waits, with a bound, until it is sent. Returns how many spans could
    /// not be queued.
    pub async fn finish(mut self, at: crate::base::Nanos, verdict: &str) -> u64 {
        let ended = self.tracker.finish(at, verdict);
        self.send(ended);
        drop(self.queue);
        if tokio::time::timeout(FLUSH_WITHIN, self.exporter).await.is_err() {
            tracing::warn!("the OTLP collector did not take the run's last spans in {FLUSH_WITHIN:?}");
        }
        let metrics = self.metrics;
        // The SDK's own flush blocks its thread.
        let flushed = tokio::task::spawn_blocking(move || metrics.shutdown_with_timeout(FLUSH_WITHIN)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::warn!("the OTLP collector did not take the run's last metrics");
        }
        self.dropped
    }

    fn send(&mut self, ended: Vec<SpanRecord>) {
        for record in ended {
            if self.queue.try_send(span_data(self.ids, self.origin, record)).is_err() {
                self.dropped += 1;
            }
        }
    }
}

fn service_name() -> String {
    env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "firedrill".to_owned())
}

async fn export(exporter: SpanExporter, mut inbox: mpsc::Receiver<SpanData>) {
    let mut batch = Vec::new();
    while inbox.recv_many(&mut batch, 64).await > 0 {
        if let Err(error) = exporter.export(std::mem::take(&mut batch)).await {
            tracing::warn!(%error, "failed to export spans; they are in the run's trace.otlp.json all the same");
        }
    }
}

fn span_data(ids: TraceIds, origin: SystemTime, record: SpanRecord) -> SpanData {
    let wall = |at: crate::base::Nanos| origin + Duration::from_nanos(at.0);
    let attributes = |map: std::collections::BTreeMap<String, String>| -> Vec<KeyValue> {
        map.into_iter().map(|(key, value)| KeyValue::new(key, value)).collect()
    };
    let mut events = SpanEvents::default();
    events.events = record
        .events
        .into_iter()
        .map(|event| OtelEvent::new(event.name, wall(event.at), attributes(event.attributes), 0))
        .collect();
    SpanData {
        span_context: SpanContext::new(
            TraceId::from(ids.trace),
            SpanId::from(record.id),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        ),
        parent_span_id: SpanId::from(record.parent),
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: record.name.into(),
        start_time: wall(record.start),
        end_time: wall(record.end),
        attributes: attributes(record.attributes),
        dropped_attributes_count: 0,
        events,
        links: SpanLinks::default(),
        status: record.error.map_or(Status::Ok, Status::error),
        instrumentation_scope: InstrumentationScope::builder("firedrill")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}
