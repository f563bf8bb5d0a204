//! What nodes promised each other, against what their disks hold after a power loss.
//!
//! A vote and the acknowledgement of entries are promises: consensus counts on them from the moment that they are sent, so
//! what they say has to be durable by then (Ongaro, "Consensus: Bridging Theory and Practice", section 3.8).

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{HardState, PeerMessage, RaftMessage, RaftMessageKind, peer_message::Message};

/// The latest promises of one replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Promised {
    term: u64,
    /// Whom it voted for in that term.
    vote: Option<u64>,
    /// Up to where it said, in that term, that it has the leader's log.
    index: u64,
}

/// The promises of all replicas, by node and shard.
#[derive(Debug, Default)]
pub struct Promises {
    by_replica: BTreeMap<(u64, u32), Promised>,
}

impl Promises {
    /// Looks at a message that the node `from` sends.
    pub fn observe(&mut self, from: u64, message: &PeerMessage) {
        if let Some(Message::Raft(raft)) = &message.message {
            self.observe_raft(from, message.shard, raft);
        }
    }

    fn observe_raft(&mut self, from: u64, shard: u32, raft: &RaftMessage) {
        let (vote, index) = match raft.kind() {
            _ if raft.reject => return,
            RaftMessageKind::AppendResponse => (None, raft.index),
            RaftMessageKind::RequestVoteResponse => (Some(raft.to), 0),
            // Whoever asks for votes has its own.
            RaftMessageKind::RequestVote => (Some(from), 0),
            _ => return,
        };
        let promised = self.by_replica.entry((from, shard)).or_default();
        if raft.term > promised.term {
            *promised = Promised {
                term: raft.term,
                ..Promised::default()
            };
        }
        if raft.term == promised.term {
            promised.vote = vote.or(promised.vote);
            promised.index = index.max(promised.index);
        }
    }

    /// A replica comes or goes, and its log with it; its vote stays.
    pub fn released(&mut self, node: u64, shard: u32) {
        if let Some(promised) = self.by_replica.get_mut(&(node, shard)) {
            promised.index = 0;
        }
    }

    /// What a replica promised and its disk doesn't hold: the term and vote, and the last index of its log.
    #[must_use]
    pub fn broken(&self, node: u64, shard: u32, durable: HardState, last_index: u64) -> Option<String> {
        let promised = self.by_replica.get(&(node, shard))?;
        let forgot = |what: String| Some(format!("node {node}, shard {shard}: {what}; promised was {promised:?}"));
        if durable.term < promised.term {
            return forgot(format!("its disk knows term {}", durable.term));
        }
        // In a newer term another leader may have replaced what was acknowledged, and the vote is another's.
        if durable.term > promised.term {
            return None;
        }
        if promised.vote.is_some_and(|vote| vote != durable.vote) {
            return forgot(format!("its disk says that it voted for {}", durable.vote));
        }
        if last_index < promised.index {
            return forgot(format!("its log ends at {last_index}"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: RaftMessageKind, term: u64, index: u64, to: u64) -> PeerMessage {
        let raft = RaftMessage {
            kind: kind.into(),
            term,
            index,
            to,
            ..RaftMessage::default()
        };
        PeerMessage {
            shard: 0,
            message: Some(Message::Raft(raft)),
        }
    }

    fn broken(term: u64, vote: u64, last_index: u64) -> bool {
        let mut promises = Promises::default();
        promises.observe(1, &said(RaftMessageKind::AppendResponse, 4, 90, 3));
        promises.observe(1, &said(RaftMessageKind::RequestVoteResponse, 5, 0, 2));
        promises.observe(1, &said(RaftMessageKind::AppendResponse, 5, 20, 2));
        promises.observe(1, &said(RaftMessageKind::AppendResponse, 5, 10, 2));
        let durable = HardState { term, vote, commit: 0 };
        promises.broken(1, 0, durable, last_index).is_some()
    }

    #[test]
    fn a_forgotten_term_vote_or_entry_is_seen_and_nothing_else() {
        assert!(!broken(5, 2, 20));
        assert!(!broken(6, 3, 1), "in a newer term all may have changed");
        assert!(broken(4, 2, 90));
        assert!(broken(5, 3, 20));
        assert!(broken(5, 2, 19));
    }
}
