//! The judgement and what is drawn from it, on synthetic histories.

use std::time::Duration;

use serde_json::{Value, json};

use super::{BudgetVerdict, Judgement, OUTPUTS, judge_events, summary, write_all};
use crate::{
    base::{Exit, Nanos},
    check::Verdict,
    history::{
        Event, FaultChange, HarnessEvent, HarnessKind, Outcome, Phase, ProcessChange, ProcessEvent,
        synth::{Effect, Script, Scripted},
    },
};

fn script() -> Script {
    Script {
        gap: Duration::from_millis(10),
        outages: vec![Scripted::ms(5000, 6200, Effect::Refuse)],
        ..Script::default()
    }
}

fn with_plan(mut script: Script, pointer: &str, value: Value) -> Script {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = script.plan.pointer_mut(parent).and_then(Value::as_object_mut).unwrap();
    parent.insert(key.to_owned(), value);
    script
}

fn judged(script: &Script) -> Judgement {
    judge_events(script.header(), script.events(), None)
}

fn with_event(script: &Script, event: Event) -> Judgement {
    let mut events = script.events();
    events.push(event);
    judge_events(script.header(), events, None)
}

fn harness(kind: HarnessKind) -> Event {
    Event::Harness(HarnessEvent {
        at: Nanos::from_millis(7000),
        kind,
        text: "stood still for 3000 ms".to_owned(),
    })
}

fn output(judgement: &Judgement, name: &str) -> String {
    let output = OUTPUTS.iter().find(|o| o.file_name() == name).unwrap();
    String::from_utf8(output.render(judgement).unwrap()).unwrap()
}

#[test]
fn a_good_run_passes() {
    let judgement = judged(&script());
    assert_eq!(judgement.exit(), Exit::Pass, "{:?}", judgement.reasons);
    assert_eq!(judgement.verdict(), Verdict::Pass);
    assert!(judgement.reasons.is_empty());
    assert!(judgement.load.ok > 1000 && judgement.load.offered >= judgement.load.ok);
}

#[test]
fn a_budget_is_kept_exceeded_or_untold() {
    let budgets = json!([
        "send.steady < 5s",
        "send.steady < 500ms",
        "put.steady < 1s",
        "send.relapses <= 0"
    ]);
    let script = with_plan(script(), "/expect/recovery", budgets);
    let judgement = judged(&with_plan(
        script,
        "/expect/slo",
        json!(["send.success >= 10%", "send.p50 < 1ms"]),
    ));
    let verdicts: Vec<_> = judgement.budgets.iter().map(|b| b.verdict).collect();
    assert_eq!(
        verdicts,
        [
            BudgetVerdict::Pass,
            BudgetVerdict::Fail,
            BudgetVerdict::Unknown,
            BudgetVerdict::Pass,
            BudgetVerdict::Pass,
            BudgetVerdict::Fail,
        ]
    );
    assert_eq!(judgement.exits, [Exit::Budget, Exit::Inconclusive]);
    assert_eq!(
        judgement.verdict(),
        Verdict::Fail,
        "a failure is not hidden by what is open"
    );
}

/// The verdict of one budget over a history of which some events are taken away.
fn budget_without(script: Script, budget: &str, gone: impl Fn(&Event) -> bool) -> BudgetVerdict {
    let script = with_plan(script, "/expect/recovery", json!([budget]));
    let events = script.events().into_iter().filter(|event| !gone(event)).collect();
    judge_events(script.header(), events, None).budgets[0].verdict
}

#[test]
fn a_budget_over_a_figure_that_nobody_saw_is_no_pass() {
    let observed = |event: &Event| matches!(event, Event::Observed(_));
    let sessions = |event: &Event| matches!(event, Event::Session(_));
    let nothing = |_: &Event| false;
    for (budget, gone, verdict) in [
        (
            "send.redundant < 10s",
            &nothing as &dyn Fn(&Event) -> bool,
            BudgetVerdict::Pass,
        ),
        ("send.redundant < 10s", &observed, BudgetVerdict::Unknown),
        ("send.sessions_back < 10s", &nothing, BudgetVerdict::Pass),
        ("send.sessions_back < 10s", &sessions, BudgetVerdict::Unknown),
        ("deliver.drained < 10s", &nothing, BudgetVerdict::Pass),
        // Sends are owed to nobody: that is a figure of deliveries.
        ("send.drained < 10s", &nothing, BudgetVerdict::Unknown),
    ] {
        assert_eq!(budget_without(script(), budget, gone), verdict, "{budget}");
    }
}

