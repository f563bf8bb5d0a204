//! Nodes as a backend sees them: how to start one, and what was seen of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::disk::DiskSpec;
use crate::base::Nanos;

/// How to start a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name, unique within the backend.
    pub name: String,
    /// Its zone; empty for none.
    pub zone: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, on top of the harness's own.
    pub env: BTreeMap<String, String>,
    /// Its working directory; made if absent.
    pub dir: PathBuf,
    /// A disk of its own that forgets what was not synced; its other folders are the machine's.
    pub disk: Option<DiskSpec>,
    /// Where it listens: asked to be refused once it is dead.
    pub listens: Vec<SocketAddr>,
    /// When it counts as ready.
    pub ready: Ready,
    /// How long it may take to be ready.
    pub ready_within: Duration,
}

/// When a node counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ready {
    /// A line on its standard output begins with this.
    Line(String),
    /// A TCP connection to this address is accepted.
    Tcp(SocketAddr),
    /// It answers as it should when asked in its own words.
    Check(ReadyCheck),
    /// As soon as it runs.
    Started,
}

/// A question that is asked again and again until the answer is yes. A check equals another that asks the same.
#[derive(Clone)]
pub struct ReadyCheck {
    what: String,
    ask: Ask,
}

type Ask = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

impl ReadyCheck {
    /// `what` says in a few words what is asked of whom; `ask` is one question, and bounded in time.
    pub fn new<F, A>(what: impl Into<String>, ask: A) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
        A: Fn() -> F + Send + Sync + 'static,
    {
        Self {
            what: what.into(),
            ask: Arc::new(move || Box::pin(ask())),
        }
    }

    /// Asks once.
    pub async fn ask(&self) -> bool {
        (self.ask)().await
    }
}

impl std::fmt::Debug for ReadyCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.what)
    }
}

impl PartialEq for ReadyCheck {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

impl Eq for ReadyCheck {}

/// A node that was started and became ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its process id.
    pub pid: u32,
    /// When it was started.
    pub at: Nanos,
    /// When it was ready.
    pub ready: Nanos,
    /// The line that said so, for [`Ready::Line`].
    pub line: Option<String>,
}

/// What can be done to a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeSignal {
    /// Ends at once, without a word: SIGKILL.
    Kill,
    /// Ends at once, and so does its disk, between the same two writes as those of all others. One without a disk is killed.
    PowerLoss,
    /// Asked to end: SIGTERM. The evidence is that it ended.
    Term,
    /// Stands still: SIGSTOP.
    Stop,
    /// Goes on: SIGCONT.
    Cont,
}

/// What was seen after a signal, from outside the path that sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalEvidence {
    /// The node.
    pub node: String,
    /// When the signal was sent.
    pub sent: Nanos,
    /// When what it asks for was first true.
    pub effective: Nanos,
    /// What was seen, in words.
    pub text: String,
}

/// What tearing down found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TearDownReport {
    /// Nodes that ended when asked to.
    pub stopped: Vec<String>,
    /// Nodes that had to be killed.
    pub killed: Vec<String>,
    /// What could not be undone: the host is dirty when there is any.
    pub left: Vec<String>,
}
