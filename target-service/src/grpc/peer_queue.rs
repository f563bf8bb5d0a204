//! What waits to be sent to one peer: bounded in messages and bytes, the oldest dropped first.
//!
//! A cut can last for hours, and what was said at its start is of no use at its end: a consensus message is worth
//! something for about an election timeout. So the queue keeps the newest, and a new connection starts with only a
//! handful of them. Whatever is dropped here, consensus repeats.
//!
//! What carries entries goes first: a vote or a heartbeat is small, and a shard that loses one for the bulk of another
//! shard loses its leader for it.
//!
//! Snapshots wait beside the queue, the newest of each shard: one alone is larger than the queue's bound, and dropping it
//! for the messages that follow would keep the follower away for as long as there are any. They take turns with the
//! queue, so that neither starves.

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use firedrill_proto::chat::v1::{PeerFrame, PeerMessage, RaftMessageKind, peer_message::Message};
use prost::Message as _;
use tokio_stream::Stream;

use crate::node::CATCH_UP_BYTES_MAX;

/// Messages that may wait for one peer.
pub(crate) const MESSAGES_MAX: usize = 1024;
/// Bytes that may wait for one peer, snapshots aside. A single message may be larger if it waits alone.
pub(crate) const BYTES_MAX: usize = 4 << 20;
// A follower that catches up is sent this much at once, merged to one message: it must not be all that fits.
const _: () = assert!(CATCH_UP_BYTES_MAX * 2 <= BYTES_MAX as u64);
/// Messages that a new connection starts with.
const FRESH_MESSAGES_MAX: usize = 64;
/// Messages of one frame.
const FRAME_MESSAGES_MAX: usize = 256;
/// Bytes of one frame, unless its first message alone is larger.
const FRAME_BYTES_MAX: usize = 512 << 10;

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(usize, PeerMessage)>,
    /// Bytes in `waiting`.
    bytes: usize,
    /// The newest of each shard.
    snapshots: BTreeMap<u32, PeerMessage>,
    /// Whose turn it is when both wait: a snapshot's, since the last frame came from the queue.
    snapshot_next: bool,
    dropped: u64,
    sent: u64,
    waker: Option<Waker>,
    /// Only the newest stream may take: an older one that still lives has ended.
    generation: u64,
    /// Nothing is accepted any more, and a stream ends once it has taken the rest.
    closed: bool,
}

impl State {
    fn pop(&mut self) -> Option<(usize, PeerMessage)> {
        let (size, message) = self.waiting.pop_front()?;
        self.bytes -= size;
        Some((size, message))
    }

    fn drop_oldest_while(&mut self, too_much: impl Fn(&Self) -> bool) {
        while too_much(self) && self.pop().is_some() {
            self.dropped += 1;
        }
    }

    /// Makes room for a message of `size` bytes: of what is bulky the oldest goes first, then the oldest of the rest.
    fn make_room_for(&mut self, size: usize) {
        while !self.waiting.is_empty() && (self.waiting.len() >= MESSAGES_MAX || self.bytes + size > BYTES_MAX) {
            let bulky = self.waiting.iter().position(|(_, message)| is_bulky(message));
            if let Some((size, _)) = self.waiting.remove(bulky.unwrap_or(0)) {
                self.bytes -= size;
                self.dropped += 1;
            }
        }
    }

    /// The messages of the next frame: some from the queue, or one snapshot.
    fn next_frame(&mut self) -> Vec<PeerMessage> {
        if (self.snapshot_next || self.waiting.is_empty())
            && let Some((_, snapshot)) = self.snapshots.pop_first()
        {
            self.snapshot_next = false;
            return vec![snapshot];
        }
        self.snapshot_next = true;
        let mut messages = Vec::new();
        let mut bytes = 0;
        while let Some((size, _)) = self.waiting.front() {
            let full = messages.len() >= FRAME_MESSAGES_MAX || bytes + size > FRAME_BYTES_MAX;
            if full && !messages.is_empty() {
                break;
            }
            if let Some((size, message)) = self.pop() {
                bytes += size;
                messages.push(message);
            }
        }
        messages
    }
}

fn is_snapshot(message: &PeerMessage) -> bool {
    matches!(&message.message, Some(Message::Raft(raft)) if raft.kind() == RaftMessageKind::Snapshot)
}

fn is_bulky(message: &PeerMessage) -> bool {
    match &message.message {
        Some(Message::Raft(raft)) => !raft.entries.is_empty(),
        Some(Message::Outbox(_) | Message::SnapshotChunk(_)) => true,
        _ => false,
    }
}

/// The queue of one peer. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct PeerQueue {
    state: Arc<Mutex<State>>,
}

