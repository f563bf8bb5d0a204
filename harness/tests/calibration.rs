//! Calibration: 300 outages of exactly scripted times, rehearsed through the real generator in virtual time, the truth
//! beside the reading. A figure outside the bound it states means that the bound is wrong.
//!
//! `cargo test --test calibration -- --nocapture` prints how much of their bounds the readings used.

use std::time::Duration;

use firedrill::{
    base::{Nanos, Streams, millis},
    history::{Class, History},
    recovery::{Figure, Row, rows},
    system::{
        ScriptedEffect, ScriptedOutage, ScriptedSpec,
        scripted::{Rehearsal, rehearse},
    },
    workload::{LoadSpec, ProbeSpec, RetrySpec, ScheduleSpec},
};
use rand::Rng as _;

/// Outages of one rehearsal. The pauses between them are longer than `hold`, so that each is one of its own.
const OUTAGES: usize = 10;
const HOLD_MS: u64 = 1000;
/// The band's p99: what is slower than this is outside.
const SLOW_MS: f64 = 50.0;

/// What the readings used of their bounds.
#[derive(Default)]
struct Used {
    readings: usize,
    worst: f64,
}

impl Used {
    fn hold(&mut self, figure: &Figure, truth_ms: f64, what: &str) {
        let (Some(value), Some(bound)) = (figure.value(), figure.bound()) else {
            panic!("{what}: {figure:?} instead of {truth_ms} ms");
        };
        let error = (value - truth_ms).abs();
        assert!(
            error <= bound,
            "{what}: read {value} ms, bound {bound} ms, truth {truth_ms} ms"
        );
        self.readings += 1;
        self.worst = self.worst.max(error / bound);
    }
}

fn rehearsal(number: u64) -> Rehearsal {
    let mut rng = Streams::new(number).stream("calibration");
    let mut pick = |low: u64, high: u64| low + rng.next_u64() % (high - low);
    let per_s = f64::from(u32::try_from(pick(80, 250)).unwrap());
    let schedule = match number % 3 {
        0 => ScheduleSpec::Poisson { per_s },
        _ => ScheduleSpec::Constant { per_s },
    };
    let mut outages = Vec::new();
    let mut at_ms = 4000;
    for index in 0..OUTAGES as u64 {
        let (on_ms, off_ms) = (pick(150, 500), pick(150, 500));
        let (for_ms, effect) = match (index + number) % 5 {
            0 => (pick(60, 1500), ScriptedEffect::Dead {}),
            1 => (pick(60, 1500), ScriptedEffect::Silent {}),
            2 => {
                let share = [0.3, 0.5, 0.9][usize::try_from(pick(0, 3)).unwrap()];
                (pick(600, 2000), ScriptedEffect::Errors { share })
            }
            3 => (pick(60, 1500), ScriptedEffect::Slow { factor: 60.0 }),
            // It ends with a whole burst.
            _ => (2 * (on_ms + off_ms) + on_ms, ScriptedEffect::Flapping { on_ms, off_ms }),
        };
        outages.push(ScriptedOutage { at_ms, for_ms, effect });
        at_ms += for_ms + HOLD_MS + pick(800, 1500);
    }
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
            schedule,
            // A retry would hide a share of errors: then there is no outage to find.
            retry: RetrySpec {
                attempts: 1,
                ..RetrySpec::default()
            },
            op_timeout_ms: 250,
            in_flight_max: 10_000,
            probe: Some(ProbeSpec { per_s: 50.0 }),
            request: None,
            group: None,
        },
        seed: number,
        warm_up: Duration::from_secs(1),
        steady: Duration::from_secs(2),
        settle: Duration::from_millis(HOLD_MS + 500),
        plan: serde_json::json!({
            "scenario": "calibration",
            "systems": [{"name": "main", "kind": {"scripted": {}}}],
            "settle": {"hold_ms": HOLD_MS},
            "steady": {"require": ["put.success >= 99.9%", format!("put.p99 < {SLOW_MS}ms")]},
        }),
    }
}

fn calibrate(numbers: std::ops::Range<u64>) {
    let mut used = Used::default();
    for number in numbers {
        let rehearsal = rehearsal(number);
        let (recorded, script) = rehearse(&rehearsal).expect("rehearsed");
        let history = History::new(recorded.header, recorded.events);
        let rows = rows(&history);
        let windows = script.windows();
        assert_eq!(windows.len(), OUTAGES);
        for (index, outage) in rehearsal.target.outages.iter().enumerate() {
            one(&mut used, &rows, number, index, outage, windows[index]);
        }
    }
    println!(
        "{} readings, the worst used {:.0} % of its bound",
        used.readings,
        used.worst * 100.0
    );
}

fn one(used: &mut Used, rows: &[Row], number: u64, index: usize, outage: &ScriptedOutage, window: (Nanos, Nanos)) {
    let id = format!("{}-scripted", index + 1);
    let row = rows
        .iter()
        .find(|r| r.fault == id && r.class == "put" && r.group == "all")
        .unwrap_or_else(|| panic!("no row for {id}"));
    let truth = millis(window.1.since(window.0));
    let name = format!("rehearsal {number}, {id} {outage:?}");
    used.hold(&row.steady_ms, truth, &format!("{name}: steady"));
    used.hold(
        &row.steady_after_heal_ms,
        0.0,
        &format!("{name}: steady after the heal"),
    );
    used.hold(&row.downtime_ms, truth, &format!("{name}: downtime"));
    let (impact, gap) = match &outage.effect {
        ScriptedEffect::Dead {} => (0.0, Some(truth)),
        ScriptedEffect::Silent {} => (SLOW_MS, Some(truth)),
        ScriptedEffect::Slow { .. } => (SLOW_MS, None),
        ScriptedEffect::Errors { .. } => (0.0, None),
        ScriptedEffect::Flapping { on_ms, .. } => (0.0, Some(millis(Duration::from_millis(*on_ms)))),
    };
    used.hold(&row.impact_ms, impact, &format!("{name}: impact"));
    if let Some(gap) = gap {
        used.hold(&row.worst_gap_ms, gap, &format!("{name}: worst gap"));
    }
    assert_eq!(row.relapses.value(), Some(0.0), "{name}");
    let bound = row.steady_ms.bound().unwrap_or_default();
    assert!(bound < 700.0, "{name}: a blanket bound of {bound} ms");
}

// In parts, so that they run side by side.
#[test]
fn the_first_hundred_outages_are_read_within_their_bounds() {
    calibrate(0..10);
}

#[test]
fn the_second_hundred_outages_are_read_within_their_bounds() {
    calibrate(10..20);
}

#[test]
fn the_third_hundred_outages_are_read_within_their_bounds() {
    calibrate(20..30);
}
