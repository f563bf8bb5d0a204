//! Operations, as faults that begin, take their time, and end by themselves.

use std::sync::{Arc, OnceLock};

use super::life::Lasting;
use super::{Engine, LEASE, Shared};
use crate::fault::evidence::Evidence;
use crate::fault::migration::{Course, Journey, Site};
use crate::history::FaultChange;

impl Shared {
    /// Begins an operation and sees to it until it ends: when it began, or why that is not known.
    pub(super) async fn operate(self: &Arc<Self>, fault: &Lasting, course: &Course) -> Result<Evidence, String> {
        self.tell_of(fault, &fault.id, FaultChange::Requested);
        let site = Site {
            engine: Engine {
                shared: Arc::clone(self),
                lease: LEASE,
            },
            nodes: self.nodes.clone(),
            recorder: self.recorder.clone(),
            journal: self.journal.clone(),
            clock: self.clock,
            pulse: self.pulse.get().cloned(),
        };
        let journey = Journey {
            site: &site,
            id: &fault.id,
            kind: fault.kind,
            course,
        };
        let began = OnceLock::new();
        let tell = |seen: &Evidence| {
            self.tell_installed(fault, &fault.id, seen);
            let _first = began.set(seen.clone());
        };
        let ended = journey.go(fault.cancel.subscribe(), &tell).await;
        match (ended.and_then(|ended| ended.evidence()), began.into_inner()) {
            (Ok(ended), Some(began)) => {
                self.tell_healed(fault, &fault.id, ended);
                Ok(began)
            }
            (Ok(ended), None) => Err(format!("it was never seen to begin: {}", ended.text)),
            (Err(reason), _) => {
                self.tell_of(fault, &fault.id, FaultChange::Indeterminate { reason: reason.clone() });
                Err(reason)
            }
        }
    }
}
