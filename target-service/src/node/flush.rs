//! One round of a turn: what all replicas want persisted goes into the log together and is synced once; only then are
//! promises sent, and what is committed is applied and answered.

use std::time::Duration;

use firedrill_proto::chat::v1::{LogEntry, PeerMessage};

use super::{
    recover,
    routes::PLACEMENT,
    run::{Node, NodeError},
};
use crate::{
    chat::Committed,
    consensus::{Effects, LateEffects, changes_members},
    placement,
    storage::log::WriteBatch,
};

/// Applied entries of the placement group between two durable states, and those kept below one.
const CHECKPOINT_EVERY: u64 = 64;
const KEEP_BEHIND: u64 = 16;

impl Node {
    /// Carries out one round. Returns whether another one is needed.
    pub(super) fn flush(&mut self) -> Result<bool, NodeError> {
        let me = self.net.me();
        for PeerMessage { shard, message } in self.net.take_local() {
            let taken = self.peer_message(me, PeerMessage { shard, message });
            self.contain(taken)?;
        }
        for shard in self.shards.values_mut() {
            shard.ask_reads();
        }
        let mut rounds = Vec::new();
        for (&id, shard) in self.shards.iter_mut().filter(|(_, shard)| shard.replica.has_ready()) {
            let effects = shard
                .replica
                .ready()
                .map_err(|source| NodeError::Replica { shard: id, source })?;
            rounds.push((id, effects));
        }
        if let Some(council) = self.council.as_mut().filter(|council| council.replica.has_ready()) {
            let effects = council.replica.ready().map_err(|source| NodeError::Replica {
                shard: PLACEMENT,
                source,
            })?;
            rounds.push((PLACEMENT, effects));
        }
        self.persist(&mut rounds)?;
        let mut settled = Vec::with_capacity(rounds.len());
        let mut unsynced = WriteBatch::default();
        for (id, effects) in rounds {
            self.net.send_raft(id, effects.promises);
            let Some(replica) = self.replica_mut(id) else {
                continue;
            };
            let late = replica.persisted();
            let late = late.map_err(|source| NodeError::Replica { shard: id, source })?;
            let LateEffects {
                messages,
                hard_state,
                committed,
            } = late;
            self.net.send_raft(id, messages);
            if let Some(state) = hard_state {
                unsynced.hard_state(id, state);
            }
            if let Some(shard) = self.shards.get_mut(&id) {
                effects.reads.into_iter().for_each(|read| shard.confirmed(read));
            }
            let mut entries = effects.committed;
            entries.extend(committed);
            settled.push((id, entries));
        }
        // Promises don't wait for anything else.
        self.net.flush(&*self.transport);
        self.log.append(unsynced)?;
        let now = self.clock.now();
        for (id, entries) in settled {
            let settled = match id {
                PLACEMENT => self.settle_placement(&entries, now),
                id => self.settle(id, entries, now),
            };
            self.contain(settled)?;
        }
        self.carry_snapshots();
        let relieved = self.relieve_log(false);
        self.contain(relieved)?;
        self.net.flush(&*self.transport);
        let more = |shard: &super::shard::Shard| shard.replica.has_ready() || shard.wants_read();
        let council = self.council.as_ref().is_some_and(|council| council.replica.has_ready());
        Ok(self.net.has_local() || council || self.shards.values().any(more))
    }

