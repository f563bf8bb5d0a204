//! What peers say: told to the replica, the outbox or the plan for a new leader that it concerns.

use firedrill_proto::chat::v1::{
    Goodbye, OutboxAck, OutboxBatch, PeerMessage, RaftMessage, RaftMessageKind, peer_message::Message,
};

use prost::Message as _;

use super::{
    council::Council,
    failover::View,
    inbox::FromPeer,
    routes::PLACEMENT,
    run::{Node, NodeError},
    shard::Shard,
};
use crate::{chat::validate::OUTBOX_BYTES_MAX, consensus::Malformed, placement};

/// Whether a snapshot, if the message carries one, is one that this shard's state can become: raft takes it unread, and
/// by the time that it is to be installed there is no way back.
fn readable(shard: &Shard, message: &RaftMessage) -> Result<(), Malformed> {
    let (Some(snapshot), true) = (&message.snapshot, message.term >= shard.replica.term()) else {
        return Ok(());
    };
    if snapshot.index <= shard.machine.applied().0 {
        // It is ignored, whatever it holds.
        return Ok(());
    }
    let checked = shard
        .machine
        .check_snapshot(snapshot.index, snapshot.term, &snapshot.data);
    checked.map_err(|error| Malformed {
        what: "snapshot",
        value: error.to_string(),
    })
}

/// As [`readable`], for the placement group.
fn restorable(council: &Council, message: &RaftMessage) -> Result<(), Malformed> {
    let Some(snapshot) = &message.snapshot else {
        return Ok(());
    };
    let shards = council.machine.map().shards.len();
    let restored = placement::Machine::restored(&snapshot.data, shards).map_err(|error| error.to_string());
    let announced = (snapshot.index, snapshot.term);
    match restored.map(|machine| machine.applied()) {
        Ok(applied) if applied == announced => Ok(()),
        Ok(applied) => Err(format!("its state is of {applied:?}, {announced:?} was announced")),
        Err(error) => Err(error),
    }
    .map_err(|value| Malformed {
        what: "placement snapshot",
        value,
    })
}

impl Node {
    pub(super) fn hear(&mut self, message: FromPeer) -> Result<(), NodeError> {
        match message {
            FromPeer::Messages { from, messages, room } if self.config.others().any(|peer| peer == from) => {
                // What is being worked on waits no more.
                drop(room);
                for message in messages {
                    let taken = self.peer_message(from, message);
                    self.contain(taken)?;
                }
            }
            FromPeer::Messages { from, .. } => {
                self.malformed(
                    from,
                    &Malformed {
                        what: "sender",
                        value: format!("{from} is no node of this cluster"),
                    },
                );
            }
            FromPeer::Reset { peer } => {
                tracing::info!(peer, "peer gone");
                self.peers_stopping.remove(&peer);
                self.peers.gone(peer);
                let now = self.clock.now();
                let (timing, who) = (self.config.timing.clone(), (self.config.node, peer, 0));
                for (_, replica, failover) in self.replicas_mut() {
                    let (voters, view) = (replica.voters(), View::of(replica));
                    failover.arm(who, &voters, view, &timing, now);
                    replica.unreachable(peer);
                }
            }
        }
        Ok(())
    }

    /// Takes what a peer, or this node itself, said.
    pub(super) fn peer_message(&mut self, from: u64, message: PeerMessage) -> Result<(), NodeError> {
        match message.message {
            Some(Message::Raft(raft)) => self.raft_message(from, message.shard, raft),
            Some(Message::Outbox(batch)) => return self.outbox_batch(from, message.shard, batch),
            Some(Message::OutboxAck(ack)) => return self.outbox_ack(from, message.shard, ack),
            Some(Message::Hello(hello)) => self.hello(from, &hello),
            Some(Message::SnapshotChunk(chunk)) if self.config.versions.protocol >= 2 => {
                self.snapshot_chunk(from, message.shard, chunk);
            }
            Some(Message::SnapshotAck(ack)) => self.snapshot_ack(from, message.shard, &ack),
            Some(Message::Goodbye(goodbye)) if goodbye.stopping => self.peer_stops(from),
            Some(Message::Goodbye(goodbye)) => self.goodbye(from, message.shard, goodbye),
            Some(Message::Map(map)) => return self.map_message(from, map),
            Some(Message::Report(report)) => self.placement_report(from, report),
            Some(Message::SnapshotChunk(_)) | None => self.malformed(
                from,
                &Malformed {
                    what: "message",
                    value: "of a kind that this version doesn't know".to_owned(),
                },
            ),
        }
        Ok(())
    }

