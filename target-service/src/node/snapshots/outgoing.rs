//! Snapshots on their way to peers: in chunks, a few of them unacknowledged, one snapshot at a time to each peer, and all
//! of them together within a rate, so that replication is not starved.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use firedrill_proto::chat::v1::{RaftMessage, SnapshotAck, SnapshotChunk};
use xxhash_rust::xxh3::xxh3_64;

/// Chunks to one peer that may be unacknowledged.
const WINDOW_CHUNKS: usize = 4;

/// Everything that is being sent.
#[derive(Debug)]
pub(in crate::node) struct Outgoing {
    chunk_bytes: usize,
    /// 0 is no limit.
    bytes_per_second: u64,
    /// After how long an unanswered chunk counts as lost.
    resend_after: Duration,
    /// Bytes that may be sent now.
    allowance: f64,
    filled_at: Duration,
    /// By peer; the first of each is on its way, the others wait. At most one for each shard.
    to: BTreeMap<u64, VecDeque<Transfer>>,
    bytes: u64,
}

#[derive(Debug)]
struct Transfer {
    shard: u32,
    head: RaftMessage,
    index: u64,
    data: Bytes,
    digest: u64,
    acknowledged: usize,
    sent: usize,
    /// When something was last sent anew or acknowledged.
    moved_at: Duration,
}

