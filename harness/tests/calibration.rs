//! Calibration: 300 outages of exactly scripted times, rehearsed through the real generator in virtual time, the truth
//! beside the reading, for every figure. A figure outside the bound it states means that the bound is wrong.
//!
//! In every third rehearsal the harness itself stands still now and then, so that what it sent and noted came late: the
//! bounds have to hold that too.
//!
//! `cargo test --test calibration -- --nocapture` prints how much of their bounds the readings used.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use firedrill::{
    base::{Nanos, Streams, millis},
    history::{Class, Event, History, Outcome},
    recovery::{Figure, Row, rows},
    system::{
        ScriptedEffect, ScriptedOutage, ScriptedReaction, ScriptedSpec,
        scripted::{ASK_EVERY, Rehearsal, Rehearsed, Script, Served, rehearse},
    },
    workload::{LoadSpec, ProbeSpec, RequestSpec, RetrySpec, ScheduleSpec},
};
use rand::Rng as _;

/// Outages of one rehearsal. The pauses between them are longer than `hold` and than the two seconds in which the level of
/// the backlog is taken, so that each is one of its own.
const OUTAGES: usize = 10;
const HOLD_MS: u64 = 1000;
/// The band's p99: what is slower than this is outside.
const SLOW_MS: f64 = 50.0;
const SERVICE_MS: f64 = 2.0;
const SLOW_FACTOR: f64 = 60.0;
const TIMEOUT_MS: f64 = 250.0;
const PROBES_PER_S: f64 = 50.0;
const STEADY: Duration = Duration::from_secs(2);
const USERS: u32 = 8;

/// What the readings of one figure used of their bounds.
#[derive(Default)]
struct Used {
    readings: usize,
    worst: f64,
    widest: f64,
}

/// All readings of one part of the rehearsals, by figure.
#[derive(Default)]
struct Calibration {
    used: BTreeMap<&'static str, Used>,
    wrong: Vec<String>,
}

impl Calibration {
    fn hold(&mut self, name: &'static str, figure: &Figure, truth: f64, of: &Outage<'_>) {
        let (Some(value), Some(bound)) = (figure.value(), figure.bound()) else {
            self.wrong
                .push(format!("{of}: {name} is {figure:?} instead of {truth}"));
            return;
        };
        let error = (value - truth).abs();
        // Both are sums of decimals that binary fractions only come near.
        if error > bound + 1e-9 {
            self.wrong
                .push(format!("{of}: {name} is read as {value}, bound {bound}, truth {truth}"));
        }
        let used = self.used.entry(name).or_default();
        used.readings += 1;
        used.worst = used.worst.max(error / bound.max(1e-9));
        used.widest = used.widest.max(bound);
    }

    fn demand(&mut self, holds: bool, of: &Outage<'_>, what: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(format!("{of}: {}", what()));
        }
    }
}

/// One scripted outage, and where it stands.
struct Outage<'a> {
    rehearsal: u64,
    id: String,
    script: &'a ScriptedOutage,
    window: (Nanos, Nanos),
    /// How long the harness stood still about it.
    still: Duration,
}

impl std::fmt::Display for Outage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (number, id, script) = (self.rehearsal, &self.id, self.script);
        write!(
            f,
            "rehearsal {number}, {id} {script:?}, stood still for {:?}",
            self.still
        )
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Every second rehearsal is of items, which are shown to somebody; the others are of requests by several users.
fn of_items(number: u64) -> bool {
    number.is_multiple_of(2)
}

