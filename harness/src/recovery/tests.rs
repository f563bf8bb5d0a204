//! Calibration: outages of exactly known times, the truth beside the reading. A figure outside its stated bound means
//! that the bound is wrong.

use std::time::Duration;

use crate::{
    base::{Nanos, Streams, millis},
    history::{
        Event, FaultChange, History, SessionChange, SessionEvent,
        synth::{Effect, Script, Scripted},
    },
};
use rand::Rng as _;

use super::{Figure, Row, rows};

fn row<'a>(rows: &'a [Row], fault: &str, class: &str, group: &str) -> &'a Row {
    rows.iter()
        .find(|r| r.fault == fault && r.class == class && r.group == group)
        .unwrap_or_else(|| panic!("no row {fault}/{class}/{group}"))
}

fn within(figure: &Figure, truth_ms: f64, what: &str) {
    let (Some(value), Some(bound)) = (figure.value(), figure.bound()) else {
        panic!("{what}: {figure:?} instead of {truth_ms} ms");
    };
    assert!(
        (value - truth_ms).abs() <= bound,
        "{what}: read {value} ms, bound {bound} ms, truth {truth_ms} ms"
    );
}

#[test]
fn a_quiet_run_has_no_impact() {
    let rows = rows(&Script::default().history());
    for class in ["send", "deliver"] {
        let row = row(&rows, "run", class, "all");
        assert_eq!(row.impact_ms, Figure::None);
        assert_eq!(row.steady_ms, Figure::None);
        assert_eq!(row.relapses.value(), Some(0.0));
        assert_eq!(row.downtime_ms.value(), Some(0.0));
        assert!(row.worst_gap_ms.value().unwrap() < 150.0);
    }
}

#[test]
fn two_faults_never_share_a_clock() {
    let script = Script {
        outages: vec![
            Scripted::ms(5000, 6000, Effect::Refuse),
            Scripted::ms(10_000, 10_500, Effect::Refuse),
        ],
        ..Script::default()
    };
    let rows = rows(&script.history());
    within(&row(&rows, "1-kill", "send", "all").steady_ms, 1000.0, "the first");
    within(&row(&rows, "2-kill", "send", "all").steady_ms, 500.0, "the second");
    let run = row(&rows, "run", "send", "all");
    within(&run.steady_ms, 1000.0, "the run's first recovery");
    within(&run.downtime_ms, 1500.0, "all of it");
    assert_eq!(run.relapses.value(), Some(1.0));
    assert_eq!(row(&rows, "1-kill", "send", "all").relapses.value(), Some(0.0));
}

#[test]
fn a_fault_that_begins_before_recovery_resets_the_heal_clock() {
    let script = Script {
        outages: vec![
            Scripted::ms(5000, 6000, Effect::Refuse),
            Scripted::ms(7000, 8000, Effect::Refuse),
        ],
        ..Script::default()
    };
    let first = rows(&script.history());
    let first = row(&first, "1-kill", "send", "all");
    // The pause is shorter than `hold`: only the second end counts, and the clock starts at the second heal.
    within(&first.steady_ms, 3000.0, "from the first effect");
    within(&first.steady_after_heal_ms, 0.0, "from the last heal");
}

#[test]
fn an_outage_that_outlives_the_run_is_never_over() {
    let script = Script {
        outages: vec![Scripted::ms(5000, 60_000, Effect::Refuse)],
        ..Script::default()
    };
    let events = script
        .events()
        .into_iter()
        .filter(|e| !matches!(e, crate::history::Event::Fault(f) if matches!(f.change, FaultChange::Healed { .. })))
        .collect();
    let rows = rows(&History::new(script.header(), events));
    let row = row(&rows, "1-kill", "send", "all");
    assert_eq!(row.steady_ms, Figure::Never);
    assert_eq!(row.first_ok_ms, Figure::Never);
    assert_eq!(row.steady_after_heal_ms, Figure::Never);
    assert_eq!(row.drained_after_heal_ms, Figure::None, "sends are not drained");
}

#[test]
fn sessions_may_come_back_while_the_load_drains_but_not_after_the_fence() {
    let script = Script {
        outages: vec![Scripted::ms(5000, 6000, Effect::Refuse)],
        ..Script::default()
    };
    let back_after_load = |ms: u64| {
        let change = |at, session, change| {
            Event::Session(SessionEvent {
                at,
                system: "main".to_owned(),
                session,
                user: session / 10,
                device: 0,
                change,
            })
        };
        let mut events = script.events();
        for session in (0..script.users).map(|user| user * 10) {
            let lost = SessionChange::Lost {
                reason: "reset".to_owned(),
            };
            events.push(change(Nanos::from_millis(5100), session, lost));
            let at = script.load_end.plus(Duration::from_millis(ms));
            let connected = SessionChange::Connected {
                connection: 2,
                after: 0,
            };
            events.push(change(at, session, connected));
        }
        events.sort_by_key(Event::at);
        let rows = rows(&History::new(script.header(), events));
        row(&rows, "1-kill", "send", "all").sessions_back_after_heal_ms
    };
    within(
        &back_after_load(2500),
        12_500.0,
        "in the drain, which ends the load at 16 s",
    );
    assert_eq!(back_after_load(3020), Figure::Never);
}

