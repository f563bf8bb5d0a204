//! The seeded cluster: the whole service on one thread, in virtual time, with everything going wrong.
//!
//! One seed decides the cluster's size, the load, the delays and the schedule of partitions, crashes and power losses.
//! The nodes are the real ones ([`crate::node::run`]) over a simulated network, disk and wall clock; a crash drops a
//! node's only task, so that nothing of it outlives it.
//!
//! A schedule has two halves. First safety: faults at any time, under load, and nothing wrong may ever be seen. Then
//! liveness: faults stop, everything heals, and within a bound every send must be answered, every device have what it
//! is owed, and all replicas agree; faults that always heal would hide a livelock.
//!
//! Who judges what:
//! - [`ledger`]: consensus, from the messages that leaders send: one leader per term, one content per committed index.
//! - [`promises`]: votes and acknowledged entries, against the disk that a power loss left.
//! - [`records`]: what clients were told, kept as it happens, with the device streams checked on arrival.
//! - `groups`: who may hear, speak and read, from each group's own history; and what users' lists say in the end.
//! - [`judge`]: nothing acknowledged is lost, doubled, reordered or invented, from the records and a final read.
//! - `ownership`: who owns a shard, from the placement group's committed commands: nobody else answers.
//! - [`run`]: replicas with the same state at the same index, durable logs that agree, convergence in time.
//!
//! The same seed gives the same trace, byte for byte; comparing the traces of two processes is how that is proven.

mod client;
mod cluster;
mod groups;
pub mod judge;
pub mod ledger;
mod nemesis;
mod net;
mod ownership;
pub mod promises;
pub mod records;
mod run;
mod social;
mod trace;

pub use nemesis::{Act, Step, Victim, schedule};
pub use run::{Outcome, SimOptions, simulate};

/// Something that must never be seen was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The promise that was broken, as one word or two.
    pub promise: &'static str,
    /// What was seen, with its values.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

/// Most violations that are kept: the first ones tell the story.
pub(crate) const VIOLATIONS_MAX: usize = 50;

/// Keeps a violation, up to [`VIOLATIONS_MAX`].
pub(crate) fn report(violations: &mut Vec<Violation>, promise: &'static str, what: String) {
    if violations.len() < VIOLATIONS_MAX {
        violations.push(Violation { promise, what });
    }
}
