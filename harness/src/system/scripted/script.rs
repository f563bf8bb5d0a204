//! A script on a run's clock: what is wrong at which instant, and the telling of it.

use std::time::Duration;

use super::reaction::Reacting;
use crate::{
    base::{Nanos, RunClock},
    history::{Event, FaultChange, FaultEvent, Recorder},
    system::{ScriptedEffect, ScriptedOutage, ScriptedSpec, SystemError},
};

/// Bursts of one flapping outage at most.
const BURSTS_MAX: u64 = 10_000;

/// The outages of a target, from the instant at which its load began.
#[derive(Clone, Debug)]
pub struct Script {
    begin: Nanos,
    outages: Vec<ScriptedOutage>,
}

pub(super) fn check(spec: &ScriptedSpec) -> Result<(), SystemError> {
    let mut free_from = 0;
    for (number, outage) in (1..).zip(&spec.outages) {
        let problem = match &outage.effect {
            _ if outage.for_ms == 0 => "lasts no time".to_owned(),
            _ if outage.at_ms < free_from => format!("begins at {} ms, before the one before has ended", outage.at_ms),
            ScriptedEffect::Errors { share } if !(0.0..=1.0).contains(share) => {
                format!("has a share of {share}: give one from 0 to 1")
            }
            ScriptedEffect::Slow { factor } if !(*factor >= 1.0 && *factor <= 1e6) => {
                format!("has a factor of {factor}: give one from 1 to 1000000")
            }
            ScriptedEffect::Flapping { on_ms, off_ms }
                if *on_ms == 0 || *off_ms == 0 || outage.for_ms / (on_ms + off_ms) > BURSTS_MAX =>
            {
                format!("flaps {on_ms} ms on and {off_ms} ms off: give lengths above 0 and at most {BURSTS_MAX} bursts")
            }
            _ => {
                free_from = outage.at_ms.saturating_add(outage.for_ms);
                continue;
            }
        };
        return Err(SystemError(format!("scripted outage {number} {problem}")));
    }
    Ok(())
}

impl Script {
    pub(super) fn new(spec: &ScriptedSpec, begin: Nanos) -> Self {
        Self {
            begin,
            outages: spec.outages.clone(),
        }
    }

    /// What is wrong at `now`: nothing, or one effect; of a flapping one, only while it is on.
    #[must_use]
    pub fn effect_at(&self, now: Nanos) -> Option<&ScriptedEffect> {
        let outage = self.outages.iter().find(|outage| {
            let (from, to) = self.window(outage);
            now >= from && now < to
        })?;
        if let ScriptedEffect::Flapping { on_ms, off_ms } = outage.effect {
            let since = now.since(self.window(outage).0);
            let period = Duration::from_millis(on_ms + off_ms).as_nanos();
            if since.as_nanos() % period >= Duration::from_millis(on_ms).as_nanos() {
                return None;
            }
        }
        Some(&outage.effect)
    }

    /// From when to when each outage lasts: the truth that readings are compared with.
    #[must_use]
    pub fn windows(&self) -> Vec<(Nanos, Nanos)> {
        self.outages.iter().map(|outage| self.window(outage)).collect()
    }

    /// The same, with each burst of a flapping outage on its own.
    #[must_use]
    pub fn bursts(&self) -> Vec<(Nanos, Nanos)> {
        let outages = self.outages.iter();
        outages.flat_map(|outage| bursts(outage, self.window(outage))).collect()
    }

    /// The outages that do something to roles, sessions and deliveries.
    pub(super) fn reactions(&self) -> Vec<Reacting> {
        let reacting = self.outages.iter().filter_map(|outage| {
            let (from, to) = self.window(outage);
            outage.reaction.map(|reaction| Reacting { from, to, reaction })
        });
        reacting.collect()
    }

    fn window(&self, outage: &ScriptedOutage) -> (Nanos, Nanos) {
        let from = self.begin.plus(Duration::from_millis(outage.at_ms));
        (from, from.plus(Duration::from_millis(outage.for_ms)))
    }
}

fn bursts(outage: &ScriptedOutage, (from, to): (Nanos, Nanos)) -> Vec<(Nanos, Nanos)> {
    let ScriptedEffect::Flapping { on_ms, off_ms } = outage.effect else {
        return vec![(from, to)];
    };
    let mut bursts = Vec::new();
    let mut at = from;
    while at < to {
        bursts.push((at, at.plus(Duration::from_millis(on_ms)).min(to)));
        at = at.plus(Duration::from_millis(on_ms + off_ms));
    }
    bursts
}

/// Tells the history of outages as they begin and end.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) system: String,
    pub(super) recorder: Recorder,
    pub(super) clock: RunClock,
}

impl Teller {
    pub(super) async fn tell(self, script: Script) {
        for (number, outage) in (1u32..).zip(&script.outages) {
            let (from, to) = script.window(outage);
            let flaps = matches!(outage.effect, ScriptedEffect::Flapping { .. });
            for (burst, (on, off)) in (1u32..).zip(bursts(outage, (from, to))) {
                let id = if flaps {
                    format!("{number}-scripted.{burst}")
                } else {
                    format!("{number}-scripted")
                };
                self.clock.sleep_until(on).await;
                self.record(&id, on, FaultChange::Requested);
                let evidence = format!("scripted: {:?}", outage.effect);
                self.record(
                    &id,
                    on,
                    FaultChange::Installed {
                        effective: on,
                        evidence,
                    },
                );
                self.clock.sleep_until(off).await;
                self.record(&id, off, FaultChange::HealRequested);
                let evidence = "scripted".to_owned();
                self.record(&id, off, FaultChange::Healed { healed: off, evidence });
            }
        }
    }

    fn record(&self, id: &str, at: Nanos, change: FaultChange) {
        self.recorder.record(Event::Fault(FaultEvent {
            at,
            id: id.to_owned(),
            kind: "scripted".to_owned(),
            system: self.system.clone(),
            targets: vec![super::PART.to_owned()],
            needs: vec![super::PART.to_owned()],
            resolved: None,
            change,
        }));
    }
}
