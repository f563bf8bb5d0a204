//! The script is kept to the letter.

use std::{collections::BTreeMap, time::Duration};

use super::*;
use crate::{
    base::Nanos,
    history::{Class, Event, FaultChange, Operation, Outcome, Recorded},
    system::{ScriptedEffect, ScriptedOutage},
    workload::{ProbeSpec, RetrySpec, ScheduleSpec},
};

fn outage(at_ms: u64, for_ms: u64, effect: ScriptedEffect) -> ScriptedOutage {
    ScriptedOutage {
        at_ms,
        for_ms,
        effect,
        reaction: None,
    }
}

fn rehearsal(outages: Vec<ScriptedOutage>) -> Rehearsal {
    Rehearsal {
        target: ScriptedSpec {
            service_us: 2000,
            outages,
        },
        load: LoadSpec {
            system: "main".to_owned(),
            class: Class::Put,
            users: 8,
            devices: 1,
            size_bytes: 32,
            schedule: ScheduleSpec::Constant { per_s: 200.0 },
            retry: RetrySpec {
                attempts: 1,
                ..RetrySpec::default()
            },
            op_timeout_ms: 250,
            in_flight_max: 10_000,
            probe: Some(ProbeSpec { per_s: 100.0 }),
            request: None,
            group: None,
            life: None,
        },
        seed: 5,
        warm_up: Duration::from_secs(1),
        steady: Duration::from_secs(1),
        settle: Duration::from_secs(2),
        plan: serde_json::Value::Null,
        stalls: Vec::new(),
    }
}

fn run(outages: Vec<ScriptedOutage>) -> (Vec<Operation>, Recorded, Script) {
    let Rehearsed { recorded, script, .. } = rehearse(&rehearsal(outages)).expect("rehearsed");
    let ops = recorded.events.iter().filter_map(|event| match event {
        Event::Op(op) => Some(op.clone()),
        _ => None,
    });
    (ops.collect(), recorded, script)
}

fn inside(script: &Script, at: Nanos) -> bool {
    script.bursts().iter().any(|(from, to)| at >= *from && at < *to)
}

#[test]
fn dead_is_dead_exactly_as_long_as_scripted() {
    let (ops, _, script) = run(vec![outage(2500, 777, ScriptedEffect::Dead {})]);
    assert!(ops.iter().filter(|op| op.outcome == Outcome::Failed).count() > 200);
    for op in &ops {
        let expected = if inside(&script, op.sent) {
            Outcome::Failed
        } else {
            Outcome::Ok
        };
        assert_eq!(op.outcome, expected, "sent at {:?}", op.sent);
    }
}

#[test]
fn silence_is_unknown_and_not_absent() {
    let (ops, _, script) = run(vec![outage(2500, 500, ScriptedEffect::Silent {})]);
    for op in &ops {
        let expected = if inside(&script, op.sent) {
            Outcome::Unknown
        } else {
            Outcome::Ok
        };
        assert_eq!(op.outcome, expected);
    }
    let silent = ops.iter().filter(|op| op.outcome == Outcome::Unknown);
    assert!(
        silent
            .clone()
            .all(|op| op.done.since(op.sent) == Duration::from_millis(250))
    );
    assert!(silent.count() > 100);
}

#[test]
fn a_share_of_errors_is_that_share_and_slow_is_slow_by_the_factor() {
    let (ops, _, script) = run(vec![
        outage(2000, 5000, ScriptedEffect::Errors { share: 0.3 }),
        outage(8000, 2000, ScriptedEffect::Slow { factor: 20.0 }),
    ]);
    let windows = script.windows();
    let within = |op: &&Operation, (from, to): (Nanos, Nanos)| op.sent >= from && op.sent < to;
    let errors: Vec<_> = ops.iter().filter(|op| within(op, windows[0])).collect();
    let failed = errors.iter().filter(|op| op.outcome == Outcome::Failed).count();
    // 1500 draws at 0.3: four standard deviations are 71.
    assert!(
        errors.len() >= 1490 && (375..=520).contains(&failed),
        "{failed} of {}",
        errors.len()
    );
    let slow: Vec<_> = ops.iter().filter(|op| within(op, windows[1])).collect();
    assert!(
        !slow.is_empty()
            && slow
                .iter()
                .all(|op| op.done.since(op.sent) >= Duration::from_millis(40))
    );
    let healthy = ops.iter().filter(|op| op.sent < windows[0].0);
    assert!(
        healthy
            .into_iter()
            .all(|op| op.done.since(op.sent) <= Duration::from_millis(3))
    );
}

