//! What a turn wants sent, gathered by peer; what is for this node itself goes round inside.

use std::collections::{BTreeMap, VecDeque};

use firedrill_proto::chat::v1::{PeerMessage, RaftMessage, RaftMessageKind, peer_message::Message};

use crate::env::Transport;

/// Messages for this node itself that wait for their turn. Shards have one batch each on its way, so this is generous.
const LOCAL_MAX: usize = 4096;

/// The outgoing side of a node's loop.
#[derive(Debug)]
pub(super) struct Net {
    me: u64,
    out: BTreeMap<u64, Vec<PeerMessage>>,
    local: VecDeque<PeerMessage>,
    /// What has to be cut into parts first.
    snapshots: Vec<(u32, RaftMessage)>,
}

impl Net {
    pub(super) const fn new(me: u64) -> Self {
        Self {
            me,
            out: BTreeMap::new(),
            local: VecDeque::new(),
            snapshots: Vec::new(),
        }
    }

    pub(super) const fn me(&self) -> u64 {
        self.me
    }

    /// Sends at the next flush. Over the bound it is dropped, as a network would: whoever sent it repeats it.
    pub(super) fn send(&mut self, to: u64, shard: u32, message: Message) {
        let message = PeerMessage {
            shard,
            message: Some(message),
        };
        if to != self.me {
            self.out.entry(to).or_default().push(message);
        } else if self.local.len() < LOCAL_MAX {
            self.local.push_back(message);
        }
    }

    pub(super) fn send_raft(&mut self, shard: u32, messages: Vec<RaftMessage>) {
        for message in messages {
            if message.kind() == RaftMessageKind::Snapshot {
                self.snapshots.push((shard, message));
            } else {
                self.send(message.to, shard, Message::Raft(message));
            }
        }
    }

    /// The snapshots that replicas want sent.
    pub(super) fn take_snapshots(&mut self) -> Vec<(u32, RaftMessage)> {
        std::mem::take(&mut self.snapshots)
    }

    /// Gives everything that is for peers to the transport.
    pub(super) fn flush(&mut self, transport: &dyn Transport) {
        for (to, messages) in std::mem::take(&mut self.out) {
            transport.send(to, messages);
        }
    }

    /// What this node sent itself; what is sent meanwhile waits for the next call.
    pub(super) fn take_local(&mut self) -> VecDeque<PeerMessage> {
        std::mem::take(&mut self.local)
    }

    pub(super) fn has_local(&self) -> bool {
        !self.local.is_empty()
    }
}
