//! `restart`: the target's processes are asked to end and are started again at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, Target};

/// SIGTERM and a start at once; nothing to heal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Restart(pub Target);

impl Verb for Restart {
    const INFO: VerbInfo = VerbInfo {
        name: "restart",
        group: Group::Process,
        summary: "SIGTERM and a start at once; nothing to heal",
        evidence: "the process ended by itself, and a new one was ready",
        example: "restart: any_follower",
        needs: &[Capability::Processes],
        heals: false,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.0, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        scene.on_running(&self.0, Action::Restart)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.0]
    }
}
