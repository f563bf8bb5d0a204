//! Small clients for systems that are not ours: just enough to send load and to tell honestly how each attempt ended.
//!
//! Each makes one attempt for each call, on the node that it has settled on, and moves on to the next node when an
//! attempt there did not end well. To add one is a file with an implementation of [`OpClient`], and one line in [`ALL`].

mod channels;
mod etcd;
mod grpc_health;
mod http;
mod http1;
mod rotation;
mod tcp;
#[cfg(test)]
mod tests;

use std::{net::SocketAddr, sync::Arc};

pub(crate) use crate::workload::RequestSpec as ClientOptions;
use crate::{
    history::NodeStatus,
    workload::client::{CallFailure, OpClient},
};

/// The group whose leader etcd names.
pub use etcd::GROUP as ETCD_GROUP;
pub(in crate::system) use http1::Http1;

/// A node as its clients know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientNode {
    /// Its name.
    pub name: String,
    /// Where clients dial it: a link.
    pub address: SocketAddr,
}

/// A client, as the help and the loader of systems know it.
#[derive(Clone, Copy, Debug)]
pub struct ClientInfo {
    /// As in a scenario.
    pub name: &'static str,
    /// In one line.
    pub about: &'static str,
    /// Makes one.
    pub open: fn(Vec<ClientNode>, &ClientOptions) -> Arc<dyn OpClient>,
}

/// Every client.
pub const ALL: &[ClientInfo] = &[
    ClientInfo {
        name: "tcp",
        about: "connects, sends a few bytes if told to, and waits for an answer that begins as expected",
        open: |nodes, options| Arc::new(tcp::Tcp::new(nodes, options)),
    },
    ClientInfo {
        name: "http",
        about: "asks for a path by HTTP/1.1; an answer with a 2xx status is a success",
        open: |nodes, options| Arc::new(http::Http::new(nodes, options)),
    },
    ClientInfo {
        name: "grpc_health",
        about: "asks the gRPC health service; SERVING is a success",
        open: |nodes, options| Arc::new(grpc_health::GrpcHealth::new(nodes, options)),
    },
    ClientInfo {
        name: "etcd",
        about: "puts keys into etcd 3.4 or later, each once, and reads them back linearizably",
        open: |nodes, _| Arc::new(etcd::Etcd::new(nodes)),
    },
];

/// The client called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static ClientInfo> {
    ALL.iter().find(|client| client.name == name)
}

/// What the etcd node at `address` says of itself; none when it doesn't answer.
pub(in crate::system) async fn etcd_status(http: &Http1, address: SocketAddr) -> Option<NodeStatus> {
    etcd::status(http, address).await
}

/// A load asked for what a client doesn't do. Plans refuse it; this is what is left to say.
fn not_taken(client: &str) -> CallFailure {
    CallFailure {
        retryable: false,
        ..CallFailure::refused(format!("not something that `{client}` does"))
    }
}