#[test]
fn a_figure_from_a_heal_that_never_was_is_no_pass_where_there_was_an_impact() {
    let healing = |event: &Event| match event {
        Event::Fault(fault) => matches!(fault.change, FaultChange::HealRequested | FaultChange::Healed { .. }),
        _ => false,
    };
    let quiet = Script {
        outages: Vec::new(),
        ..script()
    };
    for figure in ["first_ok_after_heal", "steady_after_heal", "sessions_back", "redundant"] {
        let budget = format!("send.{figure} < 10s");
        assert_eq!(
            budget_without(script(), &budget, healing),
            BudgetVerdict::Unknown,
            "{budget}"
        );
        // Where nothing was harmed there is nothing to come back from.
        assert_eq!(
            budget_without(quiet.clone(), &budget, healing),
            BudgetVerdict::Pass,
            "{budget}"
        );
    }
    let drained = "deliver.drained < 10s";
    assert_eq!(budget_without(script(), drained, healing), BudgetVerdict::Unknown);
    assert_eq!(budget_without(quiet, drained, healing), BudgetVerdict::Pass);
}

#[test]
fn trouble_of_the_harness_is_inconclusive_and_never_a_verdict_on_the_system() {
    for kind in [
        HarnessKind::Stalled,
        HarnessKind::NotSteady,
        HarnessKind::NotDrained,
        HarnessKind::NotFenced,
        HarnessKind::NotTriggered,
    ] {
        let judgement = with_event(&script(), harness(kind));
        assert_eq!(judgement.exit(), Exit::Inconclusive, "{kind:?}");
        assert_eq!(judgement.verdict(), Verdict::Unknown);
    }
    assert_eq!(
        with_event(&script(), harness(HarnessKind::Failure)).exit(),
        Exit::Internal
    );
    assert_eq!(
        with_event(&script(), harness(HarnessKind::Interrupted)).exit(),
        Exit::Interrupted
    );
    assert_eq!(
        with_event(&script(), harness(HarnessKind::Dirty)).exit(),
        Exit::HealFailed
    );
    assert_eq!(with_event(&script(), harness(HarnessKind::Note)).exit(), Exit::Pass);
}

#[test]
fn faults_of_one_kind_have_a_distribution_and_a_budget_for_every_one() {
    let outages = [(5000_u32, 5400_u32), (9000, 10_200), (14_000, 14_800)];
    let several = Script {
        outages: outages
            .map(|(from, to)| Scripted::ms(from.into(), to.into(), Effect::Refuse))
            .into(),
        load_end: Nanos::from_millis(20_000),
        ..script()
    };
    let budgets = json!(["send[fault:every].first_ok < 1s", "send.first_ok < 1s"]);
    let judgement = judged(&with_plan(several, "/expect/recovery", budgets));
    let found = &judgement.repeated;
    let first_ok = found.iter().find(|one| one.title().ends_with("send.first ok")).unwrap();
    assert_eq!((first_ok.values_ms.len(), first_ok.untold), (3, 0));
    for (value, (from, to)) in first_ok.values_ms.iter().zip(outages) {
        let (value, lasted) = (value.unwrap(), f64::from(to - from));
        assert!((value - lasted).abs() <= 60.0, "{value} of {lasted}");
    }
    let verdicts: Vec<_> = judgement.budgets.iter().map(|budget| budget.verdict).collect();
    assert_eq!(
        verdicts,
        [BudgetVerdict::Fail, BudgetVerdict::Pass],
        "the worst of three, and the first"
    );
    assert!(summary(&judgement, false).contains(&first_ok.words()));
}

#[test]
fn a_node_that_somebody_else_froze_makes_the_run_inconclusive() {
    let frozen = |at, asked_for| {
        Event::Process(ProcessEvent {
            at: Nanos::from_millis(at),
            system: "main".to_owned(),
            node: "n2".to_owned(),
            pid: 7,
            change: ProcessChange::Stopped { asked_for },
        })
    };
    let judgement = with_event(&script(), frozen(7000, false));
    assert_eq!(judgement.exit(), Exit::Inconclusive);
    let said = format!("{judgement:?}");
    assert!(said.contains("n2 (pid 7) of main was frozen from outside at 7.000 s and did not go on"));
    assert_eq!(with_event(&script(), frozen(7000, true)).exit(), Exit::Pass);
    assert_eq!(
        with_event(&script(), frozen(1, false)).exit(),
        Exit::Pass,
        "before anything is measured"
    );
}

