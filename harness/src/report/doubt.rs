//! What makes a run inconclusive: trouble of the harness, never a verdict on the system. Green is not the default.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    base::{Nanos, millis},
    history::{Class, FaultOutcome, HarnessKind, History, Phase, ProcessChange},
    recovery::{Figure, SystemRecovery},
};

use super::judgement::Load;

/// A stretch outside the band that no fault explains and that is longer than this casts doubt on the run.
const UNEXPLAINED_MIN: Duration = Duration::from_millis(250);
/// For so many times `hold` after a fault or an outage that it explains, what happens is put down to it.
const AFTERMATH_HOLDS: u32 = 5;

/// The reasons, in words.
pub(super) fn doubts(
    history: &History,
    recovery: &BTreeMap<String, SystemRecovery>,
    load: &Load,
    torn: Option<&str>,
) -> Vec<String> {
    let mut doubts: Vec<String> = Vec::new();
    doubts.extend(torn.map(|torn| format!("the history is cut off: {torn}")));
    generator(history, load, &mut doubts);
    harness(history, &mut doubts);
    traffic(history, &mut doubts);
    for (system, recovered) in recovery {
        frozen(history, system, &mut doubts);
        unexplained(history, system, recovered, &mut doubts);
        never_back(history, system, recovered, &mut doubts);
    }
    doubts
}

