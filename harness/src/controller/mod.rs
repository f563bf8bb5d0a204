//! The one sequencer: starts systems, load and faults in their order, heals, drains, reads back, has it judged.
//!
//! - `runs`: the registry, and what can be asked of it.
//! - `whole`: a run from its folder to its verdict; `drive`: the sequence; `steps`: the faults at their instants.
//! - `stage`: a system with everything around it; `observer`: what it says of itself; `steady`: when it counts as steady.
//! - `live`: a run as it is watched; `caught`: a panic as a value, so that healing follows it.

mod caught;
mod drive;
mod folder;
mod live;
mod observer;
mod reader;
mod runs;
mod stage;
mod steady;
mod steps;
mod whole;

pub use live::{Ended, Feed, LiveEvent, Tick, change_in_words};
pub use runs::{Controller, Injected, RunError, RunInfo, StartRequest};

#[cfg(test)]
mod tests;
