//! trace.otlp.json: the run's own spans as OTLP/JSON, the JSON mapping of OpenTelemetry's protobuf messages, which
//! collectors and trace viewers take as it is. It is drawn from the history alone, so a folder that is judged again has
//! the same bytes, whether a collector was there or not.
//!
//! The mapping is protobuf's with OTLP's own exceptions: ids are hexadecimal, not base64; 64-bit numbers are text; enums
//! are numbers; what is empty is left out.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    base::Nanos,
    history::{Header, SpanRecord},
};

use super::{judgement::Judgement, output::Output};

/// `SPAN_KIND_INTERNAL`.
const KIND_INTERNAL: u8 = 1;
/// `STATUS_CODE_OK`.
const STATUS_OK: u8 = 1;
/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u8 = 2;

/// Writes trace.otlp.json.
pub(super) struct TraceJson;

impl Output for TraceJson {
    fn file_name(&self) -> &'static str {
        "trace.otlp.json"
    }

    fn about(&self) -> &'static str {
        "the run as a trace, a span for each phase and fault, in OTLP/JSON"
    }

    fn render(&self, judgement: &Judgement) -> Result<Vec<u8>, String> {
        let history = &judgement.history;
        let origin = origin(&history.header)?;
        let trace = format!("{:032x}", history.trace.ids().trace);
        let spans = history.trace.spans(history.ended, judgement.verdict().as_str());
        let document = TracesData {
            resource_spans: [ResourceSpans {
                resource: Resource {
                    attributes: vec![text("service.name", "firedrill")],
                },
                scope_spans: [ScopeSpans {
                    scope: Scope {
                        name: "firedrill",
                        version: history.header.versions.get("firedrill").map(String::as_str),
                    },
                    spans: spans.into_iter().map(|span| put(span, &trace, origin)).collect(),
                }],
            }],
        };
        let mut bytes = serde_json::to_vec_pretty(&document).map_err(|e| e.to_string())?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The run's origin on the wall clock, in nanoseconds since the Unix epoch.
fn origin(header: &Header) -> Result<i128, String> {
    let started: jiff::Timestamp = header
        .started
        .parse()
        .map_err(|error| format!("the header's `started` is `{}`: {error}", header.started))?;
    Ok(started.as_nanosecond())
}

fn put(span: SpanRecord, trace: &str, origin: i128) -> Span {
    let wall = |at: Nanos| (origin + i128::from(at.0)).max(0).to_string();
    Span {
        trace_id: trace.to_owned(),
        span_id: format!("{:016x}", span.id),
        parent_span_id: (span.parent != 0).then(|| format!("{:016x}", span.parent)),
        name: span.name,
        kind: KIND_INTERNAL,
        start_time_unix_nano: wall(span.start),
        end_time_unix_nano: wall(span.end),
        attributes: attributes(span.attributes),
        events: span
            .events
            .into_iter()
            .map(|event| SpanEvent {
                time_unix_nano: wall(event.at),
                name: event.name,
                attributes: attributes(event.attributes),
            })
            .collect(),
        status: SpanStatus {
            code: if span.error.is_some() { STATUS_ERROR } else { STATUS_OK },
            message: span.error,
        },
    }
}

fn attributes(known: BTreeMap<String, String>) -> Vec<Attribute> {
    known.into_iter().map(|(key, value)| text(&key, &value)).collect()
}

fn text(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Value {
            string_value: value.to_owned(),
        },
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TracesData<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope<'a>,
    spans: Vec<Span>,
}

/// Who wrote the history, not who draws it: the bytes must not change with the version that judges again.
#[derive(Serialize)]
struct Scope<'a> {
    name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    events: Vec<SpanEvent>,
    status: SpanStatus,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanEvent {
    time_unix_nano: String,
    name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct SpanStatus {
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Value {
    string_value: String,
}