#[test]
fn flaps_are_told_burst_by_burst() {
    let effect = ScriptedEffect::Flapping {
        on_ms: 300,
        off_ms: 200,
    };
    let (ops, recorded, script) = run(vec![outage(2000, 1200, effect)]);
    assert_eq!(script.bursts().len(), 3);
    let faults: Vec<_> = recorded
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Fault(fault) => match &fault.change {
                FaultChange::Installed { effective, .. } => Some((fault.id.as_str(), *effective)),
                _ => None,
            },
            _ => None,
        })
        .collect();
    let starts: Vec<Nanos> = script.bursts().iter().map(|(from, _)| *from).collect();
    assert_eq!(
        faults,
        [
            ("1-scripted.1", starts[0]),
            ("1-scripted.2", starts[1]),
            ("1-scripted.3", starts[2])
        ]
    );
    for op in &ops {
        assert_eq!(op.outcome == Outcome::Failed, inside(&script, op.sent));
    }
}

#[test]
fn a_harness_that_stands_still_sends_late_what_was_meant_meanwhile() {
    let still = Rehearsal {
        stalls: vec![(Duration::from_millis(2500), Duration::from_millis(300))],
        ..rehearsal(Vec::new())
    };
    let recorded = rehearse(&still).expect("rehearsed").recorded;
    let lags = recorded.events.iter().filter_map(|event| match event {
        Event::Op(op) => Some(op.sent.since(op.intended)),
        _ => None,
    });
    let late: Vec<Duration> = lags.filter(|lag| *lag >= Duration::from_millis(1)).collect();
    assert!(late.iter().all(|lag| *lag <= Duration::from_millis(301)), "{late:?}");
    let most = late.iter().max().expect("some were late");
    assert!(*most >= Duration::from_millis(290), "{most:?}");
    // Of 300 a second, those of three tenths.
    assert!((80..=95).contains(&late.len()), "{}", late.len());
}

#[test]
fn everything_acknowledged_is_read_back() {
    let (ops, recorded, _) = run(vec![outage(2500, 500, ScriptedEffect::Dead {})]);
    let mut read = BTreeMap::new();
    for event in &recorded.events {
        if let Event::Read(log) = event {
            assert!(log.complete);
            read.extend(log.items.iter().map(|item| (item.item, item.hash)));
        }
    }
    let acknowledged = ops.iter().filter(|op| op.outcome == Outcome::Ok).count();
    assert_eq!(read.len(), acknowledged);
    for op in &ops {
        let crate::history::Subject::Item { item, hash, .. } = &op.subject else {
            panic!("a put")
        };
        let found = read.get(&Some(*item));
        assert_eq!(found, (op.outcome == Outcome::Ok).then_some(hash));
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let outages = || vec![outage(2000, 3000, ScriptedEffect::Errors { share: 0.5 })];
    let (first, again) = (run(outages()).1, run(outages()).1);
    assert_eq!(first, again);
    let other = Rehearsal {
        seed: 6,
        ..rehearsal(outages())
    };
    assert_ne!(first.events, rehearse(&other).expect("rehearsed").recorded.events);
}

#[test]
fn scripts_that_can_not_be_are_refused() {
    let dead = || ScriptedEffect::Dead {};
    for (outages, says) in [
        (vec![outage(10, 0, dead())], "lasts no time"),
        (
            vec![outage(10, 10, dead()), outage(15, 10, dead())],
            "outage 2 begins at 15 ms",
        ),
        (
            vec![outage(10, 10, ScriptedEffect::Errors { share: 1.5 })],
            "from 0 to 1",
        ),
        (
            vec![outage(10, 10, ScriptedEffect::Slow { factor: f64::NAN })],
            "factor of NaN",
        ),
        (
            vec![outage(10, 10, ScriptedEffect::Flapping { on_ms: 0, off_ms: 1 })],
            "above 0",
        ),
    ] {
        let spec = ScriptedSpec { service_us: 1, outages };
        let error = Scripted::new("main", &spec).err().expect("refused").0;
        assert!(error.contains(says), "{error}");
    }
}
