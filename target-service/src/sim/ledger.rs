//! Consensus, judged by what leaders send and what nodes apply, never by what a node says of itself.
//!
//! - Election safety (Ongaro, "Consensus: Bridging Theory and Practice", section 3.4): at most one leader in a term.
//!   Whoever sends an append or a heartbeat of a term leads it.
//! - Log matching (3.5): an index and a term name one entry.
//! - State machine safety (3.6.3): a committed index has one content for ever. A leader's log only grows, so that what
//!   it sent for an index in its term is committed once it says that its commit index is there; what a node applies, and
//!   what a durable log calls committed, is committed too.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{PeerMessage, RaftMessage, RaftMessageKind, peer_message::Message};
use xxhash_rust::xxh3::xxh3_64;

use super::{Violation, report};

/// An entry's term and the hash of its content.
pub type Print = (u64, u64);

/// The fingerprint of an entry.
#[must_use]
pub fn print(term: u64, data: &[u8]) -> Print {
    (term, xxh3_64(data))
}

/// All that was seen of consensus.
#[derive(Debug, Default)]
pub struct Ledger {
    leaders: BTreeMap<(u32, u64), u64>,
    /// By shard and leader's term: what it sent and has not yet called committed.
    sent: BTreeMap<(u32, u64), BTreeMap<u64, Print>>,
    /// By shard, index and term.
    contents: BTreeMap<(u32, u64, u64), u64>,
    committed: BTreeMap<u32, BTreeMap<u64, Print>>,
    violations: Vec<Violation>,
}

impl Ledger {
    /// Looks at a message that the node `from` sends.
    pub fn observe(&mut self, from: u64, message: &PeerMessage) {
        if let Some(Message::Raft(raft)) = &message.message {
            self.observe_raft(from, message.shard, raft);
        }
    }

    fn observe_raft(&mut self, from: u64, shard: u32, raft: &RaftMessage) {
        use RaftMessageKind::{Append, Heartbeat, Snapshot, TimeoutNow};
        if !matches!(raft.kind(), Append | Heartbeat | Snapshot | TimeoutNow) {
            return;
        }
        self.leads(from, shard, raft.term);
        for entry in &raft.entries {
            let print = print(entry.term, &entry.data);
            let known = *self.contents.entry((shard, entry.index, print.0)).or_insert(print.1);
            if known != print.1 {
                let what = format!(
                    "shard {shard} has two entries at index {} of term {}",
                    entry.index, print.0
                );
                report(&mut self.violations, "log matching", what);
            }
            self.sent
                .entry((shard, raft.term))
                .or_default()
                .insert(entry.index, print);
        }
        if matches!(raft.kind(), Append | Heartbeat)
            && let Some(sent) = self.sent.get_mut(&(shard, raft.term))
        {
            let rest = sent.split_off(&(raft.commit + 1));
            let committed = std::mem::replace(sent, rest);
            for (index, print) in committed {
                self.commit(shard, index, print, format_args!("node {from} in term {}", raft.term));
            }
        }
    }

    /// Notes that `node` leads `shard` in `term`.
    pub fn leads(&mut self, node: u64, shard: u32, term: u64) {
        let leader = *self.leaders.entry((shard, term)).or_insert(node);
        if leader != node {
            let what = format!("nodes {leader} and {node} both lead shard {shard} in term {term}");
            report(&mut self.violations, "one leader a term", what);
        }
    }

    /// Notes that `index` of `shard` is committed with this content, as `source` says.
    pub fn commit(&mut self, shard: u32, index: u64, print: Print, source: std::fmt::Arguments<'_>) {
        let known = *self.committed.entry(shard).or_default().entry(index).or_insert(print);
        if known != print {
            let what = format!(
                "index {index} of shard {shard} was committed with term {}, hash {:x}; {source} says term {}, hash {:x}",
                known.0, known.1, print.0, print.1
            );
            report(&mut self.violations, "committed for ever", what);
        }
    }

    /// The last index of `shard` that is known to be committed.
    #[must_use]
    pub fn committed_index(&self, shard: u32) -> u64 {
        let last = self.committed.get(&shard).and_then(|map| map.keys().next_back());
        last.copied().unwrap_or(0)
    }

    /// Who led `shard` last.
    #[must_use]
    pub fn leader(&self, shard: u32) -> Option<u64> {
        let of_shard = self.leaders.range((shard, 0)..=(shard, u64::MAX));
        of_shard.map(|(_, leader)| *leader).next_back()
    }

    /// How many terms of all shards had a leader.
    #[must_use]
    pub fn elections(&self) -> usize {
        self.leaders.len()
    }

    /// What was wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::LogEntry;

    use super::*;

    fn append(term: u64, commit: u64, entries: &[(u64, u64, &'static str)]) -> PeerMessage {
        let entries = entries.iter().map(|&(index, term, data)| LogEntry {
            kind: 1,
            term,
            index,
            data: data.as_bytes().into(),
            ..LogEntry::default()
        });
        let raft = RaftMessage {
            kind: RaftMessageKind::Append.into(),
            term,
            commit,
            entries: entries.collect(),
            ..RaftMessage::default()
        };
        PeerMessage {
            shard: 0,
            message: Some(Message::Raft(raft)),
        }
    }

    fn judged(messages: &[(u64, PeerMessage)]) -> Vec<&'static str> {
        let mut ledger = Ledger::default();
        for (from, message) in messages {
            ledger.observe(*from, message);
        }
        ledger.violations.iter().map(|v| v.promise).collect()
    }

    #[test]
    fn a_change_of_leader_that_keeps_what_is_committed_is_fine() {
        let mut ledger = Ledger::default();
        ledger.observe(1, &append(1, 0, &[(1, 1, "a"), (2, 1, "b")]));
        ledger.observe(1, &append(1, 1, &[]));
        // Index 2 was never committed, and is replaced.
        ledger.observe(2, &append(2, 2, &[(2, 2, "c")]));
        assert!(ledger.violations().is_empty(), "{:?}", ledger.violations());
        assert_eq!(
            (ledger.committed_index(0), ledger.leader(0), ledger.elections()),
            (2, Some(2), 2)
        );
    }

    #[test]
    fn two_leaders_in_a_term_are_seen() {
        assert_eq!(
            judged(&[(1, append(3, 0, &[])), (2, append(3, 0, &[]))]),
            ["one leader a term"]
        );
    }

    #[test]
    fn two_contents_of_one_entry_are_seen() {
        let messages = [(1, append(3, 0, &[(5, 3, "a")])), (1, append(3, 0, &[(5, 3, "b")]))];
        assert_eq!(judged(&messages), ["log matching"]);
    }

    #[test]
    fn a_committed_entry_that_changes_is_seen() {
        let messages = [
            (1, append(3, 5, &[(5, 3, "a")])),
            (2, append(4, 4, &[(5, 4, "b")])),
            (2, append(4, 5, &[])),
        ];
        assert_eq!(judged(&messages), ["committed for ever"]);
    }
}