    pub(super) fn raft_message(&mut self, from: u64, shard: u32, message: RaftMessage) {
        if self.is_stopping() && message.kind() == RaftMessageKind::TimeoutNow {
            // Whoever hands over has not heard yet that this node stops.
            return;
        }
        if let Some(council) = self.council.as_mut().filter(|_| shard == PLACEMENT) {
            let stepped = restorable(council, &message).and_then(|()| council.replica.step(from, message));
            if let Err(malformed) = stepped {
                self.malformed(from, &malformed);
            }
            return;
        }
        let stepped = match self.shards.get_mut(&shard) {
            Some(shard) => match readable(shard, &message) {
                Ok(()) => shard.replica.step(from, message),
                Err(malformed) => Err(malformed),
            },
            None if self.quarantined.contains_key(&shard) => return,
            None => Err(Malformed {
                what: "shard",
                value: format!("{shard} is not held here"),
            }),
        };
        if let Err(malformed) = stepped {
            self.malformed(from, &malformed);
        }
    }

    fn outbox_batch(&mut self, from: u64, shard: u32, batch: OutboxBatch) -> Result<(), NodeError> {
        let bytes = batch.encoded_len();
        if bytes > OUTBOX_BYTES_MAX {
            let value = format!("{bytes}, at most {OUTBOX_BYTES_MAX}");
            let what = "bytes of outbox items in one batch";
            self.malformed(from, &Malformed { what, value });
            return Ok(());
        }
        let Some(held) = self.shards.get_mut(&shard).filter(|shard| shard.led.is_some()) else {
            // Not the leader, or not yet told: the sender repeats it, elsewhere too.
            return Ok(());
        };
        if held.pending.len() >= 2 * self.config.bounds.proposals_per_shard {
            return Ok(());
        }
        let make = |command| Self::command(&mut self.ticket, self.config.node, &self.clock, command);
        let taken = held.take_in(from, batch, make, &mut self.net, self.clock.now());
        taken.map_err(|source| NodeError::Chat { shard, source })
    }

    fn outbox_ack(&mut self, from: u64, shard: u32, ack: OutboxAck) -> Result<(), NodeError> {
        let now = self.clock.now();
        let leaders = self.leaders();
        let Some(held) = self.shards.get_mut(&shard).filter(|shard| shard.led.is_some()) else {
            return Ok(());
        };
        let last = held.machine.outbox_last(ack.to_shard);
        let last = last.map_err(|source| NodeError::Chat { shard, source })?;
        if ack.from_shard != shard || ack.to_shard >= self.routes.shards() || ack.through > last {
            // To take a part of it for true would forget what nobody has.
            let value = format!("{ack:?}, the outbox ends at {last}");
            let what = "acknowledgement of an outbox";
            self.malformed(from, &Malformed { what, value });
            return Ok(());
        }
        held.outbox.acknowledged(ack, now);
        let known = Self::known(&self.routes, leaders);
        let pumped = held
            .outbox
            .pump(ack.to_shard, &held.machine, &known, &mut self.net, now);
        pumped.map_err(|source| NodeError::Chat { shard, source })
    }

    fn goodbye(&mut self, from: u64, shard: u32, goodbye: Goodbye) {
        let now = self.clock.now();
        let (timing, who) = (self.config.timing.clone(), (self.config.node, from, goodbye.successor));
        let held = self.replicas_mut().find(|(id, ..)| *id == shard);
        if let Some((_, replica, failover)) = held.filter(|(_, replica, _)| replica.term() == goodbye.term) {
            failover.arm(who, &replica.voters(), View::of(replica), &timing, now);
        }
    }

    /// Counts what a peer can't have meant, and tells of it without flooding the log.
    pub(super) fn malformed(&mut self, from: u64, malformed: &Malformed) {
        self.malformed += 1;
        if self.malformed.is_power_of_two() {
            tracing::warn!(
                from,
                total = self.malformed,
                "ignored an impossible message: {malformed}"
            );
        }
    }
}
