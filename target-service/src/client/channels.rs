//! Connections to the nodes: few, lazily made, each carrying many sessions.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tonic::transport::{Channel, Endpoint};

use crate::grpc::Connector;

/// How connections are made and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Connections to each node. A session always uses the same one of them.
    pub connections_per_node: usize,
    /// How long one dial may take until the server's first byte. Less than a call's deadline, so that a call which
    /// could not be sent is known as such.
    pub connect_timeout: Duration,
    /// A ping is sent at this interval.
    pub keepalive_interval: Duration,
    /// A ping that is not answered within this time ends the connection and fails what is on it.
    pub keepalive_timeout: Duration,
    /// What one stream may have on its way unread, in bytes.
    pub stream_window_bytes: u32,
    /// What one connection may have on its way unread, in bytes.
    pub connection_window_bytes: u32,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            connections_per_node: 2,
            connect_timeout: Duration::from_millis(500),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(2),
            stream_window_bytes: 64 << 10,
            connection_window_bytes: 16 << 20,
        }
    }
}

/// The connections to a cluster's nodes. Cloning shares them.
#[derive(Clone, Debug)]
pub struct Channels {
    addresses: Arc<BTreeMap<u64, String>>,
    options: ChannelOptions,
    open: Arc<Mutex<BTreeMap<(u64, usize), Channel>>>,
}

impl Channels {
    /// Connections to `addresses` (`host:port` by node id): the nodes' own, or those of whatever stands before them.
    #[must_use]
    pub fn new(addresses: BTreeMap<u64, String>, options: ChannelOptions) -> Self {
        Self {
            addresses: Arc::new(addresses),
            options,
            open: Arc::default(),
        }
    }

    /// The nodes that can be reached.
    pub fn nodes(&self) -> impl Iterator<Item = u64> {
        self.addresses.keys().copied()
    }

    /// The connection of `lane` to `node`; `None` when `node` has no address. Made when it is first used, and again
    /// whenever it broke; must be called on a runtime.
    #[must_use]
    pub fn get(&self, node: u64, lane: u64) -> Option<Channel> {
        let address = self.addresses.get(&node)?;
        let lanes = self.options.connections_per_node.max(1) as u64;
        let lane = usize::try_from(lane % lanes).unwrap_or(0);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let channel = open.entry((node, lane)).or_insert_with(|| self.connect(address));
        Some(channel.clone())
    }

    fn connect(&self, address: &str) -> Channel {
        // The connector knows where to go; the URI is only what stands in the requests.
        Endpoint::from_static("http://chat")
            .initial_stream_window_size(self.options.stream_window_bytes)
            .initial_connection_window_size(self.options.connection_window_bytes)
            .http2_keep_alive_interval(self.options.keepalive_interval)
            .keep_alive_timeout(self.options.keepalive_timeout)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(Connector::new(address, self.options.connect_timeout))
    }
}
