//! Stuck: everything is healed, and there is still no progress when its time is up. (Liveness after stabilisation:
//! Dwork, Lynch and Stockmeyer, Consensus in the Presence of Partial Synchrony, 1988.)

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Class, DeviceEvent, Fate, HarnessKind, History, Outcome, Phase, SessionChange, SystemView},
};

/// So many operations of a part without one success are no accident.
const ATTEMPTS_MIN: u64 = 10;

pub(super) struct Stuck;

impl Promise for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }

    fn about(&self) -> &'static str {
        "when everything is healed, every part makes progress again before its deadline"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        // Progress is owed by a service that once was steady, for as long as it is asked for some. Without either, what
        // failed says nothing about coming back.
        let starts = |phase| history.phases.start(phase);
        let (Some(disturbed), Some(load_end)) = (starts(Phase::Disturb), starts(Phase::Drain)) else {
            tally.needs("the run ended before its load had run to its end, or before it was ever steady");
            return;
        };
        tally.needs("nothing was asked of the service after the last heal");
        let Some(healed) = last_heal(history, system, disturbed) else {
            return;
        };
        let mut parts: BTreeMap<(Class, &str), (u64, bool)> = BTreeMap::new();
        for operation in &system.operations {
            if operation.intended >= healed && operation.intended < load_end {
                let part = parts.entry((operation.class, &operation.needs)).or_default();
                part.0 += 1;
                part.1 |= operation.outcome == Outcome::Ok;
            }
        }
        for ((class, needs), (asked, any)) in parts {
            if any {
                tally.oblige(1);
            } else if asked >= ATTEMPTS_MIN {
                tally.oblige(1);
                tally.broken(healed, || {
                    let part = if needs.is_empty() { "the service" } else { needs };
                    format!("none of {asked} operations ({}) on {part} succeeded from the last heal at {} to the end of the load at {}", class.name(), words::at(healed), words::at(load_end))
                });
            }
        }
        drained(history, system, healed, tally);
    }
}

/// The end of the last fault that bit; when the first could have begun if there was none. None while one has not ended.
fn last_heal(history: &History, system: &SystemView, disturbed: Nanos) -> Option<Nanos> {
    let ends: Option<Vec<Nanos>> = history
        .faults_of(&system.name)
        .filter(|f| f.effective.is_some())
        .map(crate::history::FaultWindow::ended)
        .collect();
    Some(ends?.into_iter().max().unwrap_or(disturbed))
}

fn drained(history: &History, system: &SystemView, healed: Nanos, tally: &mut Tally) {
    let late = history.harness.iter().find(|e| e.kind == HarnessKind::NotDrained);
    let owed = system
        .deliveries
        .iter()
        .filter(|d| d.fate == Fate::Must && d.shown.is_none());
    let Some(late) = late else { return };
    tally.oblige(1);
    let missing = owed.count();
    if missing > 0 {
        tally.broken(late.at, || {
            format!(
                "{missing} deliveries were still owed at {}, when the drain's time was up; the last heal was at {}",
                words::at(late.at),
                words::at(healed)
            )
        });
        return;
    }
    let behind = not_current(system, late.at);
    // Where there are several systems, it may have been another whose drain did not end.
    if behind > 0 || history.systems.len() == 1 {
        tally.unsure(|| {
            format!(
                "the drain's time was up at {} with nothing known to be owed: {behind} devices had not been told that they are up to date",
                words::at(late.at)
            )
        });
    }
}

/// Devices that at `at` had no stream, or one on which nobody had told them that what they were shown is all.
fn not_current(system: &SystemView, at: Nanos) -> usize {
    let settled = |timeline: &[(Nanos, DeviceEvent)]| {
        let (mut shown, mut told) = (0, None);
        for (_, event) in timeline.iter().take_while(|(when, _)| *when <= at) {
            match event {
                DeviceEvent::Shown(_) | DeviceEvent::Noticed(_) => {
                    shown = system.entry(*event).map_or(0, |entry| entry.sequence).max(shown);
                }
                DeviceEvent::Session(index) => {
                    told = match system.sessions[*index].change {
                        SessionChange::Current { sequence, .. } => Some(sequence),
                        _ => None,
                    }
                }
            }
        }
        told.is_some_and(|told| told >= shown)
    };
    system
        .devices
        .values()
        .filter(|known| !settled(&known.timeline))
        .count()
}
