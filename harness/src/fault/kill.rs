//! `kill`: the target's processes end at once, without a word.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, Target};

/// SIGKILL; the heal starts the node again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Kill(pub Target);

impl Verb for Kill {
    const INFO: VerbInfo = VerbInfo {
        name: "kill",
        group: Group::Process,
        summary: "SIGKILL; the heal starts the node again",
        evidence: "the process is gone from the process table and its ports refuse",
        example: "kill: leader",
        needs: &[Capability::Processes],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.0, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        scene.on_running(&self.0, Action::Kill)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.0]
    }
}
