//! `doze`: devices fall silent, and nobody tells the service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{Roster, Target};

/// Devices take nothing from their streams, acknowledge nothing and open no others, while their connections stand, as
/// phones that are frozen or out of reach. Healed, they go on where they were. What their owners do meanwhile at other
/// connections goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Doze {
    /// The share of the devices that do, drawn by the seed: above 0, at most 1, which it is unless said.
    #[serde(default = "Amount::all")]
    pub share: Amount,
}

impl Verb for Doze {
    const INFO: VerbInfo = VerbInfo {
        name: "doze",
        group: Group::Client,
        summary: "devices fall silent while their connections stand; the heal has them go on",
        evidence: "the devices themselves say that they are silent, and that they are not any more",
        example: "doze: { share: 0.3 }",
        needs: &[Capability::Sessions],
        heals: true,
    };

    fn check(&self, _: &Roster) -> Result<(), SpecError> {
        self.share.check_share()
    }

    fn resolve(&self, _: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        Ok(Resolved::of_clients(Action::Doze {
            share: self.share.get(),
        }))
    }

    fn targets(&self) -> Vec<&Target> {
        Vec::new()
    }
}