#[test]
fn trouble_of_the_harness_erases_no_witness() {
    let mut events = script().events();
    for event in &mut events {
        if let Event::Shown(shown) = event {
            shown.hash ^= 1;
            break;
        }
    }
    events.push(harness(HarnessKind::Stalled));
    let judgement = judge_events(script().header(), events, Some("cut off"));
    assert_eq!(judgement.exits, [Exit::Promise, Exit::Inconclusive]);
    assert!(judgement.reasons[0].contains("corrupted"), "{:?}", judgement.reasons);
}

#[test]
fn an_outage_that_no_fault_explains_is_no_pass() {
    let script = script();
    let events: Vec<Event> = script
        .events()
        .into_iter()
        .filter(|e| !matches!(e, Event::Fault(_)))
        .collect();
    let judgement = judge_events(script.header(), events, None);
    assert_eq!(judgement.exit(), Exit::Inconclusive);
    assert!(
        judgement.reasons.iter().any(|r| r.contains("no fault explains it")),
        "{:?}",
        judgement.reasons
    );
}

/// Two outages, of which the second has no fault; `apart` lies between the end of the first and it.
fn second_without_a_fault(apart: Duration) -> Judgement {
    let again = 6200 + u64::try_from(apart.as_millis()).unwrap();
    let script = Script {
        outages: vec![
            Scripted::ms(5000, 6200, Effect::Refuse),
            Scripted::ms(again, again + 1200, Effect::Refuse),
        ],
        load_end: Nanos::from_millis(again + 8000),
        ..script()
    };
    let mut events = script.events();
    events.retain(|e| !matches!(e, Event::Fault(f) if f.id.starts_with("2-")));
    judge_events(script.header(), events, None)
}

#[test]
fn an_outage_long_after_the_last_fault_is_no_pass_and_one_in_its_wake_is() {
    let late = second_without_a_fault(Duration::from_secs(16));
    assert_eq!(late.exit(), Exit::Inconclusive);
    assert!(
        late.reasons.iter().any(|r| r.contains("no fault explains it")),
        "{:?}",
        late.reasons
    );
    let wave = second_without_a_fault(Duration::from_secs(3));
    assert_eq!(wave.exit(), Exit::Pass, "{:?}", wave.reasons);
}

#[test]
fn a_load_too_thin_to_tell_is_no_pass() {
    let judgement = judged(&Script {
        gap: Duration::from_millis(700),
        probe_gap: Duration::from_millis(900),
        ..script()
    });
    assert_eq!(judgement.exit(), Exit::Inconclusive);
    assert!(
        judgement
            .reasons
            .iter()
            .any(|r| r.contains("too few operations (send)")),
        "{:?}",
        judgement.reasons
    );
}

#[test]
fn a_budget_within_the_bound_of_its_figure_can_not_be_told() {
    let measured = judged(&script());
    let row = measured.rows().find(|r| r.is_summary() && r.class == "send").unwrap();
    let (steady, bound) = (row.steady_ms.value().unwrap(), row.steady_ms.bound().unwrap());
    let verdict = |limit_ms: f64| {
        let budget = json!([format!("send.steady < {}ms", limit_ms.round())]);
        judged(&with_plan(script(), "/expect/recovery", budget)).budgets[0].verdict
    };
    assert_eq!(verdict(steady + bound + 1.0), BudgetVerdict::Pass);
    assert_eq!(verdict(steady + bound / 2.0), BudgetVerdict::Unknown);
    assert_eq!(verdict(steady - bound / 2.0), BudgetVerdict::Unknown);
    assert_eq!(verdict(steady - bound - 1.0), BudgetVerdict::Fail);
}

#[test]
fn a_fault_that_was_not_proven_or_not_undone_is_no_pass() {
    let spoilt = |change: fn(&FaultChange) -> Option<FaultChange>| {
        let mut events = script().events();
        for event in &mut events {
            if let Event::Fault(fault) = event
                && let Some(other) = change(&fault.change)
            {
                fault.change = other;
            }
        }
        judge_events(script().header(), events, None)
    };
    let reason = || "no answer".to_owned();
    let unproven = spoilt(|c| {
        matches!(c, FaultChange::Installed { .. }).then(|| FaultChange::Indeterminate { reason: "x".to_owned() })
    });
    assert_eq!(unproven.exit(), Exit::Inconclusive, "{}", reason());
    let dirty =
        spoilt(|c| matches!(c, FaultChange::Healed { .. }).then(|| FaultChange::HealFailed { reason: "x".to_owned() }));
    assert_eq!(dirty.exit(), Exit::HealFailed);
}

