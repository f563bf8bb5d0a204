//! The systems that can be rehearsed on: what they are made of, how they start, what they say of themselves.
//!
//! A [`System`] knows its own nodes and its own words. It starts nothing and breaks nothing: a backend does the one, the
//! fault engine the other. To add a system is one file with an implementation, and one variant of [`SystemKind`].

mod build;
pub mod clients;
mod command;
mod errand;
#[cfg(feature = "messaging")]
mod messaging;
mod needs;
pub mod scripted;
mod spec;

use std::{path::Path, time::Duration};

pub use build::build;
pub use command::{Command, missing};
pub use errand::{Answering, Errand};
#[cfg(feature = "messaging")]
pub use messaging::{Messaging, NODE_COMMAND, run_node};
pub use needs::needs_of;
pub use spec::{
    CommandSpec, DiskKind, GatewaysSpec, MessagingSpec, ScriptedEffect, ScriptedOutage, ScriptedReaction, ScriptedSpec,
    StatusPageSpec, SystemKind, SystemSpec, VerificationSpec,
};

use crate::{
    backend::{Backend, LinkId, NodeSpec},
    base::{RunClock, Streams},
    history::{NodeStatus, Recorder, Statement},
    target::{NodeName, Observations, Roster},
    workload::{LoadSpec, Workload},
};

/// Why a system can't do what it was asked: what failed, with the values, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SystemError(pub String);

/// What a workload is given to act with.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where everything it does is recorded.
    pub recorder: Recorder,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's randomness.
    pub streams: Streams,
    /// The system's number within the run, from 0: identities of two systems never meet.
    pub number: u16,
}

/// One system under test.
#[async_trait::async_trait]
pub trait System: Send + Sync {
    /// Its name within the run: `main` unless the scenario names several.
    fn name(&self) -> &str;

    /// Its kind: `messaging`, `command`, `scripted`.
    fn kind(&self) -> &'static str;

    /// Its nodes, their zones, and the replicated groups with those who may hold them.
    fn roster(&self) -> &Roster;

    /// Takes ports, opens links, and writes what its nodes need into `dir`, which is the system's own. Once, before the
    /// first node starts.
    ///
    /// # Errors
    /// When the backend has no room, or the folder can't be written.
    async fn layout(&mut self, backend: &dyn Backend, dir: &Path) -> Result<(), SystemError>;

    /// How to start `node`, for the first time or again.
    ///
    /// # Errors
    /// When there is no such node, or the system was not laid out.
    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError>;

    /// Processes that stand around the nodes and are started after them: no targets of faults on nodes, but their links
    /// are links like others. [`System::node_spec`] says how to start each.
    fn surroundings(&self) -> Vec<NodeName> {
        Vec::new()
    }

    /// Asks `node` itself, on its own address and not through a link. None when it gives no answer within 300 ms.
    async fn observe(&self, node: &str) -> Option<NodeStatus>;

    /// How much later than at once each byte on `link` is, either way, since its ends are far from each other.
    fn distance(&self, _link: &LinkId) -> Duration {
        Duration::ZERO
    }

    /// Whether it has a status page.
    fn has_status_page(&self) -> bool {
        false
    }

    /// What its status page says, asked on its own address; none when it says nothing in time.
    async fn status_page(&self) -> Option<Statement> {
        None
    }

    /// Asks the system to make `to` the leader of `group`; the answer says only that it agreed to try.
    ///
    /// # Errors
    /// In words, when it refused or could not be asked.
    async fn transfer_leader(&self, group: &str, to: &str) -> Result<(), String>;

    /// Has an errand done, or ended where `on` is false; says who agreed to it.
    ///
    /// # Errors
    /// In words, when not everybody who is there did.
    async fn order(&self, errand: &Errand, on: bool) -> Result<String, String> {
        Err(format!(
            "a system of kind {} can't be asked for {errand:?} to be {on}",
            self.kind()
        ))
    }

    /// Shows that an errand is done, or has ended where `on` is false: by another way than that of asking for it.
    ///
    /// # Errors
    /// In words, when it isn't so.
    async fn proof(&self, errand: &Errand, on: bool) -> Result<String, String> {
        Err(format!(
            "nothing shows on a system of kind {} that {errand:?} is {on}",
            self.kind()
        ))
    }

    /// The parts of the service that go away with `nodes`, in the words of [`crate::history::Operation::needs`].
    fn needs_of(&self, nodes: &[NodeName], seen: &Observations) -> Vec<String> {
        needs_of(self.roster(), nodes, seen)
    }

    /// The clients of this system, all its loads together.
    ///
    /// # Errors
    /// When a load asks for what the system doesn't have, or the system was not laid out.
    fn workload(&self, loads: &[LoadSpec], stage: Stage) -> Result<Box<dyn Workload>, SystemError>;
}
