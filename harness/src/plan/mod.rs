//! The plan: a scenario with everything resolved that can be before a run, and frozen.
//!
//! It holds plain numbers in stated units, goes into the header of the history and beside it as
//! `scenario.resolved.yaml`, and is all that a run reads. The same scenario, seed and backend give the same plan.
//! What this machine, backend or build can't do is refused here, by name.

mod error;
mod model;
mod planner;
mod table;

pub use error::PlanError;
pub use model::{
    ClaimsPlan, ExpectPlan, LimitsPlan, Plan, ProvenancePlan, RatioPlan, SCHEMA, SettlePlan, Start, SteadyPlan,
    StepPlan,
};
pub use planner::{capabilities_of, plan};
pub use table::table;

#[cfg(test)]
mod tests;
