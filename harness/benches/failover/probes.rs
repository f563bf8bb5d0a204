//! What became of the probe's writes, as the history has it.

use std::time::Duration;

use firedrill::{
    base::Nanos,
    history::{Event, FaultChange, Outcome, Recorder},
};

/// Events read at a time.
const BATCH: usize = 4096;

/// One write of the probe that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    /// When it was meant to be sent for the first time.
    pub(crate) intended: Nanos,
    pub(crate) sent: Nanos,
    pub(crate) done: Nanos,
    /// It was acknowledged.
    pub(crate) ok: bool,
    /// By whom it was answered.
    pub(crate) by: Option<String>,
}

/// Follows the history from where it was last read.
pub(crate) struct Probes {
    recorder: Recorder,
    next: usize,
    seen: Vec<Probe>,
}

impl Probes {
    pub(crate) const fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            next: 0,
            seen: Vec::new(),
        }
    }

    /// Every write of the probe that ended so far and was not forgotten.
    pub(crate) fn all(&mut self) -> &[Probe] {
        loop {
            let events = self.recorder.slice(self.next, BATCH);
            self.next += events.len();
            for event in &events {
                if let Event::Op(op) = &**event
                    && op.probe
                    && op.last
                {
                    self.seen.push(Probe {
                        intended: op.intended,
                        sent: op.sent,
                        done: op.done,
                        ok: op.outcome == Outcome::Ok,
                        by: op.answered_by.clone(),
                    });
                }
            }
            if events.is_empty() {
                return &self.seen;
            }
        }
    }

    /// Forgets what ended before `at`.
    pub(crate) fn forget(&mut self, at: Nanos) {
        self.seen.retain(|probe| probe.done >= at);
    }

    /// Whether the last `stretch` before `now` had `count` writes at least, all of them acknowledged.
    pub(crate) fn well(&mut self, now: Nanos, stretch: Duration, count: u128) -> bool {
        let from = now.minus(stretch);
        let recent = || self.seen.iter().filter(|probe| probe.done >= from);
        recent().all(|probe| probe.ok) && recent().count() as u128 >= count
    }

    /// When the fault `id` was asked for.
    pub(crate) fn asked(&self, id: &str) -> Option<Nanos> {
        // Faults are few, and the last one stands near the end.
        let mut end = self.recorder.len();
        while end > 0 {
            let from = end.saturating_sub(BATCH);
            for event in self.recorder.slice(from, end - from).iter().rev() {
                if let Event::Fault(fault) = &**event
                    && fault.id == id
                    && fault.change == FaultChange::Requested
                {
                    return Some(fault.at);
                }
            }
            end = from;
        }
        None
    }
}

/// The neighbours among `instants`, which are in order, that are furthest apart.
pub(crate) fn longest_gap(instants: &[Nanos]) -> (Nanos, Nanos) {
    let gaps = instants.windows(2).map(|pair| (pair[0], pair[1]));
    gaps.max_by_key(|(from, to)| to.since(*from)).unwrap_or_default()
}
