//! `roll`: every node is restarted, one after the other, in steps with a health gate between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::migration::{By, Ends, Gate, Interrupt, OnRed, Rolls};
use super::scene::{Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::base::HumanDuration;
use crate::target::{Roster, Target};

/// A rolling restart. Each node is asked to end, hands over what it leads, starts again, catches up, and leads again what it led.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Roll {
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

impl Roll {
    const fn rolls(&self) -> Rolls<'_> {
        Rolls {
            to: None,
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

impl Verb for Roll {
    const INFO: VerbInfo = VerbInfo {
        name: "roll",
        group: Group::Migration,
        summary: "a rolling restart in steps, one node at a time, with a health gate after each step; nothing to heal",
        evidence: "each process ended by itself and a new one was ready, which then said that it had applied what the others had committed",
        example: "roll: { by: 34%, gate: { health: { require: [\"send.success >= 99%\"], for: 2s, within: 10s } } }",
        needs: &[
            Capability::Processes,
            Capability::Observe,
            Capability::LeaderTransfer,
            Capability::Load,
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
