//! `transfer_leader`: a shard's leader hands over, in good order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scene::{Action, Resolved, Scene};
use super::spec::{Group, SpecError, Verb, VerbInfo};
use crate::backend::Capability;
use crate::target::{self, Roster, ShardRef, Target};

/// Which shard's leader hands over to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferLeader {
    /// The shard, from 0.
    pub shard: u32,
    /// To whom; the first of the target's nodes that holds the shard and does not lead it.
    pub to: Target,
}

impl Verb for TransferLeader {
    const INFO: VerbInfo = VerbInfo {
        name: "transfer_leader",
        group: Group::Consensus,
        summary: "a shard's leader hands over in good order; nothing to heal",
        evidence: "the new leader itself says that it leads, in a higher term",
        example: "transfer_leader: { shard: 0, to: any_follower }",
        needs: &[Capability::LeaderTransfer, Capability::Observe],
        heals: false,
    };

    fn check(&self, roster: &Roster) -> Result<(), SpecError> {
        target::check(&Target::LeaderOf(ShardRef { shard: self.shard }), roster)?;
        Ok(target::check(&self.to, roster)?)
    }

    fn resolve(&self, scene: &mut Scene<'_>) -> Result<Resolved, SpecError> {
        let group = target::group_of(self.shard);
        let leader = scene.nodes(&Target::LeaderOf(ShardRef { shard: self.shard }))?;
        let holders = scene.holders(&group);
        let wanted = scene.nodes(&self.to)?;
        let to = wanted
            .iter()
            .find(|node| holders.contains(*node) && !leader.contains(node));
        let Some(to) = to else {
            return Err(SpecError::Nothing(format!(
                "none of {} holds {group} and follows {}",
                wanted.join(", "),
                leader.join(", ")
            )));
        };
        Ok(Resolved {
            left_out: Vec::new(),
            targets: leader.iter().chain([to]).cloned().collect(),
            affected: Vec::new(),
            needs: vec![group.clone()],
            action: Action::Transfer { group, to: to.clone() },
        })
    }

    fn targets(&self) -> Vec<&Target> {
        vec![&self.to]
    }
}
