//! The real transport between nodes: for each peer one task, one bounded queue, and one HTTP/2 connection that this
//! node dialled and that carries only this node's messages.
//!
//! **Noticing a death.** A process that dies closes its sockets at once, so a connection that ends, in either
//! direction, is looked into at once by one fresh dial. Refused: the process is gone, and the node is told
//! (`PeerSink::peer_reset`), once for each life of the peer. Accepted: only the connection had died. Silent: the
//! network is cut or the process frozen, which only consensus' timers can judge.
//!
//! **Noticing silence.** Pings on an otherwise healthy connection end it when no answer came within
//! [`PeerOptions::keepalive_interval`] + [`PeerOptions::keepalive_timeout`]. A cut that heals earlier only stalls the
//! connection, which then goes on where it was.
//!
//! **Coming back.** How soon nodes talk again after a heal is decided here. An attempt into a cut waits for its whole
//! connect timeout (300 ms) and is followed by the next at once, so that one is always under way, and completes the
//! moment a link that held it lets go. Attempts that fail fast are spaced, from start to start, by a jittered back-off
//! of 10 ms doubling to 500 ms. A peer that connects to us is dialled back at once, whatever the back-off.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use firedrill_proto::chat::v1::{PeerMessage, replication_client::ReplicationClient};
use prost::Message as _;
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;
use tokio::{net::TcpStream, sync::Notify, task::JoinSet};
use tonic::{Code, Request, transport::Endpoint};

use super::{
    dial::{DialError, Ready, dial},
    peer_book::PeerBook,
    peer_queue::PeerQueue,
};
use crate::{
    env::{Clock, Streams, Transport},
    node::{NodeHandle, PROTOCOL_HEADER},
};

/// Largest frame between nodes, in bytes: room for one entry of any size. Snapshots travel in parts.
pub const FRAME_BYTES_MAX: usize = 128 << 20;
/// The request header in which a node names itself on the stream it opens.
pub(crate) const NODE_HEADER: &str = "chat-peer-node";
/// The request header in which it names its data folder.
pub(crate) const INCARNATION_HEADER: &str = "chat-peer-incarnation";
/// The request header in which it names its cluster.
pub(crate) const CLUSTER_HEADER: &str = "chat-peer-cluster";
/// The request header in which it says how it is configured, where all nodes must be alike.
pub(crate) const AGREED_HEADER: &str = "chat-peer-agreed";
/// What may be on the way to a peer unread, in bytes: all that a stall can hold beyond the queue.
pub(crate) const WINDOW_BYTES: u32 = 4 << 20;
/// A connection that lasted this long proves that the peer serves: the back-off starts anew after it.
const STEADY: Duration = Duration::from_secs(1);
/// Room in a frame beside its message.
const FRAME_OVERHEAD_BYTES: usize = 1 << 10;

/// What the transport tells the node.
pub trait PeerSink: Clone + Send + Sync + 'static {
    /// Hands over messages of the node `from`. Never waits, and may drop.
    fn deliver(&self, from: u64, messages: Vec<PeerMessage>);
    /// The process of `peer` is gone: its connection closed and a fresh dial was refused.
    fn peer_reset(&self, peer: u64);
}

impl PeerSink for NodeHandle {
    fn deliver(&self, from: u64, messages: Vec<PeerMessage>) {
        Self::deliver(self, from, messages);
    }

    fn peer_reset(&self, peer: u64) {
        Self::peer_reset(self, peer);
    }
}

/// The transport's times.
#[derive(Clone, Copy, Debug)]
pub struct PeerOptions {
    /// How long one dial may take until the peer's first byte.
    pub connect_timeout: Duration,
    /// Shortest back-off between the starts of two dials.
    pub backoff_min: Duration,
    /// Longest back-off between the starts of two dials.
    pub backoff_max: Duration,
    /// A ping is sent at this interval.
    pub keepalive_interval: Duration,
    /// A ping that is not answered within this time ends the connection.
    pub keepalive_timeout: Duration,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_millis(300),
            backoff_min: Duration::from_millis(10),
            backoff_max: Duration::from_millis(500),
            keepalive_interval: Duration::from_millis(500),
            keepalive_timeout: Duration::from_secs(1),
        }
    }
}

#[derive(Debug)]
struct Peer {
    address: String,
    queue: PeerQueue,
    /// The peer opened a stream to us.
    came: Notify,
    /// The peer's newest stream to us ended.
    left: Notify,
    /// Counts the peer's streams to us: only the newest is listened to, so that order holds over a reconnect.
    incoming: AtomicU64,
}

/// Messages dropped and sent, by peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Dropped from the queue, or too large to send.
    pub dropped: u64,
    /// Handed to a connection. They may still have been lost with it.
    pub sent: u64,
}

/// The transport of one node to its peers. Cloning shares it.
#[derive(Clone, Debug)]
pub struct PeerTransport {
    node: u64,
    peers: Arc<BTreeMap<u64, Peer>>,
    /// Who this node is and who its peers are, once its disk is open.
    book: Arc<OnceLock<PeerBook>>,
}

