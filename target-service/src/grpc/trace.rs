//! W3C trace context in gRPC metadata, both ways, through whatever propagator the process has installed. Without one
//! (no telemetry was asked for) both directions do nothing.

use opentelemetry::propagation::{Extractor, Injector};
use tonic::metadata::{KeyRef, MetadataKey, MetadataMap};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

struct Reader<'a>(&'a MetadataMap);

impl Extractor for Reader<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        let ascii = |key| match key {
            KeyRef::Ascii(key) => Some(key.as_str()),
            KeyRef::Binary(_) => None,
        };
        self.0.keys().filter_map(ascii).collect()
    }
}

struct Writer<'a>(&'a mut MetadataMap);

impl Injector for Writer<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(key), Ok(value)) = (MetadataKey::from_bytes(key.as_bytes()), value.parse()) {
            self.0.insert(key, value);
        }
    }
}

/// Makes the caller's span, if the request names one, the parent of `span`.
pub(crate) fn adopt(span: &Span, metadata: &MetadataMap) {
    let parent = opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Reader(metadata)));
    // An error means that nobody listens to `span`: then there is no parent to keep.
    let _ = span.set_parent(parent);
}

/// Writes the current span into a request's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let current = Span::current().context();
    opentelemetry::global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&current, &mut Writer(metadata));
    });
}

#[cfg(test)]
mod tests {
    use opentelemetry::{
        propagation::TextMapPropagator as _,
        trace::{TraceContextExt as _, TracerProvider as _},
    };
    use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_span_travels_in_metadata_and_noise_is_no_span() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("outer");
            let propagator = TraceContextPropagator::new();
            let mut metadata = MetadataMap::new();
            propagator.inject_context(&span.context(), &mut Writer(&mut metadata));
            let sent = span.context().span().span_context().trace_id();
            let read = propagator.extract(&Reader(&metadata));
            assert_eq!(read.span().span_context().trace_id(), sent);
            assert!(Reader(&metadata).keys().contains(&"traceparent"));

            metadata.insert("traceparent", "00-nothing-of-it-01".parse().unwrap());
            assert!(!propagator.extract(&Reader(&metadata)).span().span_context().is_valid());
        });
    }
}
