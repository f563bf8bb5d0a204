//! A run's trace, as a collector receives it.

#[cfg(feature = "messaging")]
mod common;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use fake_opentelemetry_collector::FakeCollectorServer;
use firedrill::{
    base::Nanos,
    history::{Event, FORMAT, FaultChange, FaultEvent, Header, Phase, PhaseEvent, TraceIds},
    telemetry::Mirror,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_with_a_span_for_each_phase_and_fault() {
    let mut collector = FakeCollectorServer::start().await.expect("a port on loopback is free");
    let header = Header {
        format: FORMAT.to_owned(),
        plan: serde_json::json!({"scenario": "leader-kill", "seed": 42, "backend": "process"}),
        started: "2026-01-01T00:00:00Z".to_owned(),
        versions: BTreeMap::new(),
    };
    let mut mirror =
        Mirror::start(&header, SystemTime::UNIX_EPOCH, Some(&collector.endpoint())).expect("the endpoint is a URL");
    for event in events() {
        mirror.on_event(&event);
    }
    let dropped = mirror.finish(Nanos::from_millis(90), "pass").await;
    assert_eq!(dropped, 0);

    let spans = collector.exported_spans(4, Duration::from_secs(20)).await;
    let ids = TraceIds::of(&header);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "firedrill.phase steady",
            "firedrill.fault kill",
            "firedrill.phase disturb",
            "firedrill.run"
        ]
    );
    for span in &spans {
        assert_eq!(span.trace_id, format!("{:032x}", ids.trace));
    }
    let root = format!("{:016x}", ids.root);
    assert!(spans[..3].iter().all(|span| span.parent_span_id == root), "{spans:#?}");
    assert_eq!(spans[3].span_id, root);
    let fault = &spans[1];
    assert!(
        fault.attributes["firedrill.fault.targets"].contains("n2"),
        "{:?}",
        fault.attributes
    );
    let steps: Vec<&str> = fault.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(steps, ["requested", "installed", "healed"]);
}

fn events() -> Vec<Event> {
    let phase = |at, phase| {
        Event::Phase(PhaseEvent {
            at: Nanos::from_millis(at),
            phase,
        })
    };
    let fault = |at, change| {
        Event::Fault(FaultEvent {
            at: Nanos::from_millis(at),
            id: "1-kill".to_owned(),
            kind: "kill".to_owned(),
            system: "messaging".to_owned(),
            targets: vec!["n2".to_owned()],
            needs: vec!["shard:0".to_owned()],
            resolved: None,
            change,
        })
    };
    let evidence = "gone".to_owned();
    vec![
        phase(0, Phase::Steady),
        phase(10, Phase::Disturb),
        fault(20, FaultChange::Requested),
        fault(
            22,
            FaultChange::Installed {
                effective: Nanos::from_millis(21),
                evidence: evidence.clone(),
            },
        ),
        fault(
            40,
            FaultChange::Healed {
                healed: Nanos::from_millis(39),
                evidence,
            },
        ),
    ]
}

