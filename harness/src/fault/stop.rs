//! `stop`: the target's processes are asked to end, and may say goodbye.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, Target};

/// SIGTERM; the heal starts the node again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Stop(pub Target);

impl Verb for Stop {
    const INFO: VerbInfo = VerbInfo {
        name: "stop",
        group: Group::Process,
        summary: "SIGTERM; the heal starts the node again",
        evidence: "the process ended by itself",
        example: "stop: { node: n2 }",
        needs: &[Capability::Processes],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.0, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        scene.on_running(&self.0, Action::Stop)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.0]
    }
}