#[test]
fn a_stall_while_nothing_is_measured_is_no_matter() {
    let judgement = with_event(
        &script(),
        Event::Harness(HarnessEvent {
            at: Nanos::from_millis(400),
            kind: HarnessKind::Stalled,
            text: "while nodes were starting".to_owned(),
        }),
    );
    assert_eq!(judgement.exit(), Exit::Pass, "{:?}", judgement.reasons);
}

#[test]
fn a_heal_that_was_asked_for_and_never_proven_is_no_pass() {
    let mut events = script().events();
    events.retain(|e| !matches!(e, Event::Fault(f) if matches!(f.change, FaultChange::Healed { .. })));
    let judgement = judge_events(script().header(), events, None);
    assert_eq!(judgement.exit(), Exit::Inconclusive);
    assert!(
        judgement.reasons.iter().any(|r| r.contains("never proven healed")),
        "{:?}",
        judgement.reasons
    );
}

#[test]
fn a_lagging_or_shedding_generator_proves_nothing() {
    let mut lagging = script().events();
    let mut shedding = lagging.clone();
    for (number, event) in lagging.iter_mut().enumerate() {
        if let Event::Op(op) = event
            && number % 20 == 0
        {
            op.sent = op.sent.plus(Duration::from_millis(90));
            op.done = op.done.plus(Duration::from_millis(90));
        }
    }
    for (number, event) in shedding.iter_mut().enumerate() {
        if let Event::Op(op) = event
            && number % 20 == 0
            && op.attempt == 1
            && op.last
        {
            op.outcome = Outcome::Shed;
        }
    }
    let lagging = judge_events(script().header(), lagging, None);
    assert!(
        lagging.reasons.iter().any(|r| r.contains("lagged")),
        "{:?}",
        lagging.reasons
    );
    let limit = with_plan(script(), "/limits", json!({"shed_ratio": 0.000_001}));
    let shedding = judge_events(limit.header(), shedding, None);
    assert!(shedding.load.shed > 0);
    assert!(
        shedding.reasons.iter().any(|r| r.contains("shed")),
        "{:?}",
        shedding.reasons
    );
}

#[test]
fn too_little_traffic_proves_nothing() {
    let sparse = Script {
        gap: Duration::from_secs(2),
        probe_gap: Duration::from_secs(2),
        ..script()
    };
    let judgement = judged(&sparse);
    assert_eq!(judgement.exit(), Exit::Inconclusive);
    assert!(
        judgement.reasons.iter().any(|r| r.contains("too little traffic")),
        "{:?}",
        judgement.reasons
    );
}

#[test]
fn a_promise_asked_for_by_name_must_be_exercised() {
    let judgement = judged(&with_plan(
        script(),
        "/expect/promises",
        json!(["bad-resume", "lost-acked"]),
    ));
    assert_eq!(judgement.exit(), Exit::Inconclusive, "nobody reconnects here");
    let names: Vec<_> = judgement.findings.iter().map(|f| f.name).collect();
    assert_eq!(
        names,
        ["lost-acked", "bad-resume", "assumptions", "coverage", "node-exit"]
    );
}

#[test]
fn a_run_that_does_not_come_back_is_no_pass() {
    let judgement = judged(&Script {
        outages: vec![Scripted::ms(5000, 15_900, Effect::Refuse)],
        ..script()
    });
    assert_ne!(judgement.exit(), Exit::Pass);
    assert!(
        judgement.reasons.iter().any(|r| r.contains("did not return")),
        "{:?}",
        judgement.reasons
    );
}

