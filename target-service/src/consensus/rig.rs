//! A replica with a log on a simulated disk, driven by hand: for tests and fuzzing.

use std::sync::Arc;

use firedrill_proto::chat::v1::{ConfState, LogEntry, RaftMessage};
use prost::Message as _;

use super::{Read, Replica, Start, Tuning};
use crate::{
    env::{Disk, SimDisk, Streams},
    storage::log::{Log, LogOptions, WriteBatch},
};

/// The only shard that a rig has.
const SHARD: u32 = 0;

/// Most messages that one fuzz input holds.
const MESSAGES_MAX: usize = 64;

/// One replica of a group, and all that it did.
#[derive(Debug)]
pub struct Rig {
    /// The replica.
    pub replica: Replica,
    /// Its log.
    pub log: Log,
    /// What it applied, in order.
    pub applied: Vec<LogEntry>,
    /// Its confirmed reads.
    pub reads: Vec<Read>,
    /// Snapshots that it was told to take over: index and data.
    pub installed: Vec<(u64, bytes::Bytes)>,
    /// The applied index, that of a snapshot included.
    pub index: u64,
}

impl Rig {
    /// Node `node` of the group `voters`.
    ///
    /// # Panics
    /// When a fresh replica can't be made: a bug.
    #[must_use]
    pub fn new(node: u64, voters: &[u64]) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let mut log = Log::open(disk, "log", LogOptions::default()).expect("an empty disk");
        let start = Start {
            node,
            log: log.shard(SHARD),
            members: ConfState {
                voters: voters.to_vec(),
                ..ConfState::default()
            },
            applied: 0,
            rng: Streams::new(node).stream("election"),
        };
        let tuning = Tuning {
            heartbeat_ticks: 2,
            election_ticks: 10..20,
            inflight_messages: 16,
            message_bytes: 1 << 16,
            uncommitted_bytes: 1 << 20,
            snapshot_ticks: 40,
        };
        Self {
            replica: Replica::new(start, &tuning).expect("an empty log"),
            log,
            applied: Vec::new(),
            reads: Vec::new(),
            installed: Vec::new(),
            index: 0,
        }
    }

    /// Carries out whatever follows from what the replica was told; returns what it wants sent.
    ///
    /// # Panics
    /// When the replica or the log fail: a bug.
    pub fn turn(&mut self) -> Vec<RaftMessage> {
        let mut sent = Vec::new();
        while self.replica.has_ready() {
            let effects = self.replica.ready().expect("effects can be written");
            sent.extend(effects.messages);
            let mut batch = WriteBatch::default();
            let mut index = self.index;
            if let Some(snapshot) = effects.snapshot {
                index = snapshot.index;
                self.installed.push((snapshot.index, snapshot.data));
                batch.snapshot(
                    SHARD,
                    snapshot.index,
                    snapshot.term,
                    snapshot.conf_state.unwrap_or_default(),
                );
            }
            batch.entries(SHARD, effects.entries);
            if let Some(state) = effects.hard_state {
                batch.hard_state(SHARD, state);
            }
            self.log.append(batch).expect("entries follow");
            self.log.sync().expect("a disk without faults");
            sent.extend(effects.promises);
            let late = self.replica.persisted().expect("effects can be written");
            sent.extend(late.messages);
            self.reads.extend(effects.reads);
            for entry in effects.committed.into_iter().chain(late.committed) {
                assert_eq!(entry.index, index + 1, "entries are applied without gaps");
                index = entry.index;
                let members = self
                    .replica
                    .apply_membership(&entry)
                    .expect("a membership that was proposed");
                if let Some(members) = members {
                    let mut batch = WriteBatch::default();
                    batch.conf_state(SHARD, members);
                    self.log.append(batch).expect("a membership");
                }
                self.applied.push(entry);
            }
            self.index = index;
            self.replica.applied(index);
            if self.replica.wants_snapshot() {
                let term = self.replica.term_at(index).unwrap_or_default();
                self.replica
                    .offer_snapshot(index, term, bytes::Bytes::from_static(b"state"));
            }
        }
        sent
    }

    /// Forgets the log up to `index`.
    ///
    /// # Panics
    /// When it isn't applied yet.
    pub fn compact(&mut self, index: u64) {
        assert!(index <= self.index, "only what is applied can go");
        self.log.release(SHARD, index).expect("an index of the log");
    }
}

/// Steps whatever messages `bytes` holds, each behind its length in one byte, into a replica that leads, follows or has
/// just begun. It must not panic, however little the messages make sense.
pub fn fuzz_step(bytes: &[u8]) {
    let Some((mode, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut rig = prepared(*mode);
    for _ in 0..MESSAGES_MAX {
        let Some((len, behind)) = rest.split_first() else {
            return;
        };
        let (one, behind) = behind.split_at(behind.len().min(usize::from(*len)));
        rest = behind;
        let Ok(mut message) = RaftMessage::decode(one) else {
            rig.replica.tick();
            rig.turn();
            continue;
        };
        // Else nearly all would end at the envelope.
        message.to = 1;
        message.from = 2 + message.from % 2;
        // An error is the right answer to most of them.
        let _ = rig.replica.step(message.from, message);
        rig.turn();
    }
}

/// A replica of three: new, leading with some entries, or following with some.
#[must_use]
pub fn prepared(mode: u8) -> Rig {
    let mut rig = Rig::new(1, &[1, 2, 3]);
    if mode.is_multiple_of(3) {
        return rig;
    }
    let mut peers = [Rig::new(2, &[1, 2, 3]), Rig::new(3, &[1, 2, 3])];
    let leads = if mode % 3 == 1 { 0 } else { 1 };
    for _ in 0..100 {
        let all = [&mut rig].into_iter().chain(&mut peers).enumerate();
        let mut sent = Vec::new();
        for (at, one) in all {
            if at == leads {
                one.replica.tick();
                if one.replica.is_leader() && one.replica.last_index() < 6 {
                    let _ = one.replica.propose(bytes::Bytes::from_static(b"entry"));
                }
            }
            sent.extend(one.turn());
        }
        for message in sent {
            let to = match message.to {
                1 => &mut rig,
                2 => &mut peers[0],
                _ => &mut peers[1],
            };
            to.replica.step(message.from, message).expect("a peer's honest message");
        }
    }
    rig.turn();
    rig
}
