//! The map of shards at a node: taken over when it is newer, kept, and acted upon. A node starts replicas of shards that are
//! newly its own, forgets those that are not any more, and, where it leads a shard that is being moved, changes the shard's
//! members step by step and reports how far that is.

use std::time::Duration;

use firedrill_proto::chat::v1::{
    MoveReplicaRequest, MoveReplicaResponse, MoveReport, OperationPhase, OperationStatus, PlacementMap,
    PlacementReport, PlacementStatus, peer_message::Message,
};

use super::{
    api::{Reason, Refusal},
    catch_up::CatchUp,
    council::Heard,
    inbox::Reply as To,
    recover,
    routes::{PLACEMENT, Routes, placement_nodes},
    run::{Node, NodeError},
};
use crate::placement::{self, Step};

/// Ticks between two reports on shards that are being moved, and between two pushes to a node that doesn't answer.
pub(super) const REPORT_TICKS: u64 = 5;

impl Node {
    /// Takes over a map, if it is newer than the one that is known.
    pub(super) fn adopt(&mut self, map: PlacementMap, now: Duration) -> Result<(), NodeError> {
        if map.version <= self.map.version {
            return Ok(());
        }
        // Durable before anything follows from it: a node must not go back to a shard that it has left.
        recover::keep_map(&*self.disk, &map)?;
        tracing::info!(version = map.version, epoch = map.epoch, "a newer map of shards");
        self.routes = Routes::of(&map);
        self.map = map;
        for id in 0..self.routes.shards() {
            let (held, holds) = (
                self.shards.contains_key(&id),
                placement::holds(&self.map, id, self.config.node),
            );
            let set_aside = self.quarantined.contains_key(&id);
            if holds && !held && !set_aside {
                self.start_shard(id, now)?;
            } else if (held || set_aside) && !holds {
                self.leave_shard(id)?;
            }
        }
        for shard in self.shards.values_mut() {
            shard.epoch = self.map.epoch;
        }
        self.report();
        Ok(())
    }

    fn start_shard(&mut self, id: u32, now: Duration) -> Result<(), NodeError> {
        tracing::info!(shard = id, "a replica begins here");
        let mut shard = recover::open_shard(id, &self.config, &self.map, self.disk.clone(), &mut self.log)?;
        shard.leaderless_since = Some(now);
        self.shards.insert(id, shard);
        Ok(())
    }

    /// The shard's other replicas have agreed without this node's: whoever waits here is told to go there.
    fn leave_shard(&mut self, id: u32) -> Result<(), NodeError> {
        #[cfg(feature = "plants")]
        if self.config.plant == Some(crate::plant::Plant::ServeAfterRemoval) {
            return Ok(());
        }
        tracing::info!(shard = id, "the replica leaves this node");
        if let Some(mut shard) = self.shards.remove(&id) {
            shard.epoch = self.map.epoch;
            shard.step_down();
        }
        recover::forget_shard(id, &*self.disk, &mut self.log)?;
        self.quarantined.remove(&id);
        Ok(())
    }

    /// What a peer says of the map.
    pub(super) fn map_message(&mut self, from: u64, map: PlacementMap) -> Result<(), NodeError> {
        let shards = map.shards.len() == self.map.shards.len();
        if !shards || map.shards.iter().any(|placed| placed.members.is_empty()) {
            self.malformed(
                from,
                &crate::consensus::Malformed {
                    what: "map of shards",
                    value: format!("version {} has {} shards", map.version, map.shards.len()),
                },
            );
            return Ok(());
        }
        self.placement_hint = from;
        let news = map.version > self.map.version;
        self.adopt(map, self.clock.now())?;
        if !news {
            // Whoever pushes wants to know that it arrived.
            self.report();
        }
        Ok(())
    }

    /// What a node tells the placement group.
    pub(super) fn placement_report(&mut self, from: u64, report: PlacementReport) {
        let known = self.config.peers.contains_key(&report.node);
        let passed_on = placement_nodes(&self.config).contains(&from);
        let Some(council) = self
            .council
            .as_mut()
            .filter(|_| known && (report.node == from || passed_on))
        else {
            return;
        };
        match council.hear(&report) {
            Heard::Well => {}
            Heard::Behind => {
                let map = council.machine.map().clone();
                self.net.send(report.node, PLACEMENT, Message::Map(map));
            }
            Heard::PassOn(leader) if report.node == from => {
                self.net.send(leader, PLACEMENT, Message::Report(report));
            }
            Heard::PassOn(_) => {}
        }
    }

    /// Says what this node knows, and how the moves of the shards that it leads fare.
    pub(super) fn report(&mut self) {
        let report = PlacementReport {
            version: self.map.version,
            moves: self.moves(),
            node: self.config.node,
        };
        let members = placement_nodes(&self.config);
        let leader = self
            .council
            .as_ref()
            .map_or(self.placement_hint, |council| council.replica.leader());
        let to = match members.contains(&leader) {
            true => leader,
            // One after the other, until one answers.
            false => {
                self.placement_turn = self.placement_turn.wrapping_add(1);
                members[self.placement_turn % members.len()]
            }
        };
        self.net.send(to, PLACEMENT, Message::Report(report));
    }

