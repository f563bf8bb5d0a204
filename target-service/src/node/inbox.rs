//! The queues into a node's loop. All are bounded, and none makes anybody wait: what doesn't fit is refused, or, between
//! peers, dropped.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::PeerMessage;
use tokio::sync::{mpsc, oneshot};

use super::{api::Answer, requests::Request};

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Answer<T>>;

/// A call in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) request: Request,
    /// When its caller stops waiting, on the node's clock.
    pub(crate) deadline: Option<Duration>,
    /// The version of the protocol that its caller and this node share.
    pub(crate) protocol: u32,
    /// The caller's span: what the node does for it is told there.
    pub(crate) span: tracing::Span,
}

/// The bytes that may wait in a queue. Cloning shares them.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    taken: Arc<AtomicUsize>,
    max: usize,
}

/// Some of a [`Room`], given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    of: Arc<AtomicUsize>,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            taken: Arc::default(),
            max,
        }
    }

    /// Takes `bytes` if they fit, or if nothing else waits.
    pub(crate) fn take(&self, bytes: usize) -> Option<Taken> {
        let fits = |taken: usize| {
            let then = taken.saturating_add(bytes);
            (taken == 0 || then <= self.max).then_some(then)
        };
        let before = self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits);
        before.is_ok().then(|| Taken {
            of: Arc::clone(&self.taken),
            bytes,
        })
    }

    /// The bytes that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

/// What a peer, or the transport to it, said.
#[derive(Debug)]
pub(crate) enum FromPeer {
    Messages {
        from: u64,
        messages: Vec<PeerMessage>,
        /// What they take of the queue's bytes, until they are heard.
        room: Taken,
    },
    Reset {
        peer: u64,
    },
}

/// The receiving end of a node's queues: given to [`super::run`], once.
#[derive(Debug)]
pub struct Inbox {
    pub(crate) calls: mpsc::Receiver<Queued>,
    pub(crate) calls_max: usize,
    pub(crate) peers: mpsc::Receiver<FromPeer>,
    /// Open until the loop has ended, and all it does with it.
    pub(crate) stop: mpsc::Receiver<()>,
    /// Calls refused before they reached the loop.
    pub(crate) refused: Arc<AtomicU64>,
    /// The bytes that wait in `peers`.
    pub(crate) peer_room: Room,
    /// Batches of peers that were dropped before they reached the loop.
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Inbox {
    pub(crate) fn peers_dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back_and_what_is_larger_than_all_of_it_goes_alone() {
        let room = Room::new(100);
        let first = room.take(60);
        assert!(first.is_some() && room.take(41).is_none());
        let second = room.take(40);
        assert_eq!((second.is_some(), room.taken()), (true, 100));
        drop(first);
        assert_eq!(room.taken(), 40);
        assert!(room.take(1000).is_none());
        drop(second);
        let alone = room.take(1000);
        assert!(alone.is_some() && room.take(1).is_none());
        drop(alone);
        assert_eq!(room.taken(), 0);
    }
}
