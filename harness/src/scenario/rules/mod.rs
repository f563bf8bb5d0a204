//! What holds between the values of a scenario, beyond the shape of each.
//!
//! Every finding carries the path of the value that it is about, which the reader turns into line and column.

mod expected;
mod findings;
mod loads;
mod steps;
mod systems;
mod whole;

pub(super) use systems::NODES_MAX;
pub use whole::Context;