/// The node's own part: a real run, whose nodes tell of some calls in the run's trace.
#[cfg(feature = "messaging")]
#[tokio::test(flavor = "multi_thread")]
async fn nodes_tell_of_some_calls_in_the_runs_trace_and_export_every_metric() {
    use common::{Bench, PATIENCE, small};

    let mut collector = FakeCollectorServer::start().await.expect("a port on loopback is free");
    let bench = Bench::new();
    let scenario = bench.scenario(&small("  - at: 1s\n    kill: leader\n    heal_after: 1s"));
    let scenario = scenario.to_str().expect("a temporary path is text");
    let mut command = bench.firedrill(&["run", scenario, "--out", "out"]);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .env("OTEL_METRIC_EXPORT_INTERVAL", "1000")
        .env_remove("OTEL_METRICS_EXPORTER")
        .env_remove("OTEL_TRACES_SAMPLER")
        .env_remove("OTEL_SDK_DISABLED");
    let mut run = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .expect("the command starts");
    let mut spans = Vec::new();
    let mut metrics = Vec::new();
    let status = tokio::time::timeout(PATIENCE, async {
        loop {
            // The collector's own queues are small, and who does not empty them stops the exporters.
            spans.extend(collector.exported_spans(1, Duration::from_millis(100)).await);
            metrics.extend(collector.exported_metrics(0, Duration::ZERO).await);
            if let Some(status) = run.try_wait().expect("it is our child") {
                return status;
            }
        }
    });
    let status = status.await.expect("a small run ends");
    spans.extend(collector.exported_spans(1, Duration::from_millis(100)).await);
    let told = bench.run_json();
    assert!(status.success(), "{:#}", told["reasons"]);

    let by_id: BTreeMap<&str, _> = spans.iter().map(|span| (span.span_id.as_str(), span)).collect();
    let root = spans
        .iter()
        .find(|span| span.name == "firedrill.run")
        .expect("the root");
    assert_eq!(root.parent_span_id, "");
    for name in ["firedrill.phase disturb", "firedrill.fault kill"] {
        let span = spans.iter().find(|span| span.name == name).expect(name);
        assert_eq!((&span.trace_id, &span.parent_span_id), (&root.trace_id, &root.span_id));
    }
    let calls: Vec<_> = spans.iter().filter(|span| span.name.starts_with("chat.")).collect();
    for call in &calls {
        assert_eq!(call.kind, "SPAN_KIND_SERVER");
        assert_eq!((&call.trace_id, &call.parent_span_id), (&root.trace_id, &root.span_id));
    }
    assert!(calls.iter().any(|call| call.name == "chat.send"), "no send of any node");
    let steps = spans.iter().filter(|span| span.name == "propose");
    let known = steps.filter_map(|step| by_id.get(step.parent_span_id.as_str()));
    assert!(
        known.clone().count() > 0 && known.clone().all(|call| call.name.starts_with("chat.")),
        "a step of the node's loop belongs to its call"
    );
    // The run's folder tells of the same trace, without the nodes' part.
    let file = std::fs::read(bench.path("out/trace.otlp.json")).expect("it is written");
    let file: serde_json::Value = serde_json::from_slice(&file).expect("it is JSON");
    let recorded = file["resourceSpans"][0]["scopeSpans"][0]["spans"]
        .as_array()
        .expect("spans");
    let ours: BTreeMap<&str, &str> = recorded
        .iter()
        .map(|span| {
            (
                span["spanId"].as_str().unwrap_or(""),
                span["name"].as_str().unwrap_or(""),
            )
        })
        .collect();
    let sent = spans.iter().filter(|span| span.name.starts_with("firedrill."));
    let sent: BTreeMap<&str, &str> = sent.map(|span| (span.span_id.as_str(), span.name.as_str())).collect();
    assert_eq!(ours, sent);
    assert_eq!(recorded[0]["traceId"], root.trace_id.as_str());

    let exported: BTreeMap<&str, &str> = metrics
        .iter()
        .flat_map(|it| &it.metrics)
        .map(|it| (it.name.as_str(), it.unit.as_str()))
        .collect();
    let listed = target_service::node::METRICS.iter().map(|it| (it.name, it.unit));
    let missing: Vec<_> = listed.filter(|(name, unit)| exported.get(name) != Some(unit)).collect();
    assert!(
        missing.is_empty(),
        "not exported with their units: {missing:?} of {exported:?}"
    );
    let unlisted = exported.keys().filter(|name| name.starts_with("chat."));
    assert_eq!(unlisted.count(), target_service::node::METRICS.len(), "{exported:?}");

    // Three nodes and one that started again; of each, twenty calls at once and twenty a second.
    let seconds = told["duration_ms"].as_f64().expect("a number") / 1000.0;
    let most = (4.0 + 3.0 * seconds) * 20.0;
    assert!((calls.len() as f64) <= most, "{} calls in {seconds} s", calls.len());
    assert!(
        calls
            .iter()
            .any(|call| call.attributes.contains_key("firedrill.calls_left_out")),
        "this load is beyond the bound, and what was left out is told"
    );
}
