//! Rebuilds every shard's log from the records of all segments.

use std::collections::{BTreeMap, VecDeque};

use firedrill_proto::chat::v1::{ConfState, HardState, LogEntry};

use super::{record::Record, shard::ShardLog};

/// Gathers records in the order in which they were written.
///
/// The oldest records of a shard may refer to entries whose segment is gone, so gaps are judged only at the end, when
/// the last release is known.
#[derive(Debug, Default)]
pub(super) struct Replay {
    shards: BTreeMap<u32, Gathered>,
}

#[derive(Debug, Default)]
struct Gathered {
    hard: HardState,
    members: ConfState,
    base: (u64, u64),
    entries: BTreeMap<u64, LogEntry>,
}

impl Replay {
    /// Takes the next record.
    pub(super) fn take(&mut self, shard: u32, record: Record) {
        let gathered = self.shards.entry(shard).or_default();
        match record {
            Record::HardState(hard) => gathered.hard = hard,
            Record::ConfState(members) => gathered.members = members,
            Record::Entries(entries) => {
                if let Some(first) = entries.first() {
                    gathered.entries.split_off(&first.index);
                }
                gathered.entries.extend(entries.into_iter().map(|e| (e.index, e)));
            }
            Record::Snapshot { index, term } => {
                gathered.entries.clear();
                gathered.base = (index, term);
            }
            Record::Released { index, term } => {
                // A prelude repeats a release that is known already.
                if index > gathered.base.0 {
                    gathered.entries = gathered.entries.split_off(&index.saturating_add(1));
                    gathered.base = (index, term);
                }
            }
            Record::Forgotten => {
                *gathered = Gathered {
                    hard: HardState {
                        commit: 0,
                        ..gathered.hard
                    },
                    ..Gathered::default()
                };
            }
        }
    }

    /// The shards' logs, or what is missing from them.
    pub(super) fn finish(self) -> Result<BTreeMap<u32, ShardLog>, String> {
        let mut shards = BTreeMap::new();
        for (shard, mut gathered) in self.shards {
            let mut entries = VecDeque::with_capacity(gathered.entries.len());
            let mut last = gathered.base.0;
            // Entries that a release made obsolete, from segments that were not removed yet.
            let live = gathered.entries.split_off(&last.saturating_add(1));
            for (index, entry) in live {
                if last.checked_add(1) != Some(index) {
                    return Err(format!(
                        "shard {shard} lacks the entries from {} to {}",
                        last + 1,
                        index - 1
                    ));
                }
                last = index;
                entries.push_back(entry);
            }
            let mut hard = gathered.hard;
            if hard != HardState::default() || gathered.base.0 > 0 {
                // The entries behind a commit index may be in a torn tail, where nobody was told of them; the leader
                // tells the index again.
                hard.commit = hard.commit.clamp(gathered.base.0, last);
            }
            let log = ShardLog::recovered(hard, gathered.members, gathered.base, entries);
            shards.insert(shard, log);
        }
        Ok(shards)
    }
}
