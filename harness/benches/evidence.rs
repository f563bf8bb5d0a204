//! How long after its planned instant a fault is seen to bite, on the process backend.
//!
//! A recovery figure counts from the evidence, so what stands between plan and evidence is not an error of the figure;
//! but it is how far two rehearsals of one plan differ.

mod common;
#[path = "common/messaging.rs"]
mod messaging;
#[path = "common/rig.rs"]
mod rig;

use std::{process::ExitCode, time::Duration};

use common::{About, Bench, Distribution, Result, Table};
use firedrill::{
    backend::Plane,
    base::Nanos,
    fault::{FaultSpec, Freeze, Isolate, Kill},
    history::{Event, FaultChange},
    target::{Target, group_of},
};
use rand::RngExt as _;
use rig::Rig;

const ABOUT: About = About {
    name: "evidence",
    measures: "from a fault's planned instant to the evidence that it bites",
};
/// Whom a fault hits is found out this long before its instant, as in a run.
const AHEAD: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

/// A fault on whom it is told.
type Fault = fn(Target) -> FaultSpec;

/// The faults that are measured, each on a node named at random.
const FAULTS: [(&str, Fault); 3] = [
    ("kill", |target| FaultSpec::Kill(Kill(target))),
    ("freeze", |target| FaultSpec::Freeze(Freeze(target))),
    ("cut", |target| {
        FaultSpec::Isolate(Isolate {
            target,
            plane: Plane::All,
        })
    }),
];

/// Delays behind the planned instant.
#[derive(Default)]
struct Delays {
    /// Until the fault was asked for.
    asked: Vec<Duration>,
    /// Until what it asks for was first true.
    bites: Vec<Duration>,
    /// Until the proof was complete.
    proven: Vec<Duration>,
}

async fn measure(bench: &Bench) -> Result<()> {
    let rig = Rig::start(bench, "messaging", messaging::messaging(bench.args.seed, 1, &[])?).await?;
    let rounds = bench.args.rounds(3, 100);
    let mut rng = bench.streams.stream("evidence");
    let mut delays = FAULTS.map(|_| Delays::default());
    for round in 0..rounds {
        for ((kind, fault), delays) in FAULTS.iter().zip(&mut delays) {
            if !bench.args.wants(kind) {
                continue;
            }
            rig.well(&group_of(0)).await?;
            let node = format!("n{}", rng.random_range(1..=messaging::NODES));
            // Not always at the same place within a millisecond of the timer.
            let at = rig
                .clock
                .now()
                .plus(AHEAD + Duration::from_micros(rng.random_range(0..10_000)));
            let id = format!("{round}-{kind}");
            let injected = rig.engine.inject_at(&id, &fault(Target::Node(node)), at).await?;
            let proven = rig.clock.now();
            let bites = injected
                .effective
                .ok_or_else(|| format!("{kind} is {}: {}", injected.outcome, injected.evidence))?;
            delays.asked.push(asked(&rig, &id)?.since(at));
            delays.bites.push(bites.since(at));
            delays.proven.push(proven.since(at));
            rig.engine.heal(&id).await?;
        }
    }
    rig.tear_down().await?;
    let mut table = Table::new(
        "From the planned instant of a fault, three messaging nodes without load",
        &[&["fault"][..], &Distribution::HEAD].concat(),
    );
    for ((kind, _), delays) in FAULTS.iter().zip(delays) {
        for (until, samples) in [
            ("asked for", delays.asked),
            ("bites", delays.bites),
            ("proven", delays.proven),
        ] {
            if bench.args.wants(kind) {
                table.row(format!("{kind}: {until}"), Distribution::of(samples).cells());
            }
        }
    }
    table.note(
        "`bites` is the instant that recovery figures count from. A cut is in force at that instant; its proof waits for \
         10 ms in which no byte comes through.",
    );
    bench.print(&table);
    Ok(())
}

/// When the fault `id` was asked for, by the history.
fn asked(rig: &Rig, id: &str) -> Result<Nanos> {
    let events = rig.recorder.recorded().events;
    let asked = events.iter().rev().find_map(|event| match event {
        Event::Fault(fault) if fault.id == id && fault.change == FaultChange::Requested => Some(fault.at),
        _ => None,
    });
    asked.ok_or_else(|| format!("fault {id} is not in the history").into())
}
