//! The plan's own shape. Times are in milliseconds, in fields that say so; those of steps count from the steady state.

use serde::{Deserialize, Serialize};

use crate::base::{Expr, Streams};
use crate::fault::FaultSpec;
use crate::scenario::{Promises, Provenance, WhenEvent};
use crate::system::SystemSpec;
use crate::workload::LoadSpec;

/// The version of the plan's shape that this build writes and reads.
pub const SCHEMA: &str = "firedrill.plan/v1";

/// A frozen plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: String,
    /// The scenario's name.
    pub scenario: String,
    /// The scenario's file, as it was given; empty when it came from elsewhere.
    pub path: String,
    /// What the scenario shows.
    pub about: String,
    /// The seed of everything random.
    pub seed: u64,
    /// The backend's name.
    pub backend: String,
    /// The systems under test; at least one.
    pub systems: Vec<SystemSpec>,
    /// What clients do; at least one.
    pub loads: Vec<LoadSpec>,
    /// What counts as steady.
    pub steady: SteadyPlan,
    /// What is done.
    pub steps: Vec<StepPlan>,
    /// What counts as recovered.
    pub settle: SettlePlan,
    /// How long what is owed is awaited after the load has ended.
    pub drain_within_ms: u64,
    /// What is expected.
    pub expect: ExpectPlan,
    /// Beyond which of the harness's own troubles the run proves nothing.
    pub limits: LimitsPlan,
    /// How many times the scenario is run, with seeds counting up; each run has a plan of its own.
    pub repeat: u32,
    /// What the scenario claims to rehearse, and what it leaves out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ClaimsPlan>,
    /// The ratios of the real event, kept or waived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ratios: Vec<RatioPlan>,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provenance: Vec<ProvenancePlan>,
}

/// What counts as steady.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SteadyPlan {
    /// For how long the conditions have to hold without a break.
    pub for_ms: u64,
    /// How long that is awaited.
    pub within_ms: u64,
    /// The conditions; at least one.
    pub require: Vec<Expr>,
}

/// One thing done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepPlan {
    /// The fault's id: the step's number from 1 and its verb, such as `2-kill`.
    pub id: String,
    /// When.
    pub at: Start,
    /// What, asked of the system at the instant.
    pub fault: FaultSpec,
    /// How long it lasts; until the end of the steps when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heal_after_ms: Option<u64>,
    /// The system's name.
    pub system: String,
}

/// When a step begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Start {
    /// At a time, counted from the steady state on.
    At {
        /// The time.
        ms: u64,
    },
    /// When something happens after the step before.
    When {
        /// What.
        event: WhenEvent,
        /// How long it is waited for.
        within_ms: u64,
    },
}

/// What counts as recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettlePlan {
    /// How long the band has to hold without a break.
    pub hold_ms: u64,
    /// How long that is awaited after the last heal.
    pub within_ms: u64,
}

/// What is expected of the system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectPlan {
    /// Budgets on recovery figures.
    pub recovery: Vec<Expr>,
    /// Budgets on service levels over the whole run.
    pub slo: Vec<Expr>,
    /// The promises that are judged: `all`, or their names.
    pub promises: Promises,
    /// For a scenario that has to fail: the exit code it has to end with. The judging does not look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// For a scenario that has to fail: promises of which at least one has to be found broken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breaks: Vec<String>,
}

/// Beyond which of the harness's own troubles the run proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsPlan {
    /// The 99th percentile of how late the generator may send.
    pub lag_p99_ms: u64,
    /// The share of operations that the generator may shed, 0 to 1.
    pub shed_ratio: f64,
    /// How many operations of a load a phase needs at least.
    pub phase_operations: u32,
}

/// What the scenario claims to rehearse, and what it leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsPlan {
    /// What it rehearses.
    pub now: Vec<String>,
    /// What of the real event it does not rehearse yet.
    pub later: Vec<String>,
}

/// One ratio of the real event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RatioPlan {
    /// Which.
    pub ratio: String,
    /// Whether it is kept; waived otherwise.
    pub kept: bool,
    /// Its value here; empty when it has none.
    pub value: String,
    /// How it follows, or why it is waived.
    pub why: String,
}

/// Where one number comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenancePlan {
    /// The path of the value in the scenario file.
    pub of: String,
    /// How well it is known.
    pub is: Provenance,
    /// The row of the fact sheet; empty when it rests on none.
    pub row: String,
    /// How it follows.
    pub note: String,
}

impl Plan {
    /// The run's random streams.
    #[must_use]
    pub const fn streams(&self) -> Streams {
        Streams::new(self.seed)
    }

    /// When the last step has ended, counted from the steady state, at the latest.
    #[must_use]
    pub fn steps_end_ms(&self) -> u64 {
        let mut now = 0_u64;
        let mut end = 0_u64;
        for step in &self.steps {
            now = match step.at {
                Start::At { ms } => now.max(ms),
                Start::When { within_ms, .. } => now.saturating_add(within_ms),
            };
            end = end.max(now.saturating_add(step.lasts_ms()));
        }
        end
    }

    /// As YAML, for people and for running it again.
    ///
    /// # Errors
    /// When a value can't be written, with the reason.
    pub fn to_yaml(&self) -> Result<String, String> {
        serde_saphyr::to_string(self).map_err(|error| format!("the plan can't be written as YAML: {error}"))
    }
}

impl StepPlan {
    /// How long the fault lasts as far as that is planned: its `heal_after`, or its own bursts; else 0.
    #[must_use]
    pub fn lasts_ms(&self) -> u64 {
        let own = match &self.fault {
            FaultSpec::Flap(flap) => flap.lasts_ms(),
            _ => 0,
        };
        self.heal_after_ms.unwrap_or(own)
    }
}
