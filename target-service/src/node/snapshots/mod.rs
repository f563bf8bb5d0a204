//! Carrying a state to a follower that the log no longer reaches.
//!
//! Consensus knows one message with the whole state in it. That message never goes over the wire: it is cut into chunks at
//! the leader ([`outgoing`]) and put together at the follower ([`incoming`]), where consensus hears of it once it is whole
//! and its digest is right. A transfer ends when the leader doesn't lead any more, when consensus doesn't wait for it any
//! more, or when it stands still for as long as consensus waits. A follower that starts anew says that it has nothing, and
//! the transfer goes on from there.

use std::time::Duration;

use firedrill_proto::chat::v1::{SnapshotAck, SnapshotChunk, peer_message::Message};

use self::incoming::is_snapshot;
pub(super) use self::{incoming::Incoming, outgoing::Outgoing};
use super::run::Node;
use crate::consensus::Malformed;

mod incoming;
mod outgoing;

impl Node {
    /// Takes the snapshots that consensus wants sent, gives up those that it doesn't wait for any more, and sends what may
    /// go now.
    pub(super) fn carry_snapshots(&mut self) {
        let now = self.clock.now();
        for (shard, message) in self.net.take_snapshots() {
            // The placement group's state is small.
            if self.shards.contains_key(&shard) && self.takes_chunks(message.to) {
                self.outgoing.start(shard, message, now);
            } else {
                self.net.send(message.to, shard, Message::Raft(message));
            }
        }
        if self.outgoing.len() == 0 {
            return;
        }
        let shards = &self.shards;
        self.outgoing.retain(|shard, peer| {
            let held = shards.get(&shard);
            held.is_some_and(|shard| shard.replica.waits_for_snapshot(peer))
        });
        // Whoever waits for its turn is not late. Each turn ends, so this does too.
        for (shard, peer) in self.outgoing.waiting() {
            if let Some(shard) = self.shards.get_mut(&shard) {
                shard.replica.snapshot_moves(peer);
            }
        }
        let net = &mut self.net;
        self.outgoing.pump(now, |peer, shard, chunk| {
            net.send(peer, shard, Message::SnapshotChunk(chunk))
        });
    }

    /// How long a snapshot of which nothing is heard keeps its memory.
    fn snapshot_patience(&self) -> Duration {
        Duration::from_millis(8 * self.config.timing.election_ms_max)
    }

    pub(super) fn sweep_snapshots(&mut self) {
        let (now, patience) = (self.clock.now(), self.snapshot_patience());
        self.incoming.sweep(now, patience);
    }

    pub(super) fn snapshot_chunk(&mut self, from: u64, shard: u32, mut chunk: SnapshotChunk) {
        let Some(held) = self.shards.get(&shard).filter(|_| is_snapshot(&chunk)) else {
            let value = format!("for shard {shard}");
            let what = "chunk of a snapshot";
            return self.malformed(from, &Malformed { what, value });
        };
        let head = chunk.head.clone().unwrap_or_default();
        if head.term < held.replica.term() {
            // Of a leader that is none any more; it hears so from its heartbeats.
            return;
        }
        let index = head.snapshot.as_ref().map_or(0, |snapshot| snapshot.index);
        if index <= held.machine.applied().0 {
            // It came by the log, or another way: consensus tells the leader how far this replica is.
            self.incoming.forget(shard);
            let ack = SnapshotAck {
                index,
                digest: chunk.digest,
                received: chunk.total,
            };
            self.net.send(from, shard, Message::SnapshotAck(ack));
            return self.raft_message(from, shard, head);
        }
        chunk.head = Some(head);
        match self.incoming.take(shard, chunk, self.clock.now()) {
            Ok(Some(taken)) => {
                self.net.send(from, shard, Message::SnapshotAck(taken.ack));
                if let Some(whole) = taken.whole {
                    self.raft_message(from, shard, whole);
                }
            }
            Ok(None) => {}
            Err(malformed) => self.malformed(from, &malformed),
        }
    }

    pub(super) fn snapshot_ack(&mut self, from: u64, shard: u32, ack: &SnapshotAck) {
        if self.outgoing.acknowledged(from, shard, ack, self.clock.now())
            && let Some(shard) = self.shards.get_mut(&shard)
        {
            shard.replica.snapshot_moves(from);
        }
        self.carry_snapshots();
    }
}
