//! Coverage: every fault that was planned bit, with evidence. A fault that did not bite and was survived proves nothing.

use super::{Promise, Tally};
use crate::history::{FaultOutcome, History, SystemView};

pub(super) struct Coverage;

impl Promise for Coverage {
    fn name(&self) -> &'static str {
        "coverage"
    }

    fn about(&self) -> &'static str {
        "every planned fault bit, and proved it"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no fault was planned");
        for fault in history.faults_of(&system.name) {
            tally.oblige(1);
            if fault.outcome != FaultOutcome::Installed {
                tally.unsure(|| format!("fault {} was {}: {}", fault.id, fault.outcome.as_str(), fault.evidence));
            }
        }
        // Steps that never began belong to no system that we could name: the first one answers for them.
        let first = history.systems.keys().next() == Some(&system.name);
        for step in history.facts.steps.iter().filter(|_| first) {
            if !history
                .faults
                .iter()
                .any(|f| f.id == *step || f.parent.as_deref() == Some(step))
            {
                tally.oblige(1);
                tally.unsure(|| format!("step {step} never began"));
            }
        }
    }
}
