//! `power_loss`: the target's nodes lose their power at one instant.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, Target};

/// All targets end at one instant and forget what they had not synced; the heal starts them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PowerLoss(pub Target);

impl Verb for PowerLoss {
    const INFO: VerbInfo = VerbInfo {
        name: "power_loss",
        group: Group::Power,
        summary: "all targets end at one instant and forget what they had not synced; the heal starts them again",
        evidence: "every process is gone, and with it the write cache that lived in it, or its disk, which says what it has lost",
        example: "power_loss: all",
        needs: &[Capability::Processes, Capability::VolatileDisk],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.0, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        scene.on_running(&self.0, Action::PowerLoss)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.0]
    }
}