    fn moves(&self) -> Vec<MoveReport> {
        let led = self.shards.iter().filter(|(_, shard)| shard.led.is_some());
        led.filter_map(|(&id, shard)| {
            let operation = placement::active(&self.map, id)?;
            let rounds = shard.catch_up.as_ref().filter(|it| it.operation == operation.id);
            Some(MoveReport {
                operation: operation.id,
                shard: id,
                term: shard.replica.term(),
                members: Some(shard.replica.members().clone()),
                matched: shard.replica.matched(operation.to).unwrap_or_default(),
                last: shard.replica.last_index(),
                bytes: shard.replica.watched_bytes(),
                round: rounds.map_or(0, |it| it.round),
                caught_up: rounds.is_some_and(|it| it.done),
                failed: rounds.and_then(|it| it.failed.clone()).unwrap_or_default(),
            })
        })
        .collect()
    }

    /// Does what moves ask for, where this node leads: one tick's worth.
    pub(super) fn drive_moves(&mut self, ticks: u64, now: Duration) {
        let short = Duration::from_millis(self.config.timing.election_ms_min);
        let shunned = self.shunned();
        let mut reports = false;
        for (&id, shard) in self.shards.iter_mut().filter(|(_, shard)| shard.led.is_some()) {
            let operation = placement::active(&self.map, id);
            let members = shard.replica.members();
            let settled = members.learners.is_empty() && members.voters_outgoing.is_empty();
            if operation.is_none() && settled {
                shard.catch_up = None;
                continue;
            }
            reports |= operation.is_some();
            if let Some(operation) = operation {
                shard.replica.watch(operation.to);
                let last = shard.replica.last_index();
                let matched = shard.replica.matched(operation.to);
                let catching_up = operation.phase() == OperationPhase::CatchUp;
                if let (true, Some(matched)) = (catching_up, matched) {
                    if shard.catch_up.as_ref().is_none_or(|it| it.operation != operation.id) {
                        shard.catch_up = Some(CatchUp::new(operation.id, last, now));
                    }
                    if let Some(it) = &mut shard.catch_up {
                        it.look(matched, last, short, now);
                    }
                }
            }
            // Whoever changed the members last knew a newer map: this node must not undo it.
            if !shard.replica.can_change() || shard.replica.members().version > self.map.version {
                continue;
            }
            let Some(placed) = self.map.shards.get(id as usize) else {
                continue;
            };
            let who = (self.config.node, shard.replica.term());
            match placement::next_step(placed, operation, shard.replica.members(), who) {
                Step::Nothing => {}
                Step::Change(change) => {
                    let proposed = shard.replica.propose_change(change, self.map.version);
                    tracing::info!(shard = id, ?change, proposed, "the members change");
                }
                Step::HandOver => {
                    let avoid = shunned.iter().copied().chain(operation.map(|it| it.from)).collect();
                    // Where nobody can take over now, the next tick asks again.
                    let _ = shard.replica.transfer(0, &avoid);
                }
            }
        }
        if reports && ticks.is_multiple_of(REPORT_TICKS) {
            self.report();
        }
    }

    /// Tells the map to those that don't know it, if this node leads the placement group.
    pub(super) fn push_map(&mut self, everybody: bool) {
        let Some(council) = self.council.as_ref().filter(|council| council.led.is_some()) else {
            return;
        };
        let map = council.machine.map().clone();
        let to = match everybody {
            true => self.config.others().collect(),
            false => council.behind(self.config.others()),
        };
        for node in to {
            self.net.send(node, PLACEMENT, Message::Map(map.clone()));
        }
    }

    pub(super) fn move_replica(&mut self, request: &MoveReplicaRequest, to: To<MoveReplicaResponse>) {
        if !self.config.peers.contains_key(&request.to) {
            let message = format!("node {} is no node of this cluster", request.to);
            return self.answer(to, Err(Refusal::new(Reason::Invalid, message)));
        }
        match &mut self.council {
            Some(council) => council.move_replica(request, to),
            None => {
                let refusal = self.no_council();
                self.answer(to, Err(refusal));
            }
        }
    }

    /// This node doesn't belong to the placement group, and may know who leads it.
    pub(super) fn no_council(&self) -> Refusal {
        let nodes = placement_nodes(&self.config);
        Refusal {
            leader: Some(self.placement_hint).filter(|node| *node != 0),
            epoch: self.map.epoch,
            ..Refusal::new(
                Reason::NotLeader,
                format!(
                    "nodes {nodes:?} hold the placement group, this is node {}",
                    self.config.node
                ),
            )
        }
    }

    pub(super) fn placement_status(&self) -> PlacementStatus {
        let council = self.council.as_ref();
        let status = |operation: &firedrill_proto::chat::v1::PlacementOperation| OperationStatus {
            progress: council.and_then(|council| council.progress(operation.id)),
            operation: Some(operation.clone()),
        };
        PlacementStatus {
            version: self.map.version,
            epoch: self.map.epoch,
            role: council.map_or(0, |council| council.replica.role().into()),
            term: council.map_or(0, |council| council.replica.term()),
            leader: council.map_or(self.placement_hint, |council| council.replica.leader()),
            operations: self.map.operations.iter().map(status).collect(),
        }
    }
}
