//! What was applied behind a copied state: batches of entries, each with how the outboxes stood behind it.
//!
//! A record is its length, its CRC-32C (32-bit little-endian both) and a [`Batch`]. The first has no entries: it says where the
//! state stood that the tail follows.

use firedrill_proto::chat::v1::LogEntry;
use prost::Message;

use super::cut::Timeline;

const HEADER: usize = 8;

/// Entries that were applied together.
#[derive(Clone, PartialEq, Message)]
pub struct Batch {
    /// Index of the last one.
    #[prost(uint64, tag = "1")]
    pub end: u64,
    /// Its term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
    /// In order, without gaps, behind the batch before.
    #[prost(message, repeated, tag = "3")]
    pub entries: Vec<LogEntry>,
    /// The marks that it changed.
    #[prost(message, repeated, tag = "4")]
    pub marks: Vec<Marks>,
}

/// How a shard stands to another one.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Marks {
    /// The other one.
    #[prost(uint32, tag = "1")]
    pub other: u32,
    /// Sequence of the last item that was put into the outbox to it.
    #[prost(uint64, tag = "2")]
    pub posted: u64,
    /// How much of that outbox is forgotten.
    #[prost(uint64, tag = "3")]
    pub trimmed: u64,
    /// How much of the other one's outbox was taken in.
    #[prost(uint64, tag = "4")]
    pub accepted: u64,
}

impl Batch {
    /// Appends it as a record.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let payload = self.encode_to_vec();
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&payload).to_le_bytes());
        out.extend_from_slice(&payload);
    }
}

/// The batches of a whole tail.
///
/// # Errors
/// Names the offset and what is wrong there.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Batch>, String> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let bad = |what: &str| format!("byte {at}: {what}");
        let word = |at: usize| {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
            word.map(|word| u32::from_le_bytes(*word))
        };
        let (Some(len), Some(checksum)) = (word(at), word(at + 4)) else {
            return Err(bad("a record is cut off"));
        };
        let start = at + HEADER;
        let payload = start.checked_add(len as usize).and_then(|end| bytes.get(start..end));
        let payload = payload.ok_or_else(|| bad("a record goes beyond the end"))?;
        if crc32c::crc32c(payload) != checksum {
            return Err(bad("the checksum does not match"));
        }
        let batch = Batch::decode(payload).map_err(|error| bad(&error.to_string()))?;
        let last = batches.last().map(|before| before.end);
        let follows = match (last, batch.entries.first(), batch.entries.last()) {
            (None, None, None) => true,
            (Some(last), Some(first), Some(end)) => {
                let indices = batch.entries.iter().map(|entry| entry.index);
                first.index == last + 1
                    && (end.index, end.term) == (batch.end, batch.term)
                    && indices.eq(first.index..=end.index)
            }
            _ => false,
        };
        if !follows {
            return Err(bad("it doesn't follow what is before it"));
        }
        batches.push(batch);
        at = start + len as usize;
    }
    if batches.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(batches)
}

/// What the points of a tail are.
pub(crate) fn timeline(batches: &[Batch]) -> Timeline {
    let mut timeline = Timeline::default();
    for batch in batches {
        timeline.push(batch.end, &batch.marks);
    }
    timeline
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batches(sizes: &[u64]) -> Vec<Batch> {
        let mut index = 10;
        let mut batches = vec![Batch {
            end: index,
            term: 3,
            ..Batch::default()
        }];
        for size in sizes {
            let entries: Vec<LogEntry> = (index + 1..=index + size)
                .map(|index| LogEntry {
                    index,
                    term: 3,
                    data: index.to_string().into(),
                    ..LogEntry::default()
                })
                .collect();
            index += size;
            batches.push(Batch {
                end: index,
                term: 3,
                entries,
                marks: vec![Marks {
                    other: 1,
                    posted: index,
                    ..Marks::default()
                }],
            });
        }
        batches
    }

    fn written(batches: &[Batch]) -> Vec<u8> {
        let mut out = Vec::new();
        batches.iter().for_each(|batch| batch.write(&mut out));
        out
    }

    proptest! {
        #[test]
        fn a_tail_reads_back_and_no_bit_of_it_may_flip(
            sizes in proptest::collection::vec(1u64..5, 0..6),
            flip: proptest::sample::Index,
            bit in 0u8..8,
        ) {
            let all = batches(&sizes);
            let mut bytes = written(&all);
            prop_assert_eq!(read(&bytes), Ok(all));
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn a_tail_has_no_gaps_and_no_torn_end() {
        let all = batches(&[2, 2]);
        let bytes = written(&all);
        assert!(read(&bytes[..bytes.len() - 1]).unwrap_err().contains("beyond the end"));
        let gap = written(&[all[0].clone(), all[2].clone()]);
        assert!(read(&gap).unwrap_err().contains("doesn't follow"));
        assert!(read(&[]).is_err());
    }
}
