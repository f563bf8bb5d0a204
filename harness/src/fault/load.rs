//! `load`: clients ask for more than they did, or for less.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{Roster, Target};

/// The most that a load can be multiplied by.
const X_MAX: f64 = 100.0;

/// Every load of the system, from one instant on, at a multiple of its rate. Probes go on as they are. The schedule stays
/// open: nobody waits for an answer. Several at one time multiply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// How many times the rate: above 0, at most 100.
    pub x: Amount,
}

impl Verb for Load {
    const INFO: VerbInfo = VerbInfo {
        name: "load",
        group: Group::Client,
        summary: "clients ask for a multiple of what they did; the heal has them ask for what they did before",
        evidence: "the generator keeps the new pace, and operations have been released at it",
        example: "load: { x: 3 }",
        needs: &[Capability::Load],
        heals: true,
    };

    fn check(&self, _: &Roster) -> Result<(), SpecError> {
        if self.x.get() > 0.0 && self.x.get() <= X_MAX {
            return Ok(());
        }
        Err(SpecError::Form(format!(
            "`x: {}` does not fit; write more than 0 and at most {X_MAX}",
            self.x
        )))
    }

    fn resolve(&self, _: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        Ok(Resolved::of_clients(Action::Load { factor: self.x.get() }))
    }

    fn targets(&self) -> Vec<&Target> {
        Vec::new()
    }
}
