//! One address for all who dial a node, for programs that tell each of their peers the same address of a node.
//!
//! Each connection belongs to the link of the node that made it, so that rules still hold for ordered pairs. Who made it
//! is found out when it is accepted; a connection that nobody known made is reset, and so is one of a node that has no
//! link to here. A node that dials itself is let through.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::connection::{self, Context};
use super::half::Half;
use super::net::{CONNECTIONS_MAX, Link, Links};
use crate::backend::LinkId;
use crate::base::{RunClock, Streams};

/// Names the node that holds the far end of a connection: from its address, and ours. May block.
pub type WhoDials = Arc<dyn Fn(SocketAddr, SocketAddr) -> Option<String> + Send + Sync>;

/// What a gate leads to and how it knows who comes.
pub(super) struct Gate {
    pub(super) to: String,
    pub(super) upstream: SocketAddr,
    pub(super) who: WhoDials,
    pub(super) links: Links,
    pub(super) clock: RunClock,
    pub(super) streams: Streams,
}

/// Where a connection goes.
enum Way {
    /// Under the rules of a link.
    Link(Arc<Link>),
    /// A node that dials itself.
    Itself,
}

impl Gate {
    pub(super) async fn listen() -> std::io::Result<TcpListener> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
    }

    pub(super) async fn accept(self, listener: TcpListener) {
        let gate = Arc::new(self);
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let Ok((client, _)) = accepted else {
                // Out of descriptors, or the client was gone before it was taken: the next one may do better.
                gate.clock.sleep(Duration::from_millis(1)).await;
                continue;
            };
            if connections.len() >= CONNECTIONS_MAX {
                connection::reset(&client);
                continue;
            }
            connections.spawn(Arc::clone(&gate).serve(client));
        }
    }

    async fn serve(self: Arc<Self>, client: TcpStream) {
        match self.way(&client).await {
            Some(Way::Link(link)) => link.serve(client, self.upstream, self.clock, self.streams).await,
            Some(Way::Itself) => {
                let halves: [Half; 2] = Default::default();
                let context = Context {
                    halves: &halves,
                    upstream: self.upstream,
                    clock: self.clock,
                    streams: self.streams,
                    name: format!("{0}->{0}", self.to),
                };
                let never = tokio::sync::watch::Sender::new(0);
                connection::serve(client, context, never.subscribe()).await;
            }
            None => connection::reset(&client),
        }
    }

    async fn way(&self, client: &TcpStream) -> Option<Way> {
        let (far, near) = (client.peer_addr().ok()?, client.local_addr().ok()?);
        let who = Arc::clone(&self.who);
        // Reading /proc takes a while, and the links' one thread has bytes to move.
        let from = tokio::task::spawn_blocking(move || who(far, near)).await.ok().flatten();
        let Some(from) = from else {
            tracing::debug!(to = self.to, %far, "reset a connection that no node of this system made");
            return None;
        };
        if from == self.to {
            return Some(Way::Itself);
        }
        let id = LinkId::between(&from, &self.to);
        let link = super::net::lock(&self.links).get(&id).cloned();
        if link.is_none() {
            tracing::warn!(%id, "reset a connection for which there is no link");
        }
        link.map(Way::Link)
    }
}
