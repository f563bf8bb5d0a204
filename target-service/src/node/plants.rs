//! Deliberately wrong behaviour of the node itself. Compiled only with the feature `plants`.

use firedrill_proto::chat::v1::{HistoryRequest, HistoryResponse, SendResponse};

use super::{
    api::{Reason, Refusal},
    inbox::Reply as To,
    run::Node,
    waiting::Waiting,
};
use crate::{chat::validate::QUERY_ITEMS_MAX, plant::Plant};

/// `ack-before-durable` and `forget-after-power-loss`: the log stays in memory. It is the loop that doesn't sync,
/// rather than a disk that lies: the log would find out about the lie, and refuse to start. Not even writing it lets the
/// death of a process do what a power loss does.
pub(super) fn never_syncs(plant: Option<Plant>) -> bool {
    matches!(plant, Some(Plant::AckBeforeDurable | Plant::ForgetAfterPowerLoss))
}

impl Node {
    /// `ack-before-durable`: answers a send before it is proposed, with the position that it will probably have.
    pub(super) fn answer_early(&mut self, shard: u32, conversation: u64, waiting: Waiting) -> Waiting {
        if self.config.plant != Some(Plant::AckBeforeDurable) {
            return waiting;
        }
        let (Some(shard), Waiting::Send(to)) = (self.shards.get_mut(&shard), waiting) else {
            return Waiting::Nobody;
        };
        let stored = shard
            .machine
            .history(conversation, u64::MAX, 0)
            .map_or(0, |history| history.last_position);
        let predicted = shard.predicted.entry(conversation).or_default();
        *predicted = stored.max(*predicted) + 1;
        drop(to.send(Ok(SendResponse {
            conversation,
            position: *predicted,
            repeated: false,
        })));
        Waiting::Nobody
    }

    /// `stale`: answers from what this replica has applied, and asks nobody whether that is all. `serve-after-removal`: the
    /// same, where the map says that the replica is gone.
    pub(super) fn answer_stale(
        &mut self,
        request: HistoryRequest,
        to: To<HistoryResponse>,
    ) -> Option<(HistoryRequest, To<HistoryResponse>)> {
        let owner = self.routes.owner(request.conversation);
        let Some(shard) = self.shards.get(&owner).filter(|_| match self.config.plant {
            Some(Plant::Stale) => true,
            Some(Plant::ServeAfterRemoval) => !crate::placement::holds(&self.map, owner, self.config.node),
            _ => false,
        }) else {
            return Some((request, to));
        };
        let limit = match request.limit {
            0 => QUERY_ITEMS_MAX,
            limit => limit as usize,
        };
        let history = shard.machine.history(request.conversation, request.after, limit);
        drop(to.send(history.map_err(|error| Refusal::new(Reason::Maybe, error.to_string()))));
        None
    }
}