fn rehearsal(number: u64) -> (Rehearsal, Vec<Duration>) {
    let mut rng = Streams::new(number).stream("calibration");
    let mut pick = |low: u64, high: u64| low + rng.next_u64() % (high - low);
    let per_s = f64::from(u32::try_from(pick(80, 250)).unwrap());
    let schedule = match number % 3 {
        0 => ScheduleSpec::Poisson { per_s },
        _ => ScheduleSpec::Constant { per_s },
    };
    let mut outages = Vec::new();
    let (mut stalls, mut still) = (Vec::new(), Vec::new());
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
            3 => (pick(60, 1500), ScriptedEffect::Slow { factor: SLOW_FACTOR }),
            // It ends with a whole burst.
            _ => (2 * (on_ms + off_ms) + on_ms, ScriptedEffect::Flapping { on_ms, off_ms }),
        };
        let detected_ms = pick(20, 400);
        let reaction = Some(ScriptedReaction {
            detected_ms,
            led_ms: detected_ms + pick(1, 500),
            sessions_back_ms: pick(10, 900),
            shown_ms: pick(10, 900),
            caught_up_ms: pick(10, 900),
        });
        // About the beginning of one, about the end of another.
        let mut stood = Duration::ZERO;
        if number % 3 == 2 {
            let edge = if index.is_multiple_of(2) { at_ms } else { at_ms + for_ms };
            stood = ms(pick(20, 200));
            stalls.push((ms(edge - pick(0, 150)), stood));
        }
        still.push(stood);
        outages.push(ScriptedOutage {
            at_ms,
            for_ms,
            effect,
            reaction,
        });
        at_ms += for_ms + 2 * HOLD_MS + pick(1200, 1900);
    }
    let class = if of_items(number) { Class::Put } else { Class::Request };
    let rehearsal = Rehearsal {
        target: ScriptedSpec {
            service_us: 2000,
            outages,
        },
        load: LoadSpec {
            system: "main".to_owned(),
            class,
            users: USERS,
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
            probe: Some(ProbeSpec { per_s: PROBES_PER_S }),
            request: (class == Class::Request).then(RequestSpec::default),
            group: None,
            life: None,
        },
        seed: number,
        warm_up: Duration::from_secs(1),
        steady: STEADY,
        settle: ms(2 * HOLD_MS + 500),
        plan: serde_json::json!({
            "scenario": "calibration",
            "systems": [{"name": "main", "kind": {"scripted": {}}}],
            "settle": {"hold_ms": HOLD_MS},
            "observe_ms": u64::try_from(ASK_EVERY.as_millis()).unwrap(),
            "steady": {"require": [
                format!("{}.success >= 99.9%", class.name()),
                format!("{}.p99 < {SLOW_MS}ms", class.name()),
            ]},
        }),
        stalls,
    };
    (rehearsal, still)
}

fn calibrate(numbers: std::ops::Range<u64>) {
    let mut all = Calibration::default();
    for number in numbers {
        let (rehearsal, still) = rehearsal(number);
        let Rehearsed {
            recorded,
            script,
            served,
        } = rehearse(&rehearsal).expect("rehearsed");
        let seen = Seen::of(&recorded.events, served);
        let history = History::new(recorded.header, recorded.events);
        let rows = rows(&history);
        let windows = script.windows();
        assert_eq!(windows.len(), OUTAGES);
        for (index, outage) in rehearsal.target.outages.iter().enumerate() {
            let outage = Outage {
                rehearsal: number,
                id: format!("{}-scripted", index + 1),
                script: outage,
                window: windows[index],
                still: still[index],
            };
            let horizon = windows.get(index + 1).map_or(history.load_end(), |next| next.0);
            the_service(&mut all, &rows, &outage);
            the_clients(&mut all, &rows, &seen, &outage, (&script, horizon));
            the_system(&mut all, &rows, &seen, &outage);
        }
        the_run(&mut all, &rows, number);
    }
    for (name, used) in &all.used {
        println!(
            "{name}: {} readings, the worst used {:.0} % of its bound, the widest bound was {:.1}",
            used.readings,
            used.worst * 100.0,
            used.widest
        );
    }
    let wrong = all.wrong.join("\n");
    assert!(all.wrong.is_empty(), "{} readings are wrong:\n{wrong}", all.wrong.len());
    for name in FIGURES {
        assert!(all.used.contains_key(name), "{name} was never read");
    }
}

/// All that is calibrated; each part of the rehearsals reads each of these.
const FIGURES: &[&str] = &[
    "impact",
    "detect",
    "failover",
    "first_ok",
    "steady",
    "steady at another ratio",
    "first_ok_after_heal",
    "steady_after_heal",
    "drained",
    "sessions_back",
    "redundant",
    "worst_gap",
    "downtime",
    "lost_user_seconds",
    "goodput",
    "client_gap p50",
    "client_gap max",
];

fn row<'a>(rows: &'a [Row], outage: &Outage<'_>, class: &str) -> &'a Row {
    rows.iter()
        .find(|r| r.fault == outage.id && r.class == class && r.group == "all")
        .unwrap_or_else(|| panic!("no row of {class} for {outage}"))
}

