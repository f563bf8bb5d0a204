//! `isolate`: the target's nodes reach nobody, and nobody reaches them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::{Endpoint, Plane};
use crate::target::{self, Roster, Target};

/// Who is cut off from everybody else (several targets from each other too).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Isolate {
    /// Who.
    pub target: Target,
    /// From whom: nodes (`back_end`), clients (`client`), or both (`all`).
    #[serde(default)]
    pub plane: Plane,
}

impl Verb for Isolate {
    const INFO: VerbInfo = VerbInfo {
        name: "isolate",
        group: Group::Network,
        summary: "the target's nodes reach nobody and nobody reaches them, on one plane or both",
        evidence: "a byte sent through each half that is cut does not arrive while one on a path left open does; after \
                   the heal it arrives",
        example: "isolate: { target: leader, plane: all }",
        needs: &[],
        heals: true,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        Ok(target::check(&self.target, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let alone = scene.nodes(&self.target)?;
        let is_alone = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Node(name) if alone.contains(name));
        let affected = alone.clone();
        scene.cut(self.plane, |from, to| is_alone(from) || is_alone(to), affected)
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.target]
    }

    fn plane(&self) -> Option<Plane> {
        Some(self.plane)
    }
}
