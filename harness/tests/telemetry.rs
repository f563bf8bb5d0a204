//! A run's trace, as a collector receives it.

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