impl Outgoing {
    pub(in crate::node) fn new(chunk_bytes: usize, bytes_per_second: u64, resend_after: Duration) -> Self {
        Self {
            chunk_bytes: chunk_bytes.max(1),
            bytes_per_second,
            resend_after,
            allowance: 0.0,
            filled_at: Duration::ZERO,
            to: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// Begins to send `message`'s snapshot; takes the place of an earlier one of that shard to that peer, and goes on
    /// where it stood if it is the same.
    pub(in crate::node) fn start(&mut self, shard: u32, mut message: RaftMessage, now: Duration) {
        let Some(snapshot) = &mut message.snapshot else {
            return;
        };
        let data = std::mem::take(&mut snapshot.data);
        let index = snapshot.index;
        let digest = xxh3_64(&data);
        let queue = self.to.entry(message.to).or_default();
        let fresh = Transfer {
            shard,
            head: message,
            index,
            data,
            digest,
            acknowledged: 0,
            sent: 0,
            moved_at: now,
        };
        match queue.iter_mut().find(|transfer| transfer.shard == shard) {
            Some(same) if (same.index, same.digest) == (index, digest) => same.head = fresh.head,
            Some(other) => *other = fresh,
            None => queue.push_back(fresh),
        }
    }

    /// Gives up what `wanted` (shard, peer) no longer holds for.
    pub(in crate::node) fn retain(&mut self, mut wanted: impl FnMut(u32, u64) -> bool) {
        for (&peer, queue) in &mut self.to {
            queue.retain(|transfer| wanted(transfer.shard, peer));
        }
        self.to.retain(|_, queue| !queue.is_empty());
    }

    /// Takes a peer's word for how far it is. Returns whether that is further than before.
    pub(in crate::node) fn acknowledged(&mut self, peer: u64, shard: u32, ack: &SnapshotAck, now: Duration) -> bool {
        let Some(queue) = self.to.get_mut(&peer) else {
            return false;
        };
        let Some(at) = queue
            .iter()
            .position(|it| (it.shard, it.index, it.digest) == (shard, ack.index, ack.digest))
        else {
            return false;
        };
        let transfer = &mut queue[at];
        let received = usize::try_from(ack.received).unwrap_or(usize::MAX);
        if received > transfer.data.len() {
            return false;
        }
        let further = received > transfer.acknowledged;
        if further {
            transfer.moved_at = now;
            transfer.sent = transfer.sent.max(received);
        } else if received < transfer.acknowledged {
            // The peer has started anew, or this answer was late: what it repeats then costs little.
            transfer.sent = received;
        }
        transfer.acknowledged = received;
        let whole = received == transfer.data.len();
        if whole {
            queue.remove(at);
            self.to.retain(|_, queue| !queue.is_empty());
        }
        further || whole
    }

    /// Hands out the chunks that may go now.
    pub(in crate::node) fn pump(&mut self, now: Duration, mut send: impl FnMut(u64, u32, SnapshotChunk)) {
        let burst = (WINDOW_CHUNKS * self.chunk_bytes) as f64;
        if self.bytes_per_second == 0 {
            self.allowance = f64::INFINITY;
        } else {
            let passed = now.saturating_sub(self.filled_at).as_secs_f64();
            self.allowance = (self.allowance + passed * self.bytes_per_second as f64).min(burst);
        }
        self.filled_at = self.filled_at.max(now);
        for (&peer, queue) in &mut self.to {
            let Some(transfer) = queue.front_mut() else { continue };
            if now.saturating_sub(transfer.moved_at) >= self.resend_after {
                transfer.sent = transfer.acknowledged;
            }
            let window = transfer.acknowledged + WINDOW_CHUNKS * self.chunk_bytes;
            while self.allowance >= self.chunk_bytes as f64 {
                // An empty state is one empty chunk.
                let more = transfer.sent < transfer.data.len() || transfer.data.is_empty();
                if !more || transfer.sent >= window {
                    break;
                }
                let end = transfer.data.len().min(transfer.sent + self.chunk_bytes);
                let chunk = SnapshotChunk {
                    head: Some(transfer.head.clone()),
                    total: transfer.data.len() as u64,
                    digest: transfer.digest,
                    offset: transfer.sent as u64,
                    data: transfer.data.slice(transfer.sent..end),
                };
                if transfer.sent == transfer.acknowledged {
                    transfer.moved_at = now;
                }
                self.allowance -= (end - transfer.sent) as f64;
                self.bytes += (end - transfer.sent) as u64;
                transfer.sent = end;
                send(peer, transfer.shard, chunk);
                if transfer.data.is_empty() {
                    break;
                }
            }
        }
    }

    /// The least index whose snapshot of `shard` is being sent: whoever gets it needs the log behind it.
    pub(in crate::node) fn least_index(&self, shard: u32) -> Option<u64> {
        let all = self.to.values().flatten();
        all.filter(|it| it.shard == shard).map(|it| it.index).min()
    }

    /// Whom the snapshots go to, by (shard, peer).
    pub(in crate::node) fn waiting(&self) -> impl Iterator<Item = (u32, u64)> {
        // The first of each peer has to move by itself.
        let waits = |(&peer, queue): (&u64, &VecDeque<Transfer>)| {
            let shards: Vec<u32> = queue.iter().skip(1).map(|it| it.shard).collect();
            shards.into_iter().map(move |shard| (shard, peer))
        };
        self.to.iter().flat_map(waits)
    }

    /// Snapshots under way or waiting.
    pub(in crate::node) fn len(&self) -> usize {
        self.to.values().map(VecDeque::len).sum()
    }

    /// Bytes sent, repeated ones included.
    pub(in crate::node) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::Snapshot;

    use super::*;

    const RESEND: Duration = Duration::from_millis(100);

    fn message(to: u64, index: u64, bytes: usize) -> RaftMessage {
        let data: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
        RaftMessage {
            to,
            snapshot: Some(Snapshot {
                index,
                data: data.into(),
                ..Snapshot::default()
            }),
            ..RaftMessage::default()
        }
    }

    fn pumped(outgoing: &mut Outgoing, ms: u64) -> Vec<(u64, u32, SnapshotChunk)> {
        let mut out = Vec::new();
        outgoing.pump(Duration::from_millis(ms), |peer, shard, chunk| {
            out.push((peer, shard, chunk))
        });
        out
    }

    fn ack(of: &SnapshotChunk, received: u64) -> SnapshotAck {
        let index = of.head.as_ref().and_then(|head| head.snapshot.as_ref()).unwrap().index;
        SnapshotAck {
            index,
            digest: of.digest,
            received,
        }
    }

    #[test]
    fn a_window_goes_out_and_the_next_one_after_an_answer() {
        let mut outgoing = Outgoing::new(10, 0, RESEND);
        outgoing.start(1, message(2, 7, 95), Duration::ZERO);
        let first = pumped(&mut outgoing, 0);
        assert_eq!(
            first.iter().map(|(.., it)| it.offset).collect::<Vec<_>>(),
            [0, 10, 20, 30]
        );
        assert!(pumped(&mut outgoing, 50).is_empty(), "nobody answered");
        let now = Duration::from_millis(60);
        assert!(outgoing.acknowledged(2, 1, &ack(&first[0].2, 20), now));
        let next = pumped(&mut outgoing, 60);
        assert_eq!(next.iter().map(|(.., it)| it.offset).collect::<Vec<_>>(), [40, 50]);
        // Nothing more is heard: it goes on where the peer was.
        let again = pumped(&mut outgoing, 200);
        assert_eq!(again[0].2.offset, 20);
        // The peer has lost what it had.
        assert!(!outgoing.acknowledged(2, 1, &ack(&first[0].2, 0), now));
        assert_eq!(pumped(&mut outgoing, 201)[0].2.offset, 0);
        assert!(outgoing.acknowledged(2, 1, &ack(&first[0].2, 95), now));
        assert_eq!(outgoing.len(), 0);
    }

    #[test]
    fn one_snapshot_at_a_time_goes_to_a_peer_and_all_keep_to_the_rate() {
        let mut outgoing = Outgoing::new(10, 1000, RESEND);
        for shard in 0..3 {
            outgoing.start(shard, message(2, 7, 20), Duration::ZERO);
            outgoing.start(shard, message(3, 7, 20), Duration::ZERO);
        }
        assert_eq!(outgoing.waiting().collect::<Vec<_>>(), [(1, 2), (2, 2), (1, 3), (2, 3)]);
        let (mut sent, mut done) = (0, BTreeMap::from([(2, 0), (3, 0)]));
        for ms in 0..200 {
            for (peer, shard, chunk) in pumped(&mut outgoing, ms) {
                sent += chunk.data.len();
                assert_eq!(shard, done[&peer], "in turn");
                let received = chunk.offset + chunk.data.len() as u64;
                outgoing.acknowledged(peer, shard, &ack(&chunk, received), Duration::from_millis(ms));
                *done.get_mut(&peer).unwrap() += u32::from(received == 20);
            }
            assert!(sent as u64 <= ms + 40, "{sent} bytes after {ms} ms");
        }
        assert_eq!((sent, done), (120, BTreeMap::from([(2, 3), (3, 3)])));
    }

    #[test]
    fn the_same_snapshot_goes_on_and_another_takes_its_place() {
        let mut outgoing = Outgoing::new(10, 0, RESEND);
        outgoing.start(1, message(2, 7, 95), Duration::ZERO);
        let first = pumped(&mut outgoing, 0);
        outgoing.acknowledged(2, 1, &ack(&first[0].2, 40), Duration::ZERO);
        outgoing.start(1, message(2, 7, 95), Duration::ZERO);
        assert_eq!(pumped(&mut outgoing, 1)[0].2.offset, 40);
        outgoing.start(1, message(2, 8, 95), Duration::ZERO);
        assert_eq!(outgoing.least_index(1), Some(8));
        assert_eq!(pumped(&mut outgoing, 2)[0].2.offset, 0);
        assert!(
            !outgoing.acknowledged(2, 1, &ack(&first[0].2, 95), Duration::ZERO),
            "an answer to the old one"
        );
        outgoing.retain(|_, _| false);
        assert_eq!((outgoing.len(), outgoing.least_index(1)), (0, None));
    }
}
