//! What the log records, and the batch of a driver turn.

use std::collections::BTreeMap;

use firedrill_proto::chat::v1::{ConfState, HardState, LogEntry};
use prost::Message as _;

use super::frame;

/// Entries of one frame are split beyond this many bytes.
const ENTRIES_PER_FRAME_BYTES: usize = 1 << 20;

/// One record of one shard.
#[derive(Debug, PartialEq)]
pub(super) enum Record {
    /// Term, vote and commit index; the latest counts.
    HardState(HardState),
    /// The membership; the latest counts.
    ConfState(ConfState),
    /// Entries with rising indices; those at or above the first one's index that stood before are gone.
    Entries(Vec<LogEntry>),
    /// A snapshot took the place of the whole log of the shard: it starts behind this index.
    Snapshot { index: u64, term: u64 },
    /// The log up to and with this index is no longer needed.
    Released { index: u64, term: u64 },
    /// The shard is held here no more: of its log only term and vote are kept.
    Forgotten,
}

impl Record {
    const fn kind(&self) -> u8 {
        match self {
            Self::HardState(_) => 1,
            Self::ConfState(_) => 2,
            Self::Entries(_) => 3,
            Self::Snapshot { .. } => 4,
            Self::Released { .. } => 5,
            Self::Forgotten => 6,
        }
    }

    /// Whether an entry can be a frame's.
    pub(super) fn fits(entry: &LogEntry) -> bool {
        entry.encoded_len() + 5 <= frame::MAX_PAYLOAD
    }

    /// Appends this as a frame.
    pub(super) fn write(&self, out: &mut Vec<u8>, durable: u32, shard: u32) {
        let payload = match self {
            Self::HardState(state) => state.encode_to_vec(),
            Self::ConfState(state) => state.encode_to_vec(),
            Self::Entries(entries) => {
                let mut payload = Vec::with_capacity(entries.iter().map(|e| e.encoded_len() + 5).sum());
                for entry in entries {
                    payload.extend_from_slice(&entry.encode_length_delimited_to_vec());
                }
                payload
            }
            Self::Snapshot { index, term } | Self::Released { index, term } => {
                [index.to_le_bytes(), term.to_le_bytes()].concat()
            }
            Self::Forgotten => Vec::new(),
        };
        frame::write(out, durable, shard, self.kind(), &payload);
    }

    /// Reads a record whose checksum was right; still, a writer of another version may have written it.
    pub(super) fn read(kind: u8, payload: &[u8]) -> Result<Self, String> {
        let decode = |e: prost::DecodeError| format!("a record of kind {kind} does not parse: {e}");
        let pair = || {
            let (index, term) = payload.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*index), u64::from_le_bytes(term.try_into().ok()?)))
        };
        let odd = || format!("a record of kind {kind} has {} bytes", payload.len());
        Ok(match kind {
            1 => Self::HardState(HardState::decode(payload).map_err(decode)?),
            2 => Self::ConfState(ConfState::decode(payload).map_err(decode)?),
            3 => {
                let mut rest = payload;
                let mut entries: Vec<LogEntry> = Vec::new();
                while !rest.is_empty() {
                    let entry = LogEntry::decode_length_delimited(&mut rest).map_err(decode)?;
                    if entry.index == 0
                        || entries
                            .last()
                            .is_some_and(|last| last.index.checked_add(1) != Some(entry.index))
                    {
                        return Err(format!("entry {} is out of place", entry.index));
                    }
                    entries.push(entry);
                }
                Self::Entries(entries)
            }
            4 => pair()
                .map(|(index, term)| Self::Snapshot { index, term })
                .ok_or_else(odd)?,
            5 => pair()
                .map(|(index, term)| Self::Released { index, term })
                .ok_or_else(odd)?,
            6 if payload.is_empty() => Self::Forgotten,
            6 => return Err(odd()),
            _ => return Err(format!("records of kind {kind} are not known to this version")),
        })
    }
}

/// What one shard wants to persist in a turn.
#[derive(Debug, Default)]
pub(super) struct ShardWrites {
    pub(super) hard_state: Option<HardState>,
    pub(super) snapshot: Option<(u64, u64)>,
    pub(super) conf_state: Option<ConfState>,
    pub(super) entries: Vec<LogEntry>,
}

impl ShardWrites {
    /// The records, in the order in which any prefix of them leaves a state that consensus can start from:
    /// a term is known before entries carry it.
    pub(super) fn into_records(self) -> impl Iterator<Item = Record> {
        let entries = split(self.entries);
        self.hard_state
            .map(Record::HardState)
            .into_iter()
            .chain(self.snapshot.map(|(index, term)| Record::Snapshot { index, term }))
            .chain(self.conf_state.map(Record::ConfState))
            .chain(entries.into_iter().map(Record::Entries))
    }
}

fn split(entries: Vec<LogEntry>) -> Vec<Vec<LogEntry>> {
    let mut parts: Vec<Vec<LogEntry>> = Vec::new();
    let mut size = usize::MAX;
    for entry in entries {
        let bytes = entry.encoded_len() + 5;
        if size.saturating_add(bytes) > ENTRIES_PER_FRAME_BYTES {
            parts.push(Vec::new());
            size = 0;
        }
        size += bytes;
        if let Some(part) = parts.last_mut() {
            part.push(entry);
        }
    }
    parts
}

/// What all shards of a node want to persist in one driver turn.
#[derive(Debug, Default)]
pub struct WriteBatch {
    pub(super) shards: BTreeMap<u32, ShardWrites>,
}

impl WriteBatch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shards.is_empty()
    }

    /// Sets the term, vote and commit index of `shard`.
    pub fn hard_state(&mut self, shard: u32, state: HardState) {
        self.shards.entry(shard).or_default().hard_state = Some(state);
    }

    /// Sets the membership of `shard`.
    pub fn conf_state(&mut self, shard: u32, state: ConfState) {
        self.shards.entry(shard).or_default().conf_state = Some(state);
    }

    /// Adds entries of `shard`, in order of their index. They replace whatever stood at the first one's index and above.
    pub fn entries(&mut self, shard: u32, entries: Vec<LogEntry>) {
        if !entries.is_empty() {
            self.shards.entry(shard).or_default().entries.extend(entries);
        }
    }

    /// Notes that a snapshot at (`index`, `term`), durable in the state database already, takes the place of the log of
    /// `shard`; entries of the same batch follow it.
    pub fn snapshot(&mut self, shard: u32, index: u64, term: u64, members: ConfState) {
        let writes = self.shards.entry(shard).or_default();
        writes.snapshot = Some((index, term));
        writes.conf_state = Some(members);
        writes.entries.clear();
    }
}
