//! How a load goes right now, for whoever is neither its owner nor its judge.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use super::{Progress, engine::lock, meter::Meter};
use crate::base::RunClock;

/// A way to feel how a workload goes. Cheap to clone, and good for as long as anybody keeps it.
#[derive(Clone)]
pub struct Pulse {
    meter: Arc<Mutex<Meter>>,
    clock: RunClock,
}

impl Pulse {
    pub(crate) const fn new(meter: Arc<Mutex<Meter>>, clock: RunClock) -> Self {
        Self { meter, clock }
    }

    /// The classes as they go now, and the generator's lag; nothing of what is owed.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let now = self.clock.now();
        let mut meter = lock(&self.meter);
        Progress {
            lag_p99_ms: meter.lag_p99_ms(),
            classes: meter.progress(now),
            ..Progress::default()
        }
    }
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pulse")
    }
}

#[cfg(test)]
impl Pulse {
    /// One that beats when it is told to.
    pub(crate) fn of_test(clock: RunClock) -> Self {
        Self::new(Arc::default(), clock)
    }

    /// An operation ends now, at once.
    pub(crate) fn beat(&self, class: crate::history::Class, outcome: crate::history::Outcome) {
        let now = self.clock.now();
        lock(&self.meter).ended(class, outcome, now, now);
    }
}