    /// Writes what is to be persisted; a leader's messages go out meanwhile.
    fn persist(&mut self, rounds: &mut [(u32, Effects)]) -> Result<(), NodeError> {
        let mut batch = WriteBatch::default();
        let mut must_sync = false;
        for (id, effects) in rounds {
            self.net.send_raft(*id, std::mem::take(&mut effects.messages));
            #[cfg(feature = "plants")]
            if self.promises_early {
                self.net.send_raft(*id, std::mem::take(&mut effects.promises));
            }
            if let Some(snapshot) = effects.snapshot.take() {
                let (index, term) = (snapshot.index, snapshot.term);
                // Before the state: the entries that made these members will not come any more.
                let mut members = WriteBatch::default();
                members.conf_state(*id, snapshot.conf_state.clone().unwrap_or_default());
                self.log.append(members)?;
                self.sync()?;
                if let Some(council) = self.council.as_mut().filter(|_| *id == PLACEMENT) {
                    let shards = council.machine.map().shards.len();
                    let restored = placement::Machine::restored(&snapshot.data, shards);
                    council.machine = restored.map_err(|source| NodeError::Placement { source })?;
                    recover::keep_council(&*self.disk, &council.machine)?;
                    council.checkpointed = index;
                }
                if let Some(shard) = self.shards.get_mut(id) {
                    tracing::info!(shard = *id, index, bytes = snapshot.data.len(), "takes over a snapshot");
                    let installed = shard.machine.install(index, term, &snapshot.data);
                    installed.map_err(|source| NodeError::Chat { shard: *id, source })?;
                    shard.checkpointed = index;
                    shard.applied_bytes = 0;
                }
                batch.snapshot(*id, index, term, snapshot.conf_state.unwrap_or_default());
            }
            batch.entries(*id, std::mem::take(&mut effects.entries));
            if let Some(state) = effects.hard_state.take() {
                batch.hard_state(*id, state);
            }
            must_sync |= effects.must_sync;
        }
        self.net.flush(&*self.transport);
        self.log.append(batch)?;
        if must_sync {
            let before = self.clock.now();
            self.sync()?;
            let took = self.clock.now().saturating_sub(before);
            self.sync_times.record(took);
            self.instruments.synced(took);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), NodeError> {
        #[cfg(feature = "plants")]
        if super::plants::never_syncs(self.config.plant) {
            return Ok(());
        }
        Ok(self.log.sync()?)
    }

    /// Applies what is committed, answers who waits for it, and passes on what follows.
    fn settle(&mut self, id: u32, entries: Vec<LogEntry>, now: Duration) -> Result<(), NodeError> {
        let chat = |source| NodeError::Chat { shard: id, source };
        let Some(shard) = self.shards.get_mut(&id) else {
            return Ok(());
        };
        let mut outboxes = Default::default();
        if !entries.is_empty() {
            let mut committed = Vec::with_capacity(entries.len());
            let mut members = None;
            for entry in entries {
                shard.applied_bytes += entry.data.len() as u64;
                let changed = shard.replica.apply_membership(&entry);
                let changed = changed.map_err(|source| NodeError::Replica { shard: id, source })?;
                if let Some(observer) = &self.observer {
                    observer.applied(self.config.node, id, entry.index, entry.term, &entry.data);
                }
                members = changed.or(members);
                committed.push(match changes_members(&entry) {
                    true => Committed::empty(entry.index, entry.term),
                    false => Committed::decode(entry.index, entry.term, &entry.data).map_err(chat)?,
                });
            }
            if let Some(members) = members {
                // Before the state can be: what is applied is not applied again.
                let mut batch = WriteBatch::default();
                batch.conf_state(id, members);
                self.log.append(batch)?;
                self.log.sync()?;
            }
            let mut applied = shard.machine.apply(&committed).map_err(chat)?;
            let needs = shard.machine.version();
            if needs > self.config.versions.protocol {
                let speaks = self.config.versions.protocol;
                return Err(NodeError::Version {
                    shard: id,
                    needs,
                    speaks,
                });
            }
            outboxes = std::mem::take(&mut applied.outboxes);
            shard.after_apply(applied, &mut self.net, now).map_err(chat)?;
        }
        shard.replica.applied(shard.machine.applied().0);
        shard.serve_reads(now).map_err(chat)?;
        if shard.replica.wants_snapshot() {
            shard.want_snapshot().map_err(chat)?;
        }
        let changed = shard.observe(now).map_err(chat)?;
        if let (true, Some(term), Some(observer)) = (changed, shard.led, &self.observer) {
            observer.leads(self.config.node, id, term);
        }
        if shard.led.is_some() {
            if changed {
                // What earlier leaders left in the outboxes goes on from here.
                let left = shard.machine.outbox_shards().map_err(chat)?;
                outboxes.extend(left.iter().map(|outbox| outbox.to_shard));
            }
            self.pump(id, outboxes, now)?;
        }
        if self.checkpoint_is_due(id) {
            self.checkpoint(id, self.config.retention.keep_behind)?;
        }
        Ok(())
    }

    /// As [`Node::settle`], for the placement group: a new map is taken over here, and told to everybody.
    fn settle_placement(&mut self, entries: &[LogEntry], now: Duration) -> Result<(), NodeError> {
        let Some(council) = &mut self.council else {
            return Ok(());
        };
        if let Some(observer) = &self.observer {
            for entry in entries {
                observer.applied(self.config.node, PLACEMENT, entry.index, entry.term, &entry.data);
            }
        }
        council.apply(entries).map_err(|source| NodeError::Replica {
            shard: PLACEMENT,
            source,
        })?;
        let (index, term) = council.machine.applied();
        council.replica.applied(index);
        if council.replica.wants_snapshot() {
            council.replica.offer_snapshot(index, term, council.machine.snapshot());
        }
        let changed = council.observe();
        if let (true, Some(term), Some(observer)) = (changed, council.led, &self.observer) {
            observer.leads(self.config.node, PLACEMENT, term);
        }
        let map = council.machine.map().clone();
        let news = map.version > self.map.version;
        if index >= council.checkpointed + CHECKPOINT_EVERY {
            self.checkpoint(PLACEMENT, KEEP_BEHIND)?;
        }
        self.adopt(map, now)?;
        if news || changed {
            self.push_map(true);
        }
        Ok(())
    }

    fn pump(&mut self, id: u32, outboxes: std::collections::BTreeSet<u32>, now: Duration) -> Result<(), NodeError> {
        if outboxes.is_empty() {
            return Ok(());
        }
        let leaders = self.leaders();
        let known = Self::known(&self.routes, leaders);
        if let Some(shard) = self.shards.get_mut(&id) {
            for to in outboxes {
                let pumped = shard.outbox.pump(to, &shard.machine, &known, &mut self.net, now);
                pumped.map_err(|source| NodeError::Chat { shard: id, source })?;
            }
        }
        Ok(())
    }
}
