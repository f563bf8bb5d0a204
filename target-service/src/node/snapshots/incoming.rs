//! Snapshots on their way from peers: put together in memory, checked as a whole, and only then told to consensus.

use std::{collections::BTreeMap, time::Duration};

use firedrill_proto::chat::v1::{RaftMessage, RaftMessageKind, SnapshotAck, SnapshotChunk};
use xxhash_rust::xxh3::xxh3_64;

use crate::consensus::Malformed;

/// Bytes of a snapshot beyond which it is not taken: it is held in memory until it is whole.
const BYTES_MAX: u64 = 1 << 30;

/// Everything that is being received: at most one snapshot for each shard.
#[derive(Debug, Default)]
pub(in crate::node) struct Incoming {
    parts: BTreeMap<u32, Part>,
}

#[derive(Debug)]
struct Part {
    /// The leader's term.
    term: u64,
    index: u64,
    total: u64,
    digest: u64,
    data: Vec<u8>,
    heard_at: Duration,
}

/// What a chunk led to.
#[derive(Debug, PartialEq)]
pub(in crate::node) struct Taken {
    /// To be answered.
    pub(in crate::node) ack: SnapshotAck,
    /// The whole, once nothing is missing.
    pub(in crate::node) whole: Option<RaftMessage>,
}

impl Incoming {
    /// Takes a chunk; `None` when it belongs to a snapshot that a newer one took the place of.
    ///
    /// # Errors
    /// When it can't be a chunk, or the whole is not what was announced: that one is forgotten then, and starts anew.
    pub(in crate::node) fn take(
        &mut self,
        shard: u32,
        chunk: SnapshotChunk,
        now: Duration,
    ) -> Result<Option<Taken>, Malformed> {
        let bad = |what, value: String| Err(Malformed { what, value });
        let Some(mut head) = chunk.head else {
            return bad("chunk of a snapshot", "no message in it".to_owned());
        };
        let Some(snapshot) = head.snapshot.as_mut().filter(|it| it.data.is_empty()) else {
            return bad("chunk of a snapshot", "no snapshot, or one with data".to_owned());
        };
        let end = chunk.offset.checked_add(chunk.data.len() as u64);
        if chunk.total > BYTES_MAX || end.is_none_or(|end| end > chunk.total) {
            let value = format!("{} bytes at {} of {}", chunk.data.len(), chunk.offset, chunk.total);
            return bad("extent of a snapshot's chunk", value);
        }
        let index = snapshot.index;
        if let Some(part) = self.parts.get(&shard) {
            let same = (part.index, part.digest, part.total) == (index, chunk.digest, chunk.total);
            // In one term a leader's snapshots only get younger: an older one is a straggler.
            if !same && (head.term, index) <= (part.term, part.index) {
                return Ok(None);
            }
            if !same {
                self.parts.remove(&shard);
            }
        }
        let part = self.parts.entry(shard).or_insert_with(|| Part {
            term: head.term,
            index,
            total: chunk.total,
            digest: chunk.digest,
            data: Vec::new(),
            heard_at: now,
        });
        part.term = part.term.max(head.term);
        part.heard_at = now;
        if chunk.offset == part.data.len() as u64 {
            part.data.extend_from_slice(&chunk.data);
        }
        let ack = SnapshotAck {
            index,
            digest: chunk.digest,
            received: part.data.len() as u64,
        };
        if ack.received < chunk.total {
            return Ok(Some(Taken { ack, whole: None }));
        }
        let Some(part) = self.parts.remove(&shard) else {
            return Ok(None);
        };
        if xxh3_64(&part.data) != part.digest {
            return bad(
                "digest of a snapshot",
                format!("not {:#018x}, as announced", part.digest),
            );
        }
        snapshot.data = part.data.into();
        Ok(Some(Taken { ack, whole: Some(head) }))
    }

    /// Gives the memory back of what nothing was heard of for `patience`.
    pub(in crate::node) fn sweep(&mut self, now: Duration, patience: Duration) {
        self.parts
            .retain(|_, part| now.saturating_sub(part.heard_at) < patience);
    }

    /// Forgets what came of a shard.
    pub(in crate::node) fn forget(&mut self, shard: u32) {
        self.parts.remove(&shard);
    }

    /// Snapshots of which something is here.
    pub(in crate::node) fn len(&self) -> usize {
        self.parts.len()
    }
}

