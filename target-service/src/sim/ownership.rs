//! Who owns what, by the placement group's own log: its committed commands, applied to a state machine of the judge's.
//!
//! A linearizable answer is only ever given by a node that holds the shard. A node that held it neither when the call began
//! nor when it was answered, and did not in between, served what is not its own: an old owner beside the new one.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{PlacementCommand, PlacementMap};
use prost::Message as _;

use super::{Violation, report};
use crate::placement::{self, Machine};

/// The map as committed, and how often each node came to hold a shard.
#[derive(Debug)]
pub(crate) struct Ownership {
    machine: Machine,
    nodes: u64,
    stints: BTreeMap<(u32, u64), u64>,
    violations: Vec<Violation>,
}

/// What a node was to a shard when a call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stint {
    holds: bool,
    number: u64,
}

impl Ownership {
    /// Begins with the map of the configuration, of a cluster of so many nodes.
    pub(crate) const fn new(founding: PlacementMap, nodes: u64) -> Self {
        Self {
            machine: Machine::new(founding),
            nodes,
            stints: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// The map.
    pub(crate) const fn map(&self) -> &PlacementMap {
        self.machine.map()
    }

    /// A node applied an entry of the placement group; the first to apply it tells the map. Gives the shards and nodes for
    /// which that began or ended something.
    pub(crate) fn applied(&mut self, index: u64, term: u64, data: &[u8]) -> Vec<(u32, u64)> {
        if index != self.machine.applied().0 + 1 {
            return Vec::new();
        }
        let before = self.machine.map().clone();
        let command = PlacementCommand::decode(data).ok().filter(|_| !data.is_empty());
        self.machine.apply(index, term, command);
        let shards = 0..u32::try_from(before.shards.len()).unwrap_or(0);
        let all = shards.flat_map(|shard| (1..=self.nodes).map(move |node| (shard, node)));
        let changed = all.filter(|(shard, node)| {
            placement::holds(&before, *shard, *node) != placement::holds(self.machine.map(), *shard, *node)
        });
        let changed: Vec<_> = changed.collect();
        for key in &changed {
            *self.stints.entry(*key).or_default() += 1;
        }
        changed
    }

    /// What `node` is to `shard` now.
    pub(crate) fn stint(&self, shard: u32, node: u64) -> Stint {
        Stint {
            holds: placement::holds(self.machine.map(), shard, node),
            number: self.stints.get(&(shard, node)).copied().unwrap_or(0),
        }
    }

    /// `node` answered a linearizable call, which began at `began`.
    pub(crate) fn answered(&mut self, shard: u32, node: u64, began: Stint, what: &str) {
        if !began.holds && self.stint(shard, node) == began {
            let members = &self.machine.map().shards[shard as usize].members;
            let what = format!("node {node} answered {what} of shard {shard}, which {members:?} hold");
            report(&mut self.violations, "one owner", what);
        }
    }

    /// Everything wrong that was seen.
    pub(crate) fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{AdvanceOperation, BeginMove, OperationPhase, placement_command::Command};

    use super::*;

    fn entry(command: Command) -> Vec<u8> {
        PlacementCommand {
            proposer: 1,
            ticket: 1,
            command: Some(command),
        }
        .encode_to_vec()
    }

    #[test]
    fn an_answer_of_a_node_that_left_is_seen_and_no_other() {
        let mut owners = Ownership::new(placement::founded(1, [vec![1, 2, 3]]), 4);
        let outsider = owners.stint(0, 4);
        let begin = BeginMove {
            shard: 0,
            from: 3,
            to: 4,
        };
        assert_eq!(owners.applied(1, 1, &entry(Command::Begin(begin))), [(0, 4)]);
        owners.answered(0, 4, outsider, "it came meanwhile");
        let still = owners.stint(0, 3);
        let phases = [
            OperationPhase::AddLearner,
            OperationPhase::CatchUp,
            OperationPhase::EnterJoint,
            OperationPhase::LeaveJoint,
        ];
        for (index, from) in (2..).zip(phases) {
            let advance = AdvanceOperation {
                operation: 1,
                from: from.into(),
                term: 1,
            };
            owners.applied(index, 1, &entry(Command::Advance(advance)));
        }
        owners.answered(0, 3, still, "it held it when the call began");
        assert!(owners.violations().is_empty());
        let gone = owners.stint(0, 3);
        owners.answered(0, 3, gone, "history");
        assert_eq!(owners.violations().len(), 1);
        assert_eq!(owners.violations()[0].promise, "one owner");
    }
}