impl PeerTransport {
    /// The transport of `node` to `peers` (addresses `host:port` by node id; this node's own is ignored). Messages
    /// wait in the queues until [`PeerTransport::run`] connects.
    #[must_use]
    pub fn new(node: u64, peers: &BTreeMap<u64, String>) -> Self {
        let peer = |address: &String| Peer {
            address: address.clone(),
            queue: PeerQueue::default(),
            came: Notify::new(),
            left: Notify::new(),
            incoming: AtomicU64::new(0),
        };
        let others = peers.iter().filter(|(id, _)| **id != node);
        Self {
            node,
            peers: Arc::new(others.map(|(id, address)| (*id, peer(address))).collect()),
            book: Arc::default(),
        }
    }

    /// From now on this node says who it is, and hears only peers that say so and are who they were. To be called before
    /// [`PeerTransport::run`] and the back-end plane start; later calls change nothing.
    pub(crate) fn identify(&self, book: PeerBook) {
        let _ = self.book.set(book);
    }

    /// What is known of the peers, if this node knows who it is.
    pub(crate) fn book(&self) -> Option<&PeerBook> {
        self.book.get()
    }

    /// Keeps a connection to each peer until [`PeerTransport::close`], telling `sink` of the peers that died.
    pub async fn run<S: PeerSink>(self, options: PeerOptions, streams: Streams, clock: Clock, sink: S) {
        let mut tasks = JoinSet::new();
        for id in self.peers.keys().copied() {
            let dialler = Dialler {
                transport: self.clone(),
                peer: id,
                options,
                clock: clock.clone(),
                backoff: options.backoff_min,
                rng: streams.stream(&format!("peer-dial-{}-{id}", self.node)),
                lives: false,
                sink: sink.clone(),
            };
            tasks.spawn(dialler.run());
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Accepts nothing more to send, and lets [`PeerTransport::run`] end once connected peers have taken the rest.
    pub fn close(&self) {
        for peer in self.peers.values() {
            peer.queue.close();
            // Wakes a dialler from its back-off; it finds the queue closed.
            peer.came.notify_one();
        }
    }

    /// Dropped and sent messages, by peer.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<u64, PeerCounts> {
        let counts = |peer: &Peer| {
            let (dropped, sent) = peer.queue.counts();
            PeerCounts { dropped, sent }
        };
        self.peers.iter().map(|(id, peer)| (*id, counts(peer))).collect()
    }

    /// Notes that `peer` opened a stream to this node; `None` when it is no peer.
    pub(crate) fn incoming(&self, peer: u64) -> Option<Incoming> {
        let entry = self.peers.get(&peer)?;
        let number = entry.incoming.fetch_add(1, Ordering::AcqRel) + 1;
        entry.came.notify_one();
        Some(Incoming {
            transport: self.clone(),
            peer,
            number,
        })
    }

    /// Whether `peer` is one.
    pub(crate) fn knows(&self, peer: u64) -> bool {
        self.peers.contains_key(&peer)
    }

    /// This node's id.
    pub(crate) fn node(&self) -> u64 {
        self.node
    }
}

impl Transport for PeerTransport {
    fn send(&self, to: u64, messages: Vec<PeerMessage>) {
        let Some(peer) = self.peers.get(&to) else {
            tracing::warn!(to, "a message to a node that is no peer was dropped");
            return;
        };
        let (small, large): (Vec<_>, Vec<_>) = messages
            .into_iter()
            .partition(|message| message.encoded_len() + FRAME_OVERHEAD_BYTES <= FRAME_BYTES_MAX);
        for message in large {
            let bytes = message.encoded_len();
            tracing::error!(
                to,
                bytes,
                max = FRAME_BYTES_MAX,
                "a message too large for a frame was dropped"
            );
        }
        peer.queue.push(small);
    }
}

/// One stream that a peer opened to this node. Its end is evidence, so it is noted when this is dropped.
#[derive(Debug)]
pub(crate) struct Incoming {
    transport: PeerTransport,
    peer: u64,
    number: u64,
}

impl Incoming {
    /// Whether the peer has opened no newer stream since.
    pub(crate) fn is_newest(&self) -> bool {
        let entry = self.transport.peers.get(&self.peer);
        entry.is_some_and(|entry| entry.incoming.load(Ordering::Acquire) == self.number)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.is_newest()
            && let Some(entry) = self.transport.peers.get(&self.peer)
        {
            entry.left.notify_one();
        }
    }
}

/// The task of one peer.
struct Dialler<S> {
    transport: PeerTransport,
    peer: u64,
    options: PeerOptions,
    clock: Clock,
    backoff: Duration,
    rng: ChaCha8Rng,
    /// The peer was heard of since the node was last told that it is gone.
    lives: bool,
    sink: S,
}

/// How a connection ended.
enum Ended {
    /// The queue was closed and the peer has confirmed all that it held.
    Finished,
    /// It broke, or was given up for silence.
    Broken,
    /// The peer is gone, by a dial that was refused while the connection still seemed open.
    Gone,
}

impl<S: PeerSink> Dialler<S> {
    fn entry(&self) -> Option<&Peer> {
        self.transport.peers.get(&self.peer)
    }