/// Whether a chunk's head can be one at all.
pub(in crate::node) fn is_snapshot(chunk: &SnapshotChunk) -> bool {
    let kind = chunk.head.as_ref().map(RaftMessage::kind);
    kind == Some(RaftMessageKind::Snapshot)
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::Snapshot;
    use proptest::prelude::*;

    use super::{super::outgoing::Outgoing, *};

    fn message(term: u64, index: u64, bytes: usize) -> RaftMessage {
        let data: Vec<u8> = (0..bytes).map(|at| (at * 7 % 253) as u8).collect();
        let mut message = RaftMessage {
            to: 2,
            term,
            snapshot: Some(Snapshot {
                index,
                term,
                data: data.into(),
                ..Snapshot::default()
            }),
            ..RaftMessage::default()
        };
        message.set_kind(RaftMessageKind::Snapshot);
        message
    }

    fn chunks(message: RaftMessage, chunk_bytes: usize) -> Vec<SnapshotChunk> {
        let mut outgoing = Outgoing::new(chunk_bytes, 0, Duration::MAX);
        outgoing.start(0, message, Duration::ZERO);
        let mut out = Vec::new();
        while outgoing.len() > 0 {
            let mut ack = SnapshotAck::default();
            outgoing.pump(Duration::ZERO, |_, _, chunk| {
                ack.index = chunk.head.as_ref().unwrap().snapshot.as_ref().unwrap().index;
                ack.digest = chunk.digest;
                ack.received = chunk.offset + chunk.data.len() as u64;
                out.push(chunk);
            });
            outgoing.acknowledged(2, 0, &ack, Duration::ZERO);
        }
        out
    }

    proptest! {
        /// Whatever is lost, repeated or swapped on the way, what comes out is what went in, once.
        #[test]
        fn a_snapshot_comes_whole_over_a_bad_way(
            bytes in 0usize..3000,
            chunk_bytes in 1usize..700,
            bad in proptest::collection::vec((0u8..4, 0usize..8), 0..200),
        ) {
            let sent = message(3, 9, bytes);
            let mut outgoing = Outgoing::new(chunk_bytes, 0, Duration::from_millis(5));
            outgoing.start(0, sent.clone(), Duration::ZERO);
            let (mut incoming, mut way, mut bad) = (Incoming::default(), Vec::new(), bad.into_iter());
            let mut came = None;
            for ms in 0..20_000 {
                let now = Duration::from_millis(ms);
                outgoing.pump(now, |_, _, chunk| way.push(chunk));
                let (fate, pick) = bad.next().unwrap_or((3, 0));
                if way.is_empty() {
                    continue;
                }
                let chunk = match fate {
                    0 => { way.remove(pick % way.len()); continue }
                    1 => way[pick % way.len()].clone(),
                    2 => { let at = pick % way.len(); way.remove(at) }
                    _ => way.remove(0),
                };
                if let Some(taken) = incoming.take(0, chunk, now).unwrap() {
                    outgoing.acknowledged(2, 0, &taken.ack, now);
                    if taken.whole.is_some() {
                        came = taken.whole;
                        break;
                    }
                }
            }
            prop_assert_eq!(came, Some(sent));
            prop_assert_eq!(incoming.len(), 0);
        }

        /// Noise is an error or an incomplete part, never a panic and never a snapshot.
        #[test]
        fn noise_makes_no_snapshot(
            total: u64, digest: u64, offset: u64,
            data in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let head = chunks(message(3, 9, 0), 1).remove(0).head;
            let chunk = SnapshotChunk { head, total, digest, offset, data: data.into() };
            let taken = Incoming::default().take(0, chunk, Duration::ZERO);
            prop_assert!(taken.is_err() || taken.unwrap().unwrap().whole.is_none());
        }
    }

    #[test]
    fn a_damaged_chunk_is_noticed_and_the_snapshot_starts_anew() {
        let mut incoming = Incoming::default();
        let mut sent = chunks(message(3, 9, 30), 10);
        let mut data = sent[1].data.to_vec();
        data[3] ^= 1;
        sent[1].data = data.into();
        let (last, before) = sent.split_last().unwrap();
        for chunk in before {
            assert!(incoming.take(0, chunk.clone(), Duration::ZERO).unwrap().is_some());
        }
        let refused = incoming.take(0, last.clone(), Duration::ZERO).unwrap_err();
        assert_eq!(refused.what, "digest of a snapshot");
        let anew = incoming.take(0, last.clone(), Duration::ZERO).unwrap().unwrap();
        assert_eq!(anew.ack.received, 0);
    }

    #[test]
    fn a_straggler_does_not_take_the_place_of_a_younger_snapshot() {
        let mut incoming = Incoming::default();
        let (old, young) = (chunks(message(3, 9, 30), 10), chunks(message(3, 12, 30), 10));
        incoming.take(0, young[0].clone(), Duration::ZERO).unwrap();
        assert_eq!(incoming.take(0, old[0].clone(), Duration::ZERO), Ok(None));
        let next = incoming.take(0, young[1].clone(), Duration::ZERO).unwrap().unwrap();
        assert_eq!(next.ack.received, 20);
        // A newer leader's counts, whatever its index.
        let newer = chunks(message(4, 10, 30), 10);
        let taken = incoming.take(0, newer[0].clone(), Duration::ZERO).unwrap().unwrap();
        assert_eq!((taken.ack.index, taken.ack.received), (10, 10));
        incoming.sweep(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(incoming.len(), 0);
    }
}
