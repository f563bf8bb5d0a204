//! What an operation asks of the leader of its shard, and whether it is done.

use firedrill_proto::chat::v1::{
    ConfState, MoveReport, OperationPhase, PlacementMap, PlacementOperation, ShardPlacement,
};

use crate::consensus::Change;

/// What the leader of a shard does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is as the map says.
    Nothing,
    /// Hands leadership over: it is about to be removed, or a node must only come back in a later term.
    HandOver,
    /// Changes the members.
    Change(Change),
}

/// Whether an operation goes on.
#[must_use]
pub fn is_active(operation: &PlacementOperation) -> bool {
    !matches!(operation.phase(), OperationPhase::Done | OperationPhase::Aborted)
}

/// The operation that goes on with a shard: there is at most one.
#[must_use]
pub fn active(map: &PlacementMap, shard: u32) -> Option<&PlacementOperation> {
    let mut operations = map.operations.iter();
    operations.find(|operation| operation.shard == shard && is_active(operation))
}

/// Whether `node` has a replica of `shard`: as a member, or as the node that one moves to.
#[must_use]
pub fn holds(map: &PlacementMap, shard: u32, node: u64) -> bool {
    let placed = map.shards.get(shard as usize);
    placed.is_some_and(|placed| placed.members.contains(&node))
        || active(map, shard).is_some_and(|operation| operation.to == node)
}

/// What `me`, who leads the shard in `term` with these members, does for `operation`; without one it clears away what an
/// aborted one may have left.
#[must_use]
pub fn next_step(
    placed: &ShardPlacement,
    operation: Option<&PlacementOperation>,
    members: &ConfState,
    (me, term): (u64, u64),
) -> Step {
    let joint = !members.voters_outgoing.is_empty();
    let Some(operation) = operation else {
        return match members.learners.first() {
            _ if joint => Step::Change(Change::LeaveJoint),
            Some(learner) => Step::Change(Change::RemoveLearner(*learner)),
            None => Step::Nothing,
        };
    };
    let (from, to) = (operation.from, operation.to);
    let current = members.version >= operation.began;
    let change = match operation.phase() {
        OperationPhase::AddLearner if current && members.learners.contains(&to) => return Step::Nothing,
        OperationPhase::AddLearner => {
            let former = placed.former.iter().find(|former| former.node == to);
            if former.is_some_and(|former| former.term >= term) {
                return Step::HandOver;
            }
            Change::AddLearner(to)
        }
        OperationPhase::EnterJoint if !joint && !members.voters.contains(&to) => Change::EnterJoint(to, from),
        OperationPhase::LeaveJoint if joint => Change::LeaveJoint,
        // Said through the log even if there is nothing to remove, so that no earlier order can add it behind this.
        OperationPhase::Aborting if !current => Change::RemoveLearner(to),
        _ => return Step::Nothing,
    };
    match change {
        Change::LeaveJoint if me == from => Step::HandOver,
        change => Step::Change(change),
    }
}

/// Whether what the operation's phase asks for is so, by what the shard's leader reports.
#[must_use]
pub fn reached(operation: &PlacementOperation, report: &MoveReport) -> bool {
    let Some(members) = &report.members else {
        return false;
    };
    if operation.id != report.operation || members.version < operation.began {
        return false;
    }
    let joint = !members.voters_outgoing.is_empty();
    let votes = |node| members.voters.contains(&node);
    match operation.phase() {
        OperationPhase::AddLearner => members.learners.contains(&operation.to),
        OperationPhase::CatchUp => report.caught_up,
        OperationPhase::EnterJoint => votes(operation.to),
        OperationPhase::LeaveJoint => !joint && votes(operation.to) && !votes(operation.from),
        OperationPhase::Aborting => !members.learners.contains(&operation.to) && !votes(operation.to),
        OperationPhase::Done | OperationPhase::Aborted | OperationPhase::Unspecified => false,
    }
}