fn generator(history: &History, load: &Load, doubts: &mut Vec<String>) {
    let facts = &history.facts;
    if load.lag_p99_ms > facts.lag_p99_ms_max {
        doubts.push(format!(
            "the generator lagged: {:.1} ms at p99, the limit is {:.1} ms; use a quieter machine or less load",
            load.lag_p99_ms, facts.lag_p99_ms_max
        ));
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of operations are far below 2^52")]
    let shed = load.shed as f64 / load.offered.max(1) as f64;
    if shed > facts.shed_ratio_max {
        doubts.push(format!(
            "the generator shed {:.2} % of the operations, the limit is {:.2} %",
            shed * 100.0,
            facts.shed_ratio_max * 100.0
        ));
    }
}

fn harness(history: &History, doubts: &mut Vec<String>) {
    // While the system is being prepared or stopped nothing is measured.
    let measured = history.phases.start(Phase::Steady).unwrap_or_default()..history.tear_down();
    for event in &history.harness {
        let at = event.at.as_millis_f64() / 1e3;
        match event.kind {
            HarnessKind::Stalled if !measured.contains(&event.at) => {}
            HarnessKind::Stalled => doubts.push(format!("the harness itself stood still at {at:.3} s: {}", event.text)),
            HarnessKind::NotSteady => doubts.push(format!("the steady state was never reached: {}", event.text)),
            HarnessKind::NotTriggered | HarnessKind::NotDrained | HarnessKind::NotFenced => {
                doubts.push(event.text.clone())
            }
            _ => {}
        }
    }
    for fault in history
        .faults
        .iter()
        .filter(|f| f.bursts == 0 && f.outcome == FaultOutcome::Installed)
    {
        if fault.heal_requested.is_some() && fault.healed.is_none() && fault.heal_failed.is_none() {
            doubts.push(format!("fault {} was never proven healed", fault.id));
        }
    }
    if history.phases.start(Phase::Steady).is_none() && !history.noticed(HarnessKind::NotSteady) {
        doubts.push("the steady state was never reached: the run ended before".to_owned());
    }
}

/// Whether a load brings operations of `class` in numbers. Of what people do in groups most are messages.
fn brings(load: &str, class: &str) -> bool {
    load == class || (load == Class::Group.name() && class == Class::Send.name())
}

fn traffic(history: &History, doubts: &mut Vec<String>) {
    for load in &history.facts.loads {
        for phase in [Phase::Steady, Phase::Disturb] {
            let Some((from, to)) = history.phases.window(phase, history.ended) else {
                continue;
            };
            // Without a fault the disturbance is nothing but the settling that follows it.
            if from == to || (phase == Phase::Disturb && history.faults.is_empty()) {
                continue;
            }
            let systems = history
                .systems
                .values()
                .filter(|s| load.system.is_empty() || s.name == load.system);
            let offered = systems
                .flat_map(|s| &s.operations)
                .filter(|o| brings(&load.class, o.class.name()) && o.intended >= from && o.intended < to)
                .count() as u64;
            if offered < history.facts.phase_operations_min {
                doubts.push(format!(
                    "too little traffic: {offered} operations ({}) in the {} phase, at least {} are needed",
                    load.class,
                    if phase == Phase::Steady { "steady" } else { "disturbed" },
                    history.facts.phase_operations_min
                ));
            }
        }
    }
}

/// Nodes that somebody else froze. Clients of a replicated system may not feel one that follows, but what such a run
/// measures is not what it planned.
fn frozen(history: &History, system: &str, doubts: &mut Vec<String>) {
    let Some(view) = history.systems.get(system) else {
        return;
    };
    let measured = history.phases.start(Phase::Steady).unwrap_or_default()..history.tear_down();
    let stopped = view.processes.iter().find(|process| {
        matches!(process.change, ProcessChange::Stopped { asked_for: false }) && measured.contains(&process.at)
    });
    if let Some(process) = stopped {
        let later = view.processes.iter().find(|later| {
            later.pid == process.pid && later.at > process.at && matches!(later.change, ProcessChange::Continued)
        });
        let until = later.map_or_else(
            || "and did not go on".to_owned(),
            |later| format!("for {:.0} ms", millis(later.at.since(process.at))),
        );
        doubts.push(format!(
            "{} (pid {}) of {system} was frozen from outside at {:.3} s {until}: this run did not ask for that",
            process.node,
            process.pid,
            process.at.as_millis_f64() / 1e3
        ));
    }
}

/// Outages that no fault explains: one that began before any had bitten, or long after all of it was over. What a fault
/// sets off may come when it has been healed, in waves of its own: the crowd that returns, the retries that meet.
fn unexplained(history: &History, system: &str, recovered: &SystemRecovery, doubts: &mut Vec<String>) {
    let after = history.facts.hold * AFTERMATH_HOLDS;
    let mut faults: Vec<(Nanos, Nanos)> = history
        .faults_of(system)
        .filter(|f| f.bursts == 0 && f.outcome == FaultOutcome::Installed)
        .filter_map(|f| {
            Some((
                f.effective?,
                f.ended().map_or(Nanos(u64::MAX), |ended| ended.plus(after)),
            ))
        })
        .collect();
    faults.sort_unstable();
    for (class, outages) in &recovered.outages {
        let mut aftermath = Nanos(0);
        for outage in outages {
            let latest = outage.from.plus(Duration::from_nanos(outage.from_bound));
            let end = outage.end(history.load_end());
            let explained =
                outage.from <= aftermath || faults.iter().any(|(bit, over)| *bit <= latest && outage.from <= *over);
            if explained {
                aftermath = aftermath.max(end.plus(after));
                continue;
            }
            // What was under way when a fault bit had been meant before: only the part before it is without a reason.
            let next = faults.iter().map(|(bit, _)| *bit).find(|bit| *bit > outage.from);
            let lasted = end.min(next.unwrap_or(end)).since(outage.from);
            if lasted >= UNEXPLAINED_MIN {
                doubts.push(format!(
                    "{} left its band for {:.0} ms at {:.3} s, and no fault explains it",
                    class.name(),
                    millis(lasted),
                    outage.from.as_millis_f64() / 1e3
                ));
                break;
            }
        }
    }
}

/// A run that ends outside the band has not shown that the system comes back, and neither has one whose load was too
/// thin to tell.
fn never_back(history: &History, system: &str, recovered: &SystemRecovery, doubts: &mut Vec<String>) {
    let planned = |class: &str| {
        let mut loads = history
            .facts
            .loads
            .iter()
            .filter(|l| l.system.is_empty() || l.system == system);
        loads.any(|l| match l.class.as_str() {
            // Of what people do in groups most are messages, and the rest are too few to tell.
            "send" | "group" => class == Class::Send.name() || class == Class::Deliver.name(),
            own => own == class,
        })
    };
    let hit = history.faults_of(system).next().is_some();
    for row in recovered.rows.iter().filter(|r| r.is_summary()) {
        if hit && planned(row.class) && row.steady_ms == Figure::Unresolved {
            doubts.push(format!(
                "too few operations ({}) on {system} to tell whether it came back: raise the rate, or `settle.hold`",
                row.class
            ));
        }
        if row.steady_after_heal_ms == Figure::Never || row.steady_ms == Figure::Never {
            doubts.push(format!(
                "{} of {system} did not return to its band before the run ended",
                row.class
            ));
        }
    }
}
