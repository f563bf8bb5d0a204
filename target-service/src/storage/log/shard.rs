//! One shard's part of the log, in memory: what consensus reads never touches the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use firedrill_proto::chat::v1::{ConfState, HardState, LogEntry};
use prost::Message as _;

use super::record::Record;
use crate::storage::LogReadError;

/// A view of one shard's log. Clones are the same log. It shows what was appended, synced or not: consensus counts
/// only what it was told is persisted.
#[derive(Clone, Debug, Default)]
pub struct ShardLog {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    hard: HardState,
    members: ConfState,
    /// The log starts behind this (index, term).
    base: (u64, u64),
    entries: VecDeque<LogEntry>,
    bytes: u64,
}

impl State {
    fn last_index(&self) -> u64 {
        self.base.0 + self.entries.len() as u64
    }

    /// Where the entry at `index` stands in `entries`.
    fn slot(&self, index: u64) -> Result<usize, LogReadError> {
        if index <= self.base.0 {
            return Err(LogReadError::Compacted);
        }
        if index > self.last_index() {
            return Err(LogReadError::Unavailable);
        }
        usize::try_from(index - self.base.0 - 1).map_err(|_| LogReadError::Unavailable)
    }

    fn term(&self, index: u64) -> Result<u64, LogReadError> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        Ok(self.entries[self.slot(index)?].term)
    }
}

impl ShardLog {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last term, vote and commit index, and the last membership; defaults for a shard that never wrote any.
    #[must_use]
    pub fn initial_state(&self) -> (HardState, ConfState) {
        let state = self.state();
        (state.hard, state.members.clone())
    }

    /// The index and term that the log starts behind: those of the last snapshot or release.
    #[must_use]
    pub fn base(&self) -> (u64, u64) {
        self.state().base
    }

    /// The index of the first entry that is here, or would be.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.state().base.0 + 1
    }

    /// The index of the last entry; that of the base if there is none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.state().last_index()
    }

    /// The term of the entry at `index`; the base's is known too.
    ///
    /// # Errors
    /// When the entry is compacted or not there yet.
    pub fn term(&self, index: u64) -> Result<u64, LogReadError> {
        self.state().term(index)
    }

    /// The entries from `low` to before `high`: as many as fit into `max_bytes` of encoded length, but at least one.
    ///
    /// # Errors
    /// When some of them are compacted or not there yet.
    pub fn entries(&self, low: u64, high: u64, max_bytes: Option<u64>) -> Result<Vec<LogEntry>, LogReadError> {
        let state = self.state();
        if low >= high {
            return Ok(Vec::new());
        }
        let (first, last) = (state.slot(low)?, state.slot(high - 1)?);
        let mut size = 0;
        let fits = |entry: &&LogEntry| {
            let before = size;
            size += entry.encoded_len() as u64;
            before == 0 || max_bytes.is_none_or(|max| size <= max)
        };
        Ok(state.entries.range(first..=last).take_while(fits).cloned().collect())
    }

    /// Every entry that is here.
    pub(super) fn all(&self) -> Vec<LogEntry> {
        self.state().entries.iter().cloned().collect()
    }

    /// The index behind which the last entries of at most `max_bytes` stand: what is released up to there leaves no more.
    #[must_use]
    pub fn behind(&self, max_bytes: u64) -> u64 {
        let state = self.state();
        if state.bytes <= max_bytes {
            return state.base.0;
        }
        let mut size = 0;
        let fits = |entry: &&LogEntry| {
            size += entry.encoded_len() as u64;
            size <= max_bytes
        };
        let kept = state.entries.iter().rev().take_while(fits).count() as u64;
        state.last_index() - kept
    }

    /// Bytes of the entries that are held here, as encoded.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Whether `entries` can follow, be it by replacing a tail; says what is wrong if not.
    pub(super) fn check(&self, base: u64, last: u64, entries: &[LogEntry]) -> Result<(), String> {
        let mut expected = None;
        for entry in entries {
            let index = entry.index;
            let fits = expected.map_or(index > base && index <= last + 1, |expected| index == expected);
            if !fits {
                return Err(format!(
                    "entry {index} can not follow: the log holds {} to {last}",
                    base + 1
                ));
            }
            expected = Some(index + 1);
        }
        Ok(())
    }

    /// Takes over a record that was checked.
    pub(super) fn apply(&self, record: Record) {
        let mut state = self.state();
        match record {
            Record::HardState(hard) => state.hard = hard,
            Record::ConfState(members) => state.members = members,
            Record::Entries(entries) => {
                if let Some(first) = entries.first()
                    && let Ok(slot) = state.slot(first.index)
                {
                    let gone: u64 = state.entries.drain(slot..).map(|e| e.encoded_len() as u64).sum();
                    state.bytes -= gone;
                }
                state.bytes += entries.iter().map(|e| e.encoded_len() as u64).sum::<u64>();
                state.entries.extend(entries);
            }
            Record::Snapshot { index, term } => {
                state.entries.clear();
                state.bytes = 0;
                state.base = (index, term);
                state.hard.commit = state.hard.commit.max(index);
            }
            Record::Released { index, term } => {
                if let Ok(slot) = state.slot(index) {
                    let gone: u64 = state.entries.drain(..=slot).map(|e| e.encoded_len() as u64).sum();
                    state.bytes -= gone;
                    state.base = (index, term);
                }
            }
            Record::Forgotten => {
                state.entries.clear();
                state.bytes = 0;
                state.base = (0, 0);
                state.members = ConfState::default();
                state.hard.commit = 0;
            }
        }
    }

    /// What a new segment repeats: everything but the entries.
    pub(super) fn prelude(&self) -> [Record; 3] {
        let state = self.state();
        let (index, term) = state.base;
        [
            Record::HardState(state.hard),
            Record::ConfState(state.members.clone()),
            Record::Released { index, term },
        ]
    }

    pub(super) fn recovered(
        hard: HardState,
        members: ConfState,
        base: (u64, u64),
        entries: VecDeque<LogEntry>,
    ) -> Self {
        let bytes = entries.iter().map(|e| e.encoded_len() as u64).sum();
        let state = State {
            hard,
            members,
            base,
            entries,
            bytes,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }
}
