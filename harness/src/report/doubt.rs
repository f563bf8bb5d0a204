//! What makes a run inconclusive: trouble of the harness, never a verdict on the system. Green is not the default.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    base::{Nanos, millis},
    history::{FaultOutcome, HarnessKind, History, Phase},
    recovery::{Figure, SystemRecovery},
};

use super::judgement::Load;

/// A stretch outside the band that no fault explains and that is longer than this casts doubt on the run.
const UNEXPLAINED_MIN: Duration = Duration::from_millis(250);

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
        unexplained(history, system, recovered, &mut doubts);
        never_back(system, recovered, &mut doubts);
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
            HarnessKind::NotTriggered => doubts.push(event.text.clone()),
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
                .filter(|o| o.class.name() == load.class && o.intended >= from && o.intended < to)
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

/// Outages that began before any fault of the system had bitten.
fn unexplained(history: &History, system: &str, recovered: &SystemRecovery, doubts: &mut Vec<String>) {
    let bitten = history
        .faults_of(system)
        .filter(|f| f.outcome == FaultOutcome::Installed || f.bursts > 0);
    let first = bitten.filter_map(|f| f.effective).min().unwrap_or(Nanos(u64::MAX));
    for (class, outages) in &recovered.outages {
        for outage in outages
            .iter()
            .filter(|o| o.from.plus(Duration::from_nanos(o.from_bound)) < first)
        {
            // What was under way when the fault bit had been meant before: only the part before it is without a reason.
            let lasted = outage.end(history.load_end()).min(first).since(outage.from);
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

/// A run that ends outside the band has not shown that the system comes back.
fn never_back(system: &str, recovered: &SystemRecovery, doubts: &mut Vec<String>) {
    for row in recovered.rows.iter().filter(|r| r.is_summary()) {
        if row.steady_after_heal_ms == Figure::Never || row.steady_ms == Figure::Never {
            doubts.push(format!(
                "{} of {system} did not return to its band before the run ended",
                row.class
            ));
        }
    }
}