impl PeerQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a poisoned lock still guards a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds `messages`, dropping the oldest of all while over the bounds; a snapshot replaces an older one of its shard.
    /// Never waits.
    pub(crate) fn push(&self, messages: Vec<PeerMessage>) {
        let waker = {
            let mut state = self.state();
            if state.closed {
                state.dropped += messages.len() as u64;
                return;
            }
            for message in messages {
                if is_snapshot(&message) {
                    let older = state.snapshots.insert(message.shard, message);
                    state.dropped += u64::from(older.is_some());
                    continue;
                }
                let size = message.encoded_len();
                state.make_room_for(size);
                state.bytes += size;
                state.waiting.push_back((size, message));
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Starts the stream of a new connection: all but the newest messages and the snapshots are dropped, and earlier
    /// streams end.
    pub(crate) fn frames(&self, from: u64, to: u64) -> Frames {
        let mut state = self.state();
        state.drop_oldest_while(|state| state.waiting.len() > FRESH_MESSAGES_MAX);
        state.generation += 1;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        Frames {
            generation: state.generation,
            queue: self.clone(),
            from,
            to,
        }
    }

    /// Accepts nothing more; the stream ends once what waits was taken.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }

    /// Whether [`PeerQueue::close`] was called.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Messages dropped and messages handed to a connection, since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state();
        (state.dropped, state.sent)
    }
}

/// The frames of one connection, as long as it is the newest.
#[derive(Debug)]
pub(crate) struct Frames {
    queue: PeerQueue,
    generation: u64,
    from: u64,
    to: u64,
}

impl Stream for Frames {
    type Item = PeerFrame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<PeerFrame>> {
        let mut state = self.queue.state();
        if state.generation != self.generation {
            return Poll::Ready(None);
        }
        let messages = state.next_frame();
        if messages.is_empty() {
            if state.closed {
                return Poll::Ready(None);
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.sent += messages.len() as u64;
        Poll::Ready(Some(PeerFrame {
            from: self.from,
            to: self.to,
            messages,
        }))
    }
}

#[cfg(test)]
mod tests {
    use firedrill_proto::chat::v1::{OutboxAck, OutboxBatch, OutboxItem, RaftMessage, Snapshot};
    use proptest::prelude::*;

    use super::*;

    fn message(number: u64, body: usize) -> PeerMessage {
        let item = OutboxItem {
            outbox_sequence: number,
            body: vec![0; body].into(),
            ..OutboxItem::default()
        };
        PeerMessage {
            shard: 0,
            message: Some(Message::Outbox(OutboxBatch {
                items: vec![item],
                ..OutboxBatch::default()
            })),
        }
    }

    fn number(message: &PeerMessage) -> u64 {
        match &message.message {
            Some(Message::Outbox(batch)) => batch.items[0].outbox_sequence,
            other => panic!("not one of ours: {other:?}"),
        }
    }

    fn take(frames: &mut Frames) -> Option<Option<PeerFrame>> {
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(frames).poll_next(&mut cx) {
            Poll::Ready(frame) => Some(frame),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_new_connection_ends_the_older_stream_and_starts_with_the_newest() {
        let queue = PeerQueue::default();
        let mut first = queue.frames(1, 2);
        queue.push((0..200).map(|n| message(n, 0)).collect());
        let mut second = queue.frames(1, 2);
        assert_eq!(take(&mut first), Some(None));
        let frame = take(&mut second).flatten().expect("a frame");
        assert_eq!((frame.from, frame.to), (1, 2));
        let numbers: Vec<_> = frame.messages.iter().map(number).collect();
        assert_eq!(numbers, (136..200).collect::<Vec<_>>());
        assert_eq!(queue.counts(), (136, 64));
        assert_eq!(take(&mut second), None);
    }

    #[test]
    fn a_message_larger_than_the_bound_goes_alone() {
        let queue = PeerQueue::default();
        let mut frames = queue.frames(1, 2);
        queue.push(vec![message(1, 10), message(2, BYTES_MAX + 1)]);
        let frame = take(&mut frames).flatten().expect("a frame");
        assert_eq!(frame.messages.iter().map(number).collect::<Vec<_>>(), [2]);
    }

    fn snapshot(shard: u32, index: u64, bytes: usize) -> PeerMessage {
        let snapshot = Snapshot {
            index,
            data: vec![0; bytes].into(),
            ..Snapshot::default()
        };
        let raft = RaftMessage {
            kind: RaftMessageKind::Snapshot.into(),
            snapshot: Some(snapshot),
            ..RaftMessage::default()
        };
        PeerMessage {
            shard,
            message: Some(Message::Raft(raft)),
        }
    }

    #[test]
    fn heartbeats_of_one_shard_outlast_the_entries_of_another() {
        let heartbeat = |shard| PeerMessage {
            shard,
            message: Some(Message::Raft(RaftMessage {
                kind: RaftMessageKind::Heartbeat.into(),
                ..RaftMessage::default()
            })),
        };
        let queue = PeerQueue::default();
        queue.push((1..=9).map(heartbeat).collect());
        queue.push((1..=20).map(|n| message(n, BYTES_MAX / 3)).collect());
        let state = queue.state();
        let shards: Vec<_> = state.waiting.iter().map(|(_, message)| message.shard).collect();
        assert_eq!(shards, [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0], "two of the twenty fit");
        assert_eq!(number(&state.waiting[10].1), 20, "the newest of them");
    }

    /// A snapshot's (shard, index); an ordinary message's (0, number).
    fn named(message: &PeerMessage) -> (u32, u64) {
        match &message.message {
            Some(Message::Raft(raft)) => (message.shard, raft.snapshot.as_ref().expect("a snapshot").index),
            _ => (0, number(message)),
        }
    }

    #[test]
    fn snapshots_of_all_shards_outlast_what_follows_and_a_new_connection() {
        let queue = PeerQueue::default();
        queue.push((1..=3).map(|shard| snapshot(shard, 7, BYTES_MAX + 1)).collect());
        queue.push((0..2000).map(|n| message(n, 5000)).collect());
        queue.push(vec![snapshot(2, 8, 10)]);
        let mut frames = queue.frames(1, 2);
        queue.push(vec![message(2000, 0)]);
        let mut taken = Vec::new();
        while let Some(frame) = take(&mut frames).flatten() {
            if frame.messages.iter().any(is_snapshot) {
                assert_eq!(frame.messages.len(), 1, "a snapshot has a frame of its own");
            }
            taken.extend(frame.messages.iter().map(named));
        }
        let snapshots: Vec<_> = taken.iter().copied().filter(|(shard, _)| *shard > 0).collect();
        assert_eq!(snapshots, [(1, 7), (2, 8), (3, 7)], "the newest of each shard");
        let queued: Vec<_> = taken.iter().filter(|(shard, _)| *shard == 0).map(|(_, n)| *n).collect();
        assert_eq!(queued, (1936..=2000).collect::<Vec<_>>());
        let (dropped, sent) = queue.counts();
        assert_eq!(
            (dropped, sent),
            (1 + 1936, 3 + 65),
            "the replaced snapshot counts as dropped"
        );
    }

    #[test]
    fn snapshots_and_the_queue_take_turns() {
        let queue = PeerQueue::default();
        let mut frames = queue.frames(1, 2);
        queue.push(vec![snapshot(1, 7, 10), snapshot(2, 7, 10)]);
        queue.push((1..=3).map(|n| message(n, FRAME_BYTES_MAX)).collect());
        let order: Vec<_> = std::iter::from_fn(|| take(&mut frames).flatten())
            .flat_map(|frame| frame.messages.iter().map(named).collect::<Vec<_>>())
            .collect();
        assert_eq!(order, [(0, 1), (1, 7), (0, 2), (2, 7), (0, 3)]);
    }

    #[test]
    fn a_closed_queue_gives_the_rest_and_ends() {
        let queue = PeerQueue::default();
        let mut frames = queue.frames(1, 2);
        queue.push(vec![message(1, 0)]);
        queue.close();
        queue.push(vec![message(2, 0)]);
        assert_eq!(take(&mut frames).flatten().expect("a frame").messages.len(), 1);
        assert_eq!(take(&mut frames), Some(None));
        assert_eq!(queue.counts(), (1, 1));
    }

    #[tokio::test]
    async fn a_push_wakes_a_waiting_stream() {
        use tokio_stream::StreamExt as _;
        let queue = PeerQueue::default();
        let mut frames = queue.frames(1, 2);
        let (frame, ()) = tokio::join!(frames.next(), async {
            tokio::task::yield_now().await;
            let ack = Message::OutboxAck(OutboxAck::default());
            queue.push(vec![PeerMessage {
                shard: 3,
                message: Some(ack),
            }]);
        });
        assert_eq!(frame.expect("a frame").messages[0].shard, 3);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bounded_ordered_and_counted(
            steps in proptest::collection::vec(
                prop_oneof![
                    (1_usize..600, 0_usize..20_000).prop_map(Some),
                    Just(None),
                ],
                1..30,
            ),
        ) {
            let queue = PeerQueue::default();
            let mut frames = queue.frames(1, 2);
            let (mut pushed, mut last, mut taken) = (0_u64, 0_u64, 0_u64);
            for step in steps {
                if let Some((count, body)) = step {
                    let batch = (0..count).map(|_| { pushed += 1; message(pushed, body) }).collect();
                    queue.push(batch);
                    let state = queue.state();
                    prop_assert!(state.waiting.len() <= MESSAGES_MAX);
                    prop_assert!(state.bytes <= BYTES_MAX);
                    prop_assert_eq!(state.bytes, state.waiting.iter().map(|(size, _)| size).sum::<usize>());
                } else if let Some(frame) = take(&mut frames).flatten() {
                    for message in &frame.messages {
                        prop_assert!(number(message) > last);
                        last = number(message);
                        taken += 1;
                    }
                }
            }
            let (dropped, sent) = queue.counts();
            prop_assert_eq!(sent, taken);
            prop_assert_eq!(pushed, dropped + sent + queue.state().waiting.len() as u64);
            // The newest message is never the one that was dropped.
            let newest = queue.state().waiting.back().map_or(last, |(_, message)| number(message));
            prop_assert_eq!(newest, pushed);
        }
    }
}
