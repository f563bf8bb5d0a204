//! What became of the calls of each class.

use super::class::Class;

/// Of one class, since the node's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Passed on, to be done.
    pub(crate) served: u64,
    /// Refused because too much waited.
    pub(crate) shed: u64,
    /// Dropped because their callers had given up.
    pub(crate) expired: u64,
}

/// Of all classes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters([Count; Class::COUNT]);

impl Counters {
    pub(crate) const fn of(&mut self, class: Class) -> &mut Count {
        &mut self.0[class.index()]
    }

    pub(crate) const fn get(&self, class: Class) -> Count {
        self.0[class.index()]
    }
}
