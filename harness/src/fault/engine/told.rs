//! What the history is told of faults.

use std::sync::atomic::Ordering;

use super::Shared;
use super::lasting::Lasting;
use crate::base::Nanos;
use crate::fault::evidence::Evidence;
use crate::history::{Event, FaultChange, FaultEvent, HarnessEvent, HarnessKind};

impl Shared {
    /// Tells of a fault that hits nobody.
    pub(super) fn tell_of_none(&self, id: &str, kind: &str, asked: Nanos, change: FaultChange) {
        self.tell((id, kind), (&[], &[]), asked, change);
    }

    pub(super) fn tell_of(&self, fault: &Lasting, id: &str, change: FaultChange) {
        let aimed = Nanos(fault.aimed.load(Ordering::Relaxed));
        self.tell((id, fault.kind), (&fault.resolved.targets, &fault.needs), aimed, change);
    }

    fn tell(
        &self,
        (id, kind): (&str, &str),
        (targets, needs): (&[String], &[String]),
        resolved: Nanos,
        change: FaultChange,
    ) {
        self.recorder.record(Event::Fault(FaultEvent {
            at: self.clock.now(),
            id: id.to_owned(),
            kind: kind.to_owned(),
            system: self.nodes.system.name().to_owned(),
            targets: targets.to_vec(),
            needs: needs.to_vec(),
            resolved: Some(resolved),
            change,
        }));
    }

    /// A fault that hits some of those it names is not the fault that was planned: the run says so, and is no pass.
    pub(super) fn tell_left_out(&self, fault: &Lasting) {
        let left_out = &fault.resolved.left_out;
        if left_out.is_empty() {
            return;
        }
        self.recorder.record(Event::Harness(HarnessEvent {
            at: self.clock.now(),
            kind: HarnessKind::NotTriggered,
            text: format!(
                "fault {} hit {} and not {}, which did not run",
                fault.id,
                fault.resolved.targets.join(", "),
                left_out.join(", ")
            ),
        }));
    }

    pub(super) fn tell_installed(&self, fault: &Lasting, id: &str, seen: &Evidence) {
        let change = FaultChange::Installed {
            effective: seen.at,
            evidence: seen.text.clone(),
        };
        self.tell_of(fault, id, change);
    }

    pub(super) fn tell_healed(&self, fault: &Lasting, id: &str, seen: Evidence) {
        let change = FaultChange::Healed {
            healed: seen.at,
            evidence: seen.text,
        };
        self.tell_of(fault, id, change);
    }
}
