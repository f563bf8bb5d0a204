//! How a node reaches its peers.

use firedrill_proto::chat::v1::PeerMessage;

/// Sends messages to peers, one way. A message may be lost, late or repeated by reconnects, and never waits: a full
/// queue drops. Messages from one node to another that do arrive, arrive in order.
pub trait Transport: Send + Sync + 'static {
    /// Sends `messages` to the node `to`.
    fn send(&self, to: u64, messages: Vec<PeerMessage>);
}
