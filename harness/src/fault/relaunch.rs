//! `relaunch`: devices start anew, all at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{Roster, Target};

/// Devices drop their streams and their sessions and log in again, as when everybody opens the app at the same moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Relaunch {
    /// The share of the devices that do, drawn by the seed: above 0, at most 1, which it is unless said.
    #[serde(default = "Amount::all")]
    pub share: Amount,
}

impl Verb for Relaunch {
    const INFO: VerbInfo = VerbInfo {
        name: "relaunch",
        group: Group::Client,
        summary: "devices drop their sessions and log in again, all at once; nothing to heal",
        evidence: "the devices themselves say that they have dropped their sessions",
        example: "relaunch: { share: 0.5 }",
        needs: &[Capability::Sessions],
        heals: false,
    };

    fn check(&self, _: &Roster) -> Result<(), SpecError> {
        self.share.check_share()
    }

    fn resolve(&self, _: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        Ok(Resolved::of_clients(Action::Relaunch {
            share: self.share.get(),
        }))
    }

    fn targets(&self) -> Vec<&Target> {
        Vec::new()
    }
}