    async fn run(mut self) {
        let shared = self.transport.clone();
        let Some(entry) = shared.peers.get(&self.peer) else {
            return;
        };
        loop {
            let started = self.clock.now();
            let mut silent = false;
            match dial(&entry.address, self.options.connect_timeout).await {
                Ok(stream) => {
                    tracing::debug!(peer = self.peer, "connected");
                    self.lives = true;
                    match self.serve(stream).await {
                        Ended::Finished => return,
                        Ended::Broken => {}
                        Ended::Gone => self.gone(),
                    }
                    if self.clock.now() - started >= STEADY {
                        self.backoff = self.options.backoff_min;
                    }
                }
                Err(DialError::Refused(why)) => {
                    tracing::debug!(peer = self.peer, why, "refused");
                    self.gone();
                }
                Err(DialError::TimedOut(why)) => {
                    tracing::debug!(peer = self.peer, why, "silent");
                    self.backoff = self.options.backoff_min;
                    silent = true;
                }
                Err(DialError::Failed(why)) => tracing::debug!(peer = self.peer, why, "no connection"),
            }
            if entry.queue.is_closed() {
                return;
            }
            if !silent {
                self.wait(entry, started).await;
            }
        }
    }

    fn gone(&mut self) {
        if std::mem::replace(&mut self.lives, false) {
            tracing::info!(peer = self.peer, "the peer's process is gone");
            self.sink.peer_reset(self.peer);
        }
    }

    /// Waits until the next dial is due: `backoff` after `started`, or at once when something was seen of the peer.
    async fn wait(&mut self, entry: &Peer, started: Duration) {
        let half = self.backoff / 2;
        let due = started + half + half.mul_f64(self.rng.random_range(0.0..=1.0));
        self.backoff = (self.backoff * 2).min(self.options.backoff_max);
        tokio::select! {
            biased;
            () = entry.came.notified() => {
                self.lives = true;
                self.backoff = self.options.backoff_min;
            }
            () = entry.left.notified(), if self.lives => {}
            () = self.clock.sleep_until(due) => {}
        }
    }

    /// Sends the queue over `stream` until it ends.
    async fn serve(&self, stream: TcpStream) -> Ended {
        let Some(entry) = self.entry() else {
            return Ended::Finished;
        };
        let mut client = match self.client(stream).await {
            Ok(client) => client,
            Err(why) => {
                tracing::debug!(peer = self.peer, %why, "no HTTP/2 connection");
                return Ended::Broken;
            }
        };
        let mut request = Request::new(entry.queue.frames(self.transport.node, self.peer));
        let headers = request.metadata_mut();
        headers.insert(NODE_HEADER, self.transport.node.into());
        if let Some(book) = self.transport.book() {
            let own = book.own();
            if let Ok(speaks) = book.speaks().to_string().parse() {
                headers.insert(PROTOCOL_HEADER, speaks);
            }
            if let Ok(agreed) = book.agreed().parse() {
                headers.insert(AGREED_HEADER, agreed);
            }
            headers.insert(INCARNATION_HEADER, own.incarnation.into());
            // Checked with the rest of the configuration, so that it is a header's value.
            if let Ok(cluster) = own.cluster.parse() {
                headers.insert(CLUSTER_HEADER, cluster);
            }
        }
        let call = client.deliver(request);
        tokio::pin!(call);
        loop {
            tokio::select! {
                biased;
                outcome = &mut call => return match outcome {
                    Ok(_) if entry.queue.is_closed() => Ended::Finished,
                    Ok(_) => Ended::Broken,
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        tracing::error!(peer = self.peer, why = status.message(), "the peer refuses to hear this node");
                        Ended::Broken
                    }
                    Err(status) => {
                        tracing::debug!(peer = self.peer, why = status.message(), "connection ended");
                        Ended::Broken
                    }
                },
                refused = self.refused_after_leaving(entry) => if refused {
                    return Ended::Gone;
                }
            }
        }
    }

    /// Waits for the peer's own stream to end, and looks whether the peer is gone.
    async fn refused_after_leaving(&self, entry: &Peer) -> bool {
        entry.left.notified().await;
        let outcome = dial(&entry.address, self.options.connect_timeout).await;
        matches!(outcome, Err(DialError::Refused(_)))
    }

    async fn client(
        &self,
        stream: TcpStream,
    ) -> Result<ReplicationClient<tonic::transport::Channel>, tonic::transport::Error> {
        let endpoint = Endpoint::from_static("http://peer")
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .http2_keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect_with_connector(Ready(Some(stream))).await?;
        Ok(ReplicationClient::new(channel).max_encoding_message_size(FRAME_BYTES_MAX))
    }
}

#[cfg(test)]
mod tests;
