//! How much of the log is kept, and how often state becomes durable.
//!
//! A shard's entries are kept for three reasons: they are not yet in a durable checkpoint, a follower may be a little behind,
//! or a follower is being given a snapshot and needs what comes after it. Each of them is bounded in bytes, so that no
//! follower, dead or slow, holds the log for ever: whoever needs more is given a snapshot. Followers decide for themselves,
//! in the same way.

use super::{
    recover,
    routes::PLACEMENT,
    run::{Node, NodeError},
};

/// Log segments above which a quiet shard is made to let go of its own.
const SEGMENTS_MAX: usize = 8;

impl Node {
    /// Whether a shard's state is to be made durable now.
    pub(super) fn checkpoint_is_due(&self, id: u32) -> bool {
        let retention = &self.config.retention;
        self.shards.get(&id).is_some_and(|shard| {
            let (index, _) = shard.machine.applied();
            index >= shard.checkpointed + retention.checkpoint_every
                || shard.applied_bytes >= retention.checkpoint_bytes
        })
    }

    /// Makes a shard's state durable, and lets its log go below that, but for at most the last `keep` entries.
    pub(super) fn checkpoint(&mut self, id: u32, keep: u64) -> Result<(), NodeError> {
        if let Some(council) = self.council.as_mut().filter(|_| id == PLACEMENT) {
            recover::keep_council(&*self.disk, &council.machine)?;
            council.checkpointed = council.machine.applied().0;
            self.log.release(id, council.checkpointed.saturating_sub(keep))?;
            return Ok(());
        }
        let Some(shard) = self.shards.get_mut(&id) else {
            return Ok(());
        };
        shard.checkpointed = shard
            .machine
            .checkpoint()
            .map_err(|source| NodeError::Chat { shard: id, source })?;
        shard.applied_bytes = 0;
        let (checkpointed, retention) = (shard.checkpointed, &self.config.retention);
        let log = self.log.shard(id);
        let mut through = checkpointed.saturating_sub(keep).max(log.behind(retention.keep_bytes));
        let needed = self.outgoing.least_index(id).into_iter().chain(shard.building_index());
        if let Some(sent) = needed.min()
            && log.behind(retention.hold_bytes) <= sent
        {
            through = through.min(sent);
        }
        self.log.release(id, through.min(checkpointed))?;
        Ok(())
    }

    /// Makes the shards let go that hold the log's oldest segment: one at a time, since each stalls the loop for some
    /// syncs; at every turn if the log is far over its bound, else with the other chores.
    pub(super) fn relieve_log(&mut self, with_chores: bool) -> Result<(), NodeError> {
        let segments_max = if with_chores { SEGMENTS_MAX } else { 2 * SEGMENTS_MAX };
        let Some(id) = self.log.holding_back(segments_max).first().copied() else {
            return Ok(());
        };
        if self.quarantined.contains_key(&id) {
            // Its state can't be brought up to date with them any more.
            let last = self.log.shard(id).last_index();
            tracing::warn!(
                shard = id,
                through = last,
                "lets go of the log of a quarantined replica"
            );
            return Ok(self.log.release(id, last)?);
        }
        self.checkpoint(id, 0)?;
        if self.log.holding_back(segments_max).first() == Some(&id) {
            // Some of its entries are not applied: without a majority, or on its way to one.
            self.log.carry_forward(id)?;
        }
        Ok(())
    }
}