#[test]
fn too_few_operations_are_unresolved() {
    let script = Script {
        gap: Duration::from_secs(3),
        probe_gap: Duration::from_secs(3),
        outages: vec![Scripted::ms(5000, 6000, Effect::Refuse)],
        ..Script::default()
    };
    let rows = rows(&script.history());
    assert_eq!(row(&rows, "1-kill", "send", "all").steady_ms, Figure::Unresolved);
}

#[test]
fn groups_have_their_own_rows() {
    let rows = rows(&Script::default().history());
    assert!(rows.iter().any(|r| r.group == "zone:east" && r.class == "deliver"));
    assert!(rows.iter().any(|r| r.group == "zone:west" && r.class == "send"));
}

/// One calibration: what was scripted, and what must be read.
struct Case {
    name: String,
    script: Script,
    /// From the effect until the service is as before for good.
    steady_ms: f64,
    /// All time out of order; none where the pauses of a flap leave it open.
    downtime_ms: Option<f64>,
    impact_ms: f64,
    /// The longest time without any success; none where some succeed throughout.
    gap_ms: Option<f64>,
}

fn case(number: u64) -> Case {
    let mut rng = Streams::new(number).stream("calibration");
    let mut pick = |low: u64, high: u64| low + rng.next_u64() % (high - low);
    let from = pick(4500, 5500) * 1000 + pick(0, 1000);
    let short = (number / 5).is_multiple_of(2) && number % 5 != 2;
    let length = if short { pick(60, 400) } else { pick(500, 6000) } * 1000 + pick(0, 1000);
    let poisson = pick(0, 2) == 1;
    let gap = Duration::from_micros(pick(2000, 9000));
    let (on, off) = (pick(150, 900), pick(150, 900));
    // A flap ends with a whole burst: a retry would hide a short rest.
    let flaps = number % 5 == 4;
    let length = if flaps {
        (length / (on + off) / 1000 * (on + off) + on) * 1000
    } else {
        length
    };
    let (to, longest) = (from + length, if flaps { on * 1000 } else { length });
    let share = [0.2, 0.5, 0.9][usize::try_from(pick(0, 3)).unwrap()];
    let factor = pick(60, 200);
    #[expect(clippy::cast_precision_loss, reason = "a few seconds in microseconds")]
    let ms = |us: u64| us as f64 / 1e3;
    #[expect(clippy::cast_precision_loss, reason = "at most 200")]
    let slow = Effect::Slow(factor as f64);
    let (effect, on_off, name) = match number % 5 {
        0 => (Effect::Refuse, None, "dead, refusing"),
        1 => (Effect::Stall, None, "dead, silent"),
        2 => (Effect::Errors(share), None, "a share of errors"),
        3 => (slow, None, "slow"),
        _ => (
            Effect::Refuse,
            Some((Duration::from_millis(on), Duration::from_millis(off))),
            "flapping",
        ),
    };
    let outage = Scripted {
        from: Nanos(from * 1000),
        to: Nanos(to * 1000),
        effect,
        on_off,
    };
    let service = Duration::from_millis(2);
    Case {
        name: format!(
            "case {number} ({name}, {} us long, gap {gap:?}, poisson {poisson})",
            length
        ),
        script: Script {
            seed: number,
            gap,
            poisson,
            service,
            // A share of errors is hidden by retries: then there is no outage to find.
            retries: if matches!(effect, Effect::Errors(_)) { 0 } else { 3 },
            outages: vec![outage],
            // Only what is read here: deliveries and zones cost time.
            devices: 0,
            zones: false,
            ..Script::default()
        },
        steady_ms: ms(length),
        downtime_ms: Some(ms(length)),
        impact_ms: match effect {
            Effect::Stall | Effect::Slow(_) => 50.0,
            Effect::Refuse | Effect::Errors(_) => 0.0,
        },
        gap_ms: matches!(effect, Effect::Refuse | Effect::Stall).then(|| ms(longest)),
    }
}

fn calibrate(numbers: std::ops::Range<u64>) {
    for number in numbers {
        let case = case(number);
        let rows = rows(&case.script.history());
        let row = row(&rows, "1-kill", "send", "all");
        let name = &case.name;
        let flaps = case.script.outages[0].on_off.is_some();
        within(&row.steady_ms, case.steady_ms, &format!("{name}: steady"));
        within(&row.impact_ms, case.impact_ms, &format!("{name}: impact"));
        if let Some(downtime) = case.downtime_ms {
            within(&row.downtime_ms, downtime, &format!("{name}: downtime"));
        }
        if let Some(gap) = case.gap_ms {
            within(&row.worst_gap_ms, gap, &format!("{name}: worst gap"));
        }
        let steady_bound = row.steady_ms.bound().unwrap_or_default();
        let dense = !(flaps || case.script.retries == 0);
        let operations = if dense { 12.0 } else { 150.0 };
        assert!(
            steady_bound < 100.0 + millis(case.script.gap) * operations,
            "{name}: a blanket bound of {steady_bound} ms"
        );
    }
}

#[test]
fn synthetic_outages_are_read_within_their_bounds() {
    calibrate(0..60);
}