#[test]
fn run_json_keeps_its_contract() {
    let schema: Value = serde_json::from_str(include_str!("run.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let budgets = with_plan(
        script(),
        "/expect/recovery",
        json!(["send.steady < 2s", "put.steady < 2s"]),
    );
    let broken = {
        let mut events = script().events();
        events.retain(|e| !matches!(e, Event::Read(_)));
        events.truncate(events.len() / 2);
        judge_events(script().header(), events, Some("torn"))
    };
    for judgement in [judged(&budgets), judged(&Script::default()), broken] {
        let document: Value = serde_json::from_str(&output(&judgement, "run.json")).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(document["exit_code"], judgement.exit().code());
    }
    let mut wrong = serde_json::to_value(super::document(&judged(&script()))).unwrap();
    wrong["verdict"] = json!("green");
    assert!(!validator.is_valid(&wrong), "the schema can say no");
}

#[test]
fn the_summary_says_the_verdict_first_and_is_plain_without_a_terminal() {
    let judgement = judged(&with_plan(script(), "/expect/recovery", json!(["send.steady < 500ms"])));
    let plain = summary(&judgement, false);
    assert!(
        plain.trim_start().starts_with("✘ FAIL: a budget is exceeded"),
        "{plain}"
    );
    assert!(!plain.contains('\x1b'));
    assert!(plain.contains("1-kill") && plain.contains("send.steady < 500ms") && plain.contains("firedrill run"));
    let bar = plain.lines().find(|l| l.contains("send ")).unwrap();
    assert!(bar.contains('▆') || bar.contains('▇'), "{bar}");
    assert!(summary(&judgement, true).contains("\x1b[31m"));
}

#[test]
fn the_page_is_self_contained_and_escapes_what_comes_from_outside() {
    let evil = "</script><script>alert(1)</script>";
    let script = with_plan(script(), "/about", json!(evil));
    let mut script = with_plan(script, "/scenario", json!("a<b"));
    script.plan["systems"][0]["name"] = json!("main");
    let mut events = script.events();
    for event in &mut events {
        if let Event::Fault(fault) = event {
            fault.id = format!("1-{evil}");
        }
    }
    let page = output(&judge_events(script.header(), events, None), "report.html");
    assert!(
        !page.contains("alert(1)</script>") && !page.contains("<script>alert"),
        "escaped everywhere"
    );
    // The namespace of SVG is a name; nothing is fetched.
    let links = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!links.contains("http://") && !links.contains("https://") && !links.contains("src="));
    let data = page
        .split("type=\"application/json\">")
        .nth(1)
        .unwrap()
        .split("</script>")
        .next()
        .unwrap();
    let data: Value = serde_json::from_str(data).unwrap();
    assert!(data["systems"][0]["classes"].as_array().unwrap().len() >= 2);
    assert_eq!(data["faults"].as_array().unwrap().len(), 1);
}

#[test]
fn junit_counts_failures_and_errors() {
    let judgement = judged(&with_plan(
        script(),
        "/expect/recovery",
        json!(["send.steady < 500ms", "put.p99 < 1s"]),
    ));
    let xml = output(&judgement, "junit.xml");
    let report = quick_junit::Report::deserialize_from_str(&xml).unwrap();
    assert!(report.failures >= 2, "the budget and the run");
    assert!(report.errors >= 1, "the budget that can't be told");
    assert!(report.test_suites[0].test_cases.len() > 20);
}

#[test]
fn the_series_adds_up() {
    let judgement = judged(&script());
    let csv = output(&judgement, "series.csv");
    let offered: u64 = csv
        .lines()
        .skip(1)
        .filter(|line| line.split(',').nth(2) == Some("send"))
        .map(|line| line.split(',').nth(3).unwrap().parse::<u64>().unwrap())
        .sum();
    let systems = judgement.history.systems.values();
    let sends = systems
        .flat_map(|s| &s.operations)
        .filter(|o| o.class == crate::history::Class::Send);
    assert_eq!(offered, sends.count() as u64);
    let log = output(&judgement, "latency.hlog");
    assert!(log.lines().filter(|l| l.starts_with("Tag=send")).count() > 10, "{log}");
}