fn class_of(outage: &Outage<'_>) -> &'static str {
    if of_items(outage.rehearsal) { "put" } else { "request" }
}

/// When it was out of its band and when it worked, by the script alone.
fn the_service(all: &mut Calibration, rows: &[Row], outage: &Outage<'_>) {
    let row = row(rows, outage, class_of(outage));
    let truth = millis(outage.window.1.since(outage.window.0));
    all.hold("steady", &row.steady_ms, truth, outage);
    all.hold("steady_after_heal", &row.steady_after_heal_ms, 0.0, outage);
    all.hold("downtime", &row.downtime_ms, truth, outage);
    for figure in row.steady_at_ms.values().filter(|figure| figure.value().is_some()) {
        all.hold("steady at another ratio", figure, truth, outage);
    }
    let (impact, gap, share) = match &outage.script.effect {
        ScriptedEffect::Dead {} => (0.0, Some(truth), 1.0),
        ScriptedEffect::Silent {} => (SLOW_MS, Some(truth), 1.0),
        ScriptedEffect::Slow { .. } => (SLOW_MS, None, 1.0),
        ScriptedEffect::Errors { share } => (0.0, None, *share),
        ScriptedEffect::Flapping { on_ms, .. } => {
            let on = millis(ms(*on_ms));
            (0.0, Some(on), 3.0 * on / truth)
        }
    };
    all.hold("impact", &row.impact_ms, impact, outage);
    if let Some(gap) = gap {
        all.hold("worst_gap", &row.worst_gap_ms, gap, outage);
        // A part that is dead, for a time or in bursts, works again when the first stretch ends.
        all.hold("first_ok", &row.first_ok_ms, gap, outage);
    }
    all.hold("first_ok_after_heal", &row.first_ok_after_heal_ms, 0.0, outage);
    let users = if of_items(outage.rehearsal) {
        1.0
    } else {
        f64::from(USERS)
    };
    all.hold(
        "lost_user_seconds",
        &row.lost_user_seconds,
        truth / 1e3 * share * users,
        outage,
    );
    all.demand(row.relapses.value() == Some(0.0), outage, || {
        format!("relapses: {:?}", row.relapses)
    });
    let bound = row.steady_ms.bound().unwrap_or_default();
    let allowed = 700.0 + 2.0 * millis(outage.still);
    all.demand(bound < allowed, outage, || format!("a blanket bound of {bound} ms"));
}

/// A run that was left in peace for longer than `hold` after each of its outages relapses with each but the first; bursts
/// closer together are one outage.
fn the_run(all: &mut Calibration, rows: &[Row], number: u64) {
    let class = if of_items(number) { "put" } else { "request" };
    let run = rows
        .iter()
        .find(|r| r.fault == "run" && r.class == class && r.group == "all");
    let relapses = run.and_then(|row| row.relapses.value());
    let truth = f64::from(u32::try_from(OUTAGES - 1).unwrap());
    if relapses != Some(truth) {
        all.wrong
            .push(format!("rehearsal {number}: {relapses:?} relapses, truth {truth}"));
    }
}

/// What the target itself counted, and what the load was.
struct Seen {
    served: Vec<Served>,
    /// Of each operation that is no probe's: its user, when it was meant and sent, and when it was over.
    sent: Vec<(u64, Nanos, Nanos, Nanos)>,
    /// When items were acknowledged.
    acknowledged: Vec<Nanos>,
    steady: Nanos,
}

impl Seen {
    fn of(events: &[Event], served: Vec<Served>) -> Self {
        let ops = || {
            events.iter().filter_map(|event| match event {
                Event::Op(op) => Some(op),
                _ => None,
            })
        };
        let steady = events.iter().find_map(|event| match event {
            Event::Phase(phase) if phase.phase == firedrill::history::Phase::Steady => Some(phase.at),
            _ => None,
        });
        Self {
            served,
            sent: ops()
                .filter(|op| !op.probe)
                .map(|op| (op.session, op.intended, op.sent, op.done))
                .collect(),
            acknowledged: ops().filter(|op| op.outcome == Outcome::Ok).map(|op| op.done).collect(),
            steady: steady.expect("there was a steady phase"),
        }
    }

    /// Operations that the target did a second, from one instant to another.
    fn rate(&self, from: Nanos, to: Nanos) -> f64 {
        let done = self
            .served
            .iter()
            .filter(|s| s.ok && s.answered >= from && s.answered < to);
        f64::from(u32::try_from(done.count()).unwrap()) / to.since(from).as_secs_f64()
    }
}

/// What clients had of it, beside what the target counted.
fn the_clients(
    all: &mut Calibration,
    rows: &[Row],
    seen: &Seen,
    outage: &Outage<'_>,
    (script, horizon): (&Script, Nanos),
) {
    let row = row(rows, outage, class_of(outage));
    let (from, to) = outage.window;
    if to.since(from) >= Duration::from_secs(1) {
        let truth = seen.rate(from, to) / seen.rate(seen.steady, seen.steady.plus(STEADY));
        all.hold("goodput", &row.goodput, truth, outage);
    }
    let during = |s: &&Served| s.came >= from && s.came < horizon;
    // Where it works for some, the first that it did after the first that it harmed.
    let harmed = |s: &&Served| during(s) && s.came < to && (!s.ok || millis(s.answered.since(s.came)) > SLOW_MS);
    if !matches!(
        outage.script.effect,
        ScriptedEffect::Dead {} | ScriptedEffect::Silent {} | ScriptedEffect::Flapping { .. }
    ) {
        let first = seen
            .served
            .iter()
            .filter(harmed)
            .map(|s| s.came)
            .min()
            .expect("some were harmed");
        let done = seen.served.iter().filter(during).filter(|s| s.ok && s.came >= first);
        let truth = done.map(|s| s.answered).min().expect("some were done");
        all.hold("first_ok", &row.first_ok_ms, millis(truth.since(from)), outage);
        if of_items(outage.rehearsal) {
            let truth = longest_gap(seen, from, horizon);
            all.hold("worst_gap", &row.worst_gap_ms, truth, outage);
        }
    }
    let mut longest: BTreeMap<u64, f64> = BTreeMap::new();
    for (user, intended, sent, done) in &seen.sent {
        if *done >= from && *intended < horizon {
            let wait = longest.entry(*user).or_default();
            *wait = wait.max(scripted_wait(script, *sent, millis(done.since(*sent))));
        }
    }
    let mut longest: Vec<f64> = longest.into_values().collect();
    longest.sort_by(f64::total_cmp);
    let gaps = row.client_gap_ms.as_ref().expect("clients did something");
    assert_eq!(gaps.clients, longest.len(), "{outage}");
    let figure = |value| Figure::Value {
        value,
        bound: gaps.bound_ms,
    };
    let median = longest[longest.len().div_ceil(2) - 1];
    all.hold("client_gap p50", &figure(gaps.p50_ms), median, outage);
    let most = longest.last().copied().unwrap_or_default();
    all.hold("client_gap max", &figure(gaps.max_ms), most, outage);
}

/// What an operation waits that comes to the target at `came`, by the script. With a share of errors it is the draw that
/// decides, which is what the client was told.
fn scripted_wait(script: &Script, came: Nanos, told: f64) -> f64 {
    match script.effect_at(came) {
        None => SERVICE_MS,
        Some(ScriptedEffect::Dead {} | ScriptedEffect::Flapping { .. }) => 0.0,
        Some(ScriptedEffect::Silent {}) => TIMEOUT_MS,
        Some(ScriptedEffect::Slow { factor }) => SERVICE_MS * factor,
        Some(ScriptedEffect::Errors { .. }) => told,
    }
}

/// The longest time in which the target did nothing that the probe asked for.
fn longest_gap(seen: &Seen, from: Nanos, to: Nanos) -> f64 {
    let probes = seen.served.iter().filter(|s| s.ok && s.log.starts_with("l:probe"));
    let done: BTreeSet<Nanos> = probes.map(|s| s.answered).collect();
    let before = done.range(..from).next_back().copied().unwrap_or(from);
    let mut edges = vec![before];
    edges.extend(done.range(from..to));
    edges.push(to);
    let gaps = edges.windows(2).map(|pair| millis(pair[1].since(pair[0])));
    gaps.fold(0.0, f64::max)
}

/// What became of roles, sessions and deliveries, by the script.
fn the_system(all: &mut Calibration, rows: &[Row], seen: &Seen, outage: &Outage<'_>) {
    let row_of_class = row(rows, outage, class_of(outage));
    let reaction = outage.script.reaction.expect("each has one");
    let truth = |after: u64| millis(ms(after));
    all.hold("detect", &row_of_class.detect_ms, truth(reaction.detected_ms), outage);
    all.hold("failover", &row_of_class.failover_ms, truth(reaction.led_ms), outage);
    let back = truth(reaction.sessions_back_ms);
    all.hold("sessions_back", &row_of_class.sessions_back_after_heal_ms, back, outage);
    let caught_up = truth(reaction.caught_up_ms);
    all.hold("redundant", &row_of_class.redundant_after_heal_ms, caught_up, outage);
    if of_items(outage.rehearsal) {
        let (from, to) = outage.window;
        let held = seen.acknowledged.iter().any(|at| *at >= from && *at <= to);
        // What was accepted before the heal is shown when the script lets it; nothing was, where nothing was accepted.
        let shown = if held { truth(reaction.shown_ms) } else { 0.0 };
        let row = row(rows, outage, "deliver");
        all.hold("drained", &row.drained_after_heal_ms, shown, outage);
    }
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
