//! The scenario file: what stands under test, what clients do, what is done to it, and what is expected.
//!
//! ```text
//! bytes -> reader (bounded, strict) -> model (one type for each value) -> rules (what holds between values)
//! ```
//! Every error names file, line and column, the value, and what to do. What the machine and the build can do is none of
//! this module's business: that is asked when a scenario is planned.

mod error;
mod load;
mod model;
mod paths;
mod reader;
mod rules;
mod schema;
mod step;
mod system;
mod units;

pub use error::{Problem, ScenarioError};
pub use load::{
    ContactsEntry, GroupEntry, LoadEntry, PutEntry, RampEntry, RateStep, RequestEntry, RetryEntry, Schedule, SendEntry,
    SignUpEntry,
};
pub use model::{
    Claims, ExpectEntry, LimitsEntry, Promises, Provenance, ProvenanceEntry, Ratio, Ratios, Scenario, SettleEntry,
    SteadyEntry, VERSION,
};
pub use paths::{covers, numbers};
pub use reader::{BYTES_MAX, Loaded, fuzz_load, load, read};
pub use rules::Context;
pub use schema::{SCHEMA_ID, schema, schema_text};
pub use step::{Step, When, WhenEvent};
pub use system::{
    ClientKind, DiskKind, EffectEntry, FIELDS, FieldOfKind, Nodes, OutageEntry, PLANTS, Ready, StatusPageEntry,
    SystemEntry, SystemKind, VerificationEntry,
};
pub use units::{Name, RATE_MAX, Rate, Size};

/// Shards of a messaging system, unless said.
pub const SHARDS: u32 = 4;

#[cfg(test)]
mod tests;