#[test]
fn a_folder_is_judged_again_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let script = script();
    let recorder = crate::history::Recorder::create(
        &dir.path().join(crate::history::FILE_NAME),
        script.header(),
        crate::history::RecorderLimits::default(),
    )
    .unwrap();
    for event in script.events() {
        recorder.record(event);
    }
    recorder.finish().unwrap();
    let again = super::judge(dir.path()).unwrap();
    assert_eq!(
        serde_json::to_value(super::document(&again)).unwrap(),
        serde_json::to_value(super::document(&judged(&script))).unwrap()
    );
    write_all(&again, dir.path()).unwrap();
    for output in OUTPUTS {
        let written = std::fs::read(dir.path().join(output.file_name())).unwrap();
        assert!(
            written == output.render(&judged(&script)).unwrap(),
            "{}: the same history gives the same bytes",
            output.file_name()
        );
        assert!(
            dir.path().join(output.file_name()).metadata().unwrap().len() > 100,
            "{}",
            output.file_name()
        );
        assert!(output.about().len() > 10);
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .filter_map(|e| e.unwrap().file_name().into_string().ok())
        .collect();
    assert!(left.iter().all(|name| !name.contains("partial")), "{left:?}");
    assert!(super::judge(&dir.path().join("nowhere")).is_err());
}

#[test]
fn odd_histories_are_drawn_too() {
    let script = script();
    let mut events = script.events();
    events.retain(|e| matches!(e, Event::Phase(p) if p.phase == Phase::Steady));
    for events in [Vec::new(), events] {
        let judgement = judge_events(script.header(), events, None);
        assert_eq!(judgement.exit(), Exit::Inconclusive);
        for output in OUTPUTS {
            output.render(&judgement).unwrap();
        }
        assert!(summary(&judgement, false).contains("INCONCLUSIVE"));
    }
}

#[test]
fn the_trace_is_otlp_whose_spans_have_parents_and_nest() {
    let judgement = judged(&script());
    let text = output(&judgement, "trace.otlp.json");
    let trace: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        trace["resourceSpans"][0]["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "firedrill"}})
    );
    let spans = trace["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let word = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
    let hex = |text: &str, len: usize| {
        text.len() == len
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && text.bytes().any(|b| b != b'0')
    };
    let nanos = |span: &Value, key: &str| word(span, key).parse::<u64>().unwrap();
    let by_id: std::collections::BTreeMap<String, &Value> = spans.iter().map(|s| (word(s, "spanId"), s)).collect();
    assert_eq!(by_id.len(), spans.len(), "no id twice");
    let roots: Vec<&Value> = spans.iter().filter(|s| s.get("parentSpanId").is_none()).collect();
    assert_eq!(roots.len(), 1);
    assert_eq!(word(roots[0], "name"), "firedrill.run");
    // The header of the script says when it began.
    assert_eq!(nanos(roots[0], "startTimeUnixNano"), 1_767_225_600_000_000_000);
    for span in spans {
        assert!(
            hex(&word(span, "traceId"), 32) && hex(&word(span, "spanId"), 16),
            "{span}"
        );
        assert_eq!(word(span, "traceId"), word(roots[0], "traceId"));
        assert_eq!(span["kind"], 1);
        let (start, end) = (nanos(span, "startTimeUnixNano"), nanos(span, "endTimeUnixNano"));
        assert!(start <= end, "{span}");
        if span.get("parentSpanId").is_some() {
            let parent = by_id[&word(span, "parentSpanId")];
            assert!(nanos(parent, "startTimeUnixNano") <= start && end <= nanos(parent, "endTimeUnixNano"));
        }
    }
    let named = |name: &str| spans.iter().filter(|s| word(s, "name") == name).count();
    assert_eq!(
        (named("firedrill.phase disturb"), named("firedrill.fault kill")),
        (1, 1)
    );
    let fault = spans
        .iter()
        .find(|s| word(s, "name") == "firedrill.fault kill")
        .unwrap();
    assert!(
        fault["events"]
            .as_array()
            .unwrap()
            .iter()
            .all(|e| nanos(e, "timeUnixNano") > 0)
    );
    assert_eq!(fault["status"], json!({"code": 1}));
    // A run that did not pass says so on its root.
    let failed = judged(&with_plan(script(), "/expect/recovery", json!(["send.steady < 500ms"])));
    let failed: Value = serde_json::from_str(&output(&failed, "trace.otlp.json")).unwrap();
    let spans = failed["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    assert_eq!(spans.last().unwrap()["status"], json!({"code": 2, "message": "fail"}));
}

#[test]
fn a_trace_without_an_instant_of_its_beginning_is_refused_in_words() {
    let script = script();
    let mut header = script.header();
    header.started = "yesterday".to_owned();
    let judgement = judge_events(header, script.events(), None);
    let otlp = OUTPUTS.iter().find(|o| o.file_name() == "trace.otlp.json").unwrap();
    assert!(otlp.render(&judgement).unwrap_err().contains("yesterday"));
}
