//! What is done to nodes, and to who leads them.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::evidence::Evidence;
use super::handover::Handover;
use crate::backend::{Backend, BackendError, NodeSignal};
use crate::base::{Nanos, RunClock};
use crate::history::NodeStatus;
use crate::system::System;
use crate::target::{NodeName, Observations};

/// Why a fault was not seen to have ended.
#[derive(Debug)]
pub(super) enum Unhealed {
    /// It could not be undone: the host is dirty.
    Dirty(String),
    /// It was undone, and a node did not come back from it.
    NotBack(String),
}

impl From<Unhealed> for String {
    fn from(unhealed: Unhealed) -> Self {
        match unhealed {
            Unhealed::Dirty(reason) | Unhealed::NotBack(reason) => reason,
        }
    }
}

/// A system's nodes, and where they run.
#[derive(Clone)]
pub(super) struct Nodes {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) system: Arc<dyn System>,
    pub(super) clock: RunClock,
}

impl Nodes {
    /// Asks every node what it says of itself, all at once. Who says nothing is not in the answer.
    pub(super) async fn observe(&self) -> Observations {
        let mut asking = self.ask_all();
        let mut seen = Observations::new();
        while let Some(answer) = asking.join_next().await {
            if let Ok((name, Some(status))) = answer {
                seen.insert(name, status);
            }
        }
        seen
    }

    /// The questions to every node, all under way.
    pub(super) fn ask_all(&self) -> JoinSet<(NodeName, Option<NodeStatus>)> {
        let mut asking = JoinSet::new();
        for node in &self.system.roster().nodes {
            let (system, name) = (Arc::clone(&self.system), node.name.clone());
            asking.spawn(async move {
                let status = system.observe(&name).await;
                (name, status)
            });
        }
        asking
    }

    /// Signals nodes at one instant.
    pub(super) async fn signal(&self, nodes: &[NodeName], signal: NodeSignal) -> Result<Evidence, BackendError> {
        let seen = self.backend.signal(nodes, signal).await?;
        Ok(Evidence::all(seen.into_iter().map(Evidence::from), self.clock.now()))
    }

    /// Resumes those that still run; one that was killed meanwhile is frozen no more.
    pub(super) async fn resume(&self, nodes: &[NodeName]) -> Result<Evidence, String> {
        let mut parts = Vec::new();
        for node in nodes {
            match self.signal(std::slice::from_ref(node), NodeSignal::Cont).await {
                Ok(seen) => parts.push(seen),
                Err(BackendError::NotRunning { how, .. }) => parts.push(Evidence {
                    at: self.clock.now(),
                    text: format!("{node}: its process has ended ({how})"),
                }),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(Evidence::all(parts, self.clock.now()))
    }

    /// Starts nodes, all at once, and waits until each is ready. One that runs already needs nothing.
    pub(super) async fn start(&self, nodes: &[NodeName]) -> Result<Evidence, Unhealed> {
        let mut starting = JoinSet::new();
        for node in nodes {
            let nodes = self.clone();
            let node = node.clone();
            starting.spawn(async move { nodes.start_one(&node).await });
        }
        let (mut parts, mut dirty, mut not_back) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(started) = starting.join_next().await {
            match started {
                Ok(Ok(seen)) => parts.push(seen),
                Ok(Err(Unhealed::NotBack(reason))) => not_back.push(reason),
                Ok(Err(Unhealed::Dirty(reason))) => dirty.push(reason),
                Err(error) => dirty.push(error.to_string()),
            }
        }
        if !dirty.is_empty() {
            dirty.append(&mut not_back);
            return Err(Unhealed::Dirty(dirty.join("; ")));
        }
        if !not_back.is_empty() {
            return Err(Unhealed::NotBack(not_back.join("; ")));
        }
        parts.sort_by(|a, b| a.text.cmp(&b.text));
        Ok(Evidence::all(parts, self.clock.now()))
    }

    async fn start_one(&self, node: &str) -> Result<Evidence, Unhealed> {
        let spec = self
            .system
            .node_spec(node)
            .map_err(|error| Unhealed::Dirty(error.to_string()))?;
        match self.backend.start(&spec).await {
            Ok(started) => Ok(Evidence {
                at: started.ready,
                text: format!("{node}: process {} is ready", started.pid),
            }),
            Err(BackendError::AlreadyRunning(_)) => Ok(Evidence {
                at: self.clock.now(),
                text: format!("{node}: it runs already"),
            }),
            Err(error @ BackendError::NotReady { .. }) => Err(Unhealed::NotBack(error.to_string())),
            Err(error) => Err(Unhealed::Dirty(error.to_string())),
        }
    }

    /// Has the leader of `group` hand over to `to`, and waits until `to` itself says that it leads, in a later term.
    pub(super) async fn transfer(&self, group: &str, to: &str) -> Result<Evidence, String> {
        let before = self.observe().await;
        let handover = Handover {
            system: &self.system,
            clock: self.clock,
            group,
            to,
        };
        handover.seen(&before).await
    }

    /// As evidence, that nothing is to be undone.
    pub(super) fn nothing_to_undo(&self, at: Nanos) -> Evidence {
        Evidence {
            at,
            text: "there is nothing to undo".to_owned(),
        }
    }
}
