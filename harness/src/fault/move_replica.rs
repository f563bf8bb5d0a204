//! `move_replica`: one replica of a shard moves from one node to another, by the system's own means.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::system::Errand;
use crate::target::{self, Roster, ShardRef, Target};

/// Which shard's replica moves, and between whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoveReplica {
    /// The shard, from 0.
    pub shard: u32,
    /// Whom it leaves: the first of the target's nodes that holds the shard. Its leader unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Target>,
    /// Whom it comes to: the first of the target's nodes that does not hold the shard.
    pub to: Target,
}

impl MoveReplica {
    fn from(&self) -> Target {
        let leader = Target::LeaderOf(ShardRef { shard: self.shard });
        self.from.clone().unwrap_or(leader)
    }
}

impl Verb for MoveReplica {
    const INFO: VerbInfo = VerbInfo {
        name: "move_replica",
        group: Group::Migration,
        summary: "one replica of a shard moves to another node, as the placement group does it; nothing to heal",
        evidence: "the placement group took the move; it has ended once the map says that it is done",
        example: "move_replica: { shard: 0, to: all }",
        needs: &[Capability::Placement, Capability::Observe],
        heals: false,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        target::check(&self.from(), roster)?;
        Ok(target::check(&self.to, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let group = target::group_of(self.shard);
        // The roster says who held it at the start; the nodes themselves say who does now.
        let held_by = |node: &String| {
            let status = scene.seen.get(node);
            status.is_some_and(|status| status.groups.iter().any(|it| it.group == group))
        };
        let holders: Vec<String> = scene.all().into_iter().filter(held_by).collect();
        let (from, to) = (scene.nodes(&self.from())?, scene.nodes(&self.to)?);
        let leaves = from.iter().find(|node| holders.contains(node));
        let comes = to.iter().find(|node| !holders.contains(node));
        let (Some(leaves), Some(comes)) = (leaves, comes) else {
            return Err(SpecError::Nothing(format!(
                "{group} is held by {}: it can't move from one of {} to one of {}",
                holders.join(", "),
                from.join(", "),
                to.join(", ")
            )));
        };
        Ok(Resolved {
            targets: vec![leaves.clone(), comes.clone()],
            affected: Vec::new(),
            left_out: Vec::new(),
            needs: vec![group.clone()],
            action: Action::Errand(Errand::MoveReplica {
                group,
                from: leaves.clone(),
                to: comes.clone(),
            }),
        })
    }

    fn targets(&self) -> Vec<&Target> {
        self.from.iter().chain([&self.to]).collect()
    }
}
