//! `upgrade`: nodes are restarted as another release, in steps with a health gate between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::migration::{By, Ends, Gate, Interrupt, OnRed, Rolls};
use super::scene::{Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::base::HumanDuration;
use crate::target::{Roster, Target};

/// A rolling upgrade: as `roll`, and each node is started as another release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upgrade {
    /// The release that they are to run, in the system's words: `1`, `2`, `2-bad`.
    pub to: String,
    /// Which nodes. All unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Target>,
    /// How many make a step: a share such as `25%`, or `zone`, one after the other.
    pub by: By,
    /// What has to hold after each step.
    pub gate: Gate,
    /// What happens when it does not, or a node does not come back: `stop` unless said.
    #[serde(default)]
    pub on_red: OnRed,
    /// Where it is hit in the middle: in a phase of some node, or with a share of the nodes done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupt: Option<Interrupt>,
    /// How it may end. With all nodes done unless said; one that is interrupted may end in any way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Ends>,
    /// How long it may take. 60s unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<HumanDuration>,
}

impl Upgrade {
    const fn rolls(&self) -> Rolls<'_> {
        Rolls {
            to: Some(self.to.as_str()),
            on: self.on.as_ref(),
            by: self.by,
            gate: &self.gate,
            on_red: self.on_red,
            interrupt: self.interrupt.as_ref(),
            ends: self.ends,
            within: self.within,
        }
    }
}

impl Verb for Upgrade {
    const INFO: VerbInfo = VerbInfo {
        name: "upgrade",
        group: Group::Deploy,
        summary: "nodes are restarted as another release, in steps with a health gate after each; a red gate stops it or takes it back",
        evidence: "each node itself says which release it runs, and has applied what the others had committed",
        example: "upgrade: { to: \"2\", by: 25%, gate: { health: { require: [\"send.success >= 99%\"], for: 2s, within: 10s } }, on_red: rollback }",
        needs: &[
            Capability::Processes,
            Capability::Observe,
            Capability::LeaderTransfer,
            Capability::Load,
            Capability::Releases,
        ],
        heals: false,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        self.rolls().check(roster)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        self.rolls().resolve(scene)
    }

    fn interrupt(&self) -> Option<&Interrupt> {
        self.interrupt.as_ref()
    }

    fn targets(&self) -> Vec<&Target> {
        self.on.iter().collect()
    }
}
