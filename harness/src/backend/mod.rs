//! Where nodes run, and the few reversible things that can be done to them.
//!
//! A backend knows processes and links; it knows nothing of faults, systems or scenarios. A fault is written once over
//! the primitives here and runs wherever a backend has them. What a backend has not is in its [`Capability`] set, so
//! that it is refused before the run.

mod capability;
pub mod disk;
pub mod journal;
mod journal_file;
mod journal_pointer;
mod journal_record;
mod link;
mod node;
pub mod process;
pub mod procfs;
mod registry;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use async_trait::async_trait;
use tokio::sync::broadcast;

pub use capability::Capability;
pub use link::{Direction, Endpoint, HalfProbe, LinkId, LinkRule, Plane, ProbeResult};
pub use node::{NodeSignal, NodeSpec, Ready, ReadyCheck, SignalEvidence, Started, TearDownReport};
pub use registry::{ALL, BackendInfo, find};

use crate::history::ProcessEvent;

/// A backend could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No node of that name was started here.
    #[error("no node `{0}` was started by this run")]
    UnknownNode(String),
    /// The node does not run, so that nothing can be done to it.
    #[error("node `{node}` does not run: {how}")]
    NotRunning {
        /// The node.
        node: String,
        /// How it ended.
        how: String,
    },
    /// The node runs already.
    #[error("node `{0}` runs already")]
    AlreadyRunning(String),
    /// No link of that name was opened here.
    #[error("no link `{0}` was opened by this run")]
    UnknownLink(LinkId),
    /// A node did not become ready.
    #[error("node `{node}` was not ready: {why}; the end of its log:\n{log}")]
    NotReady {
        /// The node.
        node: String,
        /// Why.
        why: String,
        /// The end of its log.
        log: String,
    },
    /// What was asked for was not seen within its bound.
    #[error("{what} was not seen within {within:?}: {seen}")]
    NoEvidence {
        /// What was waited for.
        what: String,
        /// The bound.
        within: std::time::Duration,
        /// What was seen instead.
        seen: String,
    },
    /// The operating system refused.
    #[error("failed to {what}: {source}")]
    Os {
        /// What was tried, with the names in it.
        what: String,
        /// Why it was refused.
        source: std::io::Error,
    },
    /// A bound of the backend was reached.
    #[error("{0}")]
    Limit(String),
    /// The backend is torn down.
    #[error("the backend is torn down")]
    Closed,
}

/// Where the nodes of one system run.
#[async_trait]
pub trait Backend: Send + Sync {
    /// Its name, as in `--backend`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> BTreeSet<Capability>;

    /// Ports for nodes to listen on, kept from others until the backend is torn down. They lie below the range that
    /// outgoing connections draw from, so that no connection takes one while its node is down.
    ///
    /// # Errors
    /// When there are not that many.
    async fn reserve_ports(&self, count: usize) -> Result<Vec<u16>, BackendError>;

    /// Opens a link to `upstream` and returns where to dial it. Open links before the nodes that dial them start.
    ///
    /// # Errors
    /// When it is open already, or no socket is to be had.
    async fn open_link(&self, link: LinkId, upstream: SocketAddr) -> Result<SocketAddr, BackendError>;

    /// Opens one address at which any node dials `to`, whose own is `upstream`, for programs that tell all peers the same
    /// address of a node. Each connection belongs to the link between the node that made it and `to`; open those too.
    ///
    /// # Errors
    /// When no socket is to be had, or this backend can't tell who dials.
    async fn open_gate(&self, to: &str, _upstream: SocketAddr) -> Result<SocketAddr, BackendError> {
        Err(BackendError::Limit(format!(
            "the backend `{}` can't tell who dials node `{to}`, so nodes can't share one address of it",
            self.name()
        )))
    }

    /// The links that are open.
    fn links(&self) -> Vec<LinkId>;

    /// Starts a node (again) and waits until it is ready, within its bound.
    ///
    /// # Errors
    /// When it runs already, can not be started, ends early, or is not ready in time; then it does not run.
    async fn start(&self, node: &NodeSpec) -> Result<Started, BackendError>;

    /// The nodes that run, frozen ones included.
    fn running(&self) -> BTreeSet<String>;

    /// Signals `nodes` at one instant and waits for the evidence, within a bound.
    ///
    /// # Errors
    /// When one does not run (then none was signalled), or the evidence does not come.
    async fn signal(&self, nodes: &[String], signal: NodeSignal) -> Result<Vec<SignalEvidence>, BackendError>;

    /// Puts rules on halves of links, all at once; returns when they are in force, with the instant.
    ///
    /// # Errors
    /// When a link is not open (then no rule was set).
    async fn set_rules(&self, rules: &[(LinkId, Direction, LinkRule)]) -> Result<crate::base::Nanos, BackendError>;

    /// Closes every connection of a link with a reset at both ends; returns how many there were.
    ///
    /// # Errors
    /// When the link is not open.
    async fn reset_link(&self, link: &LinkId) -> Result<usize, BackendError>;

    /// Sends a byte each way through each link's data path, on connections of the backend's own. Returns as soon as all
    /// have arrived; or else after at least `within`, and not before the same has arrived on a path that no fault
    /// touches, so that a busy machine is not taken for a cut.
    ///
    /// # Errors
    /// When a link is not open, or even the untouched path lets nothing through.
    async fn probe_links(
        &self,
        links: &[LinkId],
        within: std::time::Duration,
    ) -> Result<Vec<ProbeResult>, BackendError>;

    /// Nodes as they start and end. Subscribe before the first start.
    fn process_events(&self) -> broadcast::Receiver<ProcessEvent>;

    /// Ends every node (politely, then not), closes every link, gives the ports back. Idempotent.
    ///
    /// # Errors
    /// Never for a node that would not end: that is in the report.
    async fn tear_down(&self) -> Result<TearDownReport, BackendError>;
}
