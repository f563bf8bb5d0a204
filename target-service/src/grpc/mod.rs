//! gRPC in front of a node: everything that knows tonic's server, and the transport between nodes.
//!
//! Two planes on two listeners, so that either can be cut without the other. On the **client plane** stand Messaging,
//! Admin, health and reflection; their handlers only translate between gRPC and `node::ClientApi`. On the **back-end
//! plane** stands Replication: each node dials each of its peers and says there what it has to say, one way.

mod admin_plane;
mod client_plane;
mod dial;
mod peer_book;
mod peer_plane;
mod peer_queue;
mod peer_transport;
mod serve;
mod status;
mod trace;

pub(crate) use dial::Connector;
pub use dial::{DialError, dial};
pub(crate) use peer_book::PeerBook;
pub use peer_plane::serve_peers;
pub use peer_transport::{FRAME_BYTES_MAX, PeerCounts, PeerOptions, PeerSink, PeerTransport};
pub use serve::{ClientPlaneOptions, ServeError, serve_clients};
pub use status::{DOMAIN, from_status, to_status};
pub use trace::inject;
