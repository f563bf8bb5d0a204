//! `freeze`: the target's processes stand still and keep their connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, Target};

/// SIGSTOP; the heal is SIGCONT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Freeze(pub Target);

impl Verb for Freeze {
    const INFO: VerbInfo = VerbInfo {
        name: "freeze",
        group: Group::Process,
        summary: "SIGSTOP; the heal is SIGCONT",
        evidence: "every thread of the process is in state T; after the heal none is",
        example: "freeze: leader",
        needs: &[Capability::Freeze],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.0, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        scene.on_running(&self.0, Action::Freeze)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.0]
    }
}
