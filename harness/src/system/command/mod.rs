//! Somebody else's system: any command, started once for each node, with its ports behind links.
//!
//! Nothing is asked of it but that it takes its addresses from its command line or environment. What needs no help from
//! inside can be done to it: killing, stopping, freezing, cutting, delaying. Who leads is known for etcd alone, which
//! says so itself.
//!
//! - `layout`: ports, links, and the filled-in commands.
//! - `program`: where a program is on this machine.

mod layout;
mod program;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use async_trait::async_trait;

use self::layout::Laid;
use super::{
    CommandSpec, Stage, System, SystemError,
    clients::{self, ClientInfo, ClientNode, ETCD_GROUP, Http1},
};
use crate::{
    backend::{Backend, NodeSpec},
    history::NodeStatus,
    target::{NodeName, Roster, RosterNode},
    workload::{
        LoadSpec, RequestSpec, Workload,
        items::{ItemSetting, ItemWorkload},
    },
};

pub use program::missing;

/// How long a node may take to say what it believes.
const OBSERVE_WITHIN: Duration = Duration::from_millis(300);
/// The client whose nodes say who leads.
const ETCD: &str = "etcd";

/// A system of programs that are not ours.
pub struct Command {
    name: String,
    spec: CommandSpec,
    client: &'static ClientInfo,
    roster: Roster,
    laid: Option<Laid>,
    /// For asking nodes of themselves, past the links.
    direct: Http1,
}

impl Command {
    /// The system as `spec` has it; nothing is taken or started yet.
    ///
    /// # Errors
    /// When `spec` can't be: no nodes, an unknown client, placeholder or port.
    pub fn new(name: &str, spec: &CommandSpec) -> Result<Self, SystemError> {
        let client = clients::find(&spec.client).ok_or_else(|| {
            let known: Vec<&str> = clients::ALL.iter().map(|client| client.name).collect();
            let (client, known) = (&spec.client, known.join(", "));
            SystemError(format!(
                "system {name}: there is no client `{client}`; the clients are {known}"
            ))
        })?;
        layout::check(name, spec)?;
        Ok(Self {
            name: name.to_owned(),
            roster: roster(spec),
            spec: spec.clone(),
            client,
            laid: None,
            direct: Http1::default(),
        })
    }

    fn laid(&self) -> Result<&Laid, SystemError> {
        let missing = || SystemError(format!("system {} was not laid out yet", self.name));
        self.laid.as_ref().ok_or_else(missing)
    }

    fn says_who_leads(&self) -> bool {
        self.client.name == ETCD
    }
}

/// Nodes in the order of their numbers; one group that all hold where the system says who leads.
fn roster(spec: &CommandSpec) -> Roster {
    let mut nodes: Vec<RosterNode> = spec
        .nodes
        .iter()
        .map(|(name, zone)| RosterNode {
            name: name.clone(),
            zone: zone.clone(),
        })
        .collect();
    nodes.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    let groups = if spec.client == ETCD {
        BTreeMap::from([(ETCD_GROUP.to_owned(), spec.nodes.keys().cloned().collect())])
    } else {
        BTreeMap::new()
    };
    Roster {
        nodes,
        groups,
        ..Roster::default()
    }
}

#[async_trait]
impl System for Command {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "command"
    }

    fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn layout(&mut self, backend: &dyn Backend, dir: &Path) -> Result<(), SystemError> {
        let laid = layout::lay_out(&self.name, &self.spec, &self.roster, backend, dir).await?;
        self.laid = Some(laid);
        Ok(())
    }

    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        let spec = self.laid()?.nodes.get(node).map(|laid| laid.spec.clone());
        spec.ok_or_else(|| SystemError(format!("there is no node {node} in system {}", self.name)))
    }

    async fn observe(&self, node: &str) -> Option<NodeStatus> {
        if !self.says_who_leads() {
            return None;
        }
        let own: SocketAddr = self.laid.as_ref()?.nodes.get(node)?.client_listen;
        let asked = tokio::time::timeout(OBSERVE_WITHIN, clients::etcd_status(&self.direct, own));
        asked.await.ok().flatten()
    }

    async fn transfer_leader(&self, _group: &str, _to: &str) -> Result<(), String> {
        Err(format!(
            "system {} is somebody else's: nothing is known of how it hands a leader over",
            self.name
        ))
    }

    fn workload(&self, loads: &[LoadSpec], stage: Stage) -> Result<Box<dyn Workload>, SystemError> {
        let laid = self.laid()?;
        let nodes: Vec<ClientNode> = self
            .roster
            .nodes
            .iter()
            .filter_map(|node| {
                let address = *laid.client_links.get(&node.name)?;
                let name: NodeName = node.name.clone();
                Some(ClientNode { name, address })
            })
            .collect();
        let asked: Vec<RequestSpec> = loads.iter().filter_map(|load| load.request.clone()).collect();
        if asked.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(SystemError(format!(
                "the loads on system {} ask for different things, and its client asks for one; make them equal",
                self.name
            )));
        }
        let options = asked.into_iter().next().unwrap_or_default();
        let workload = ItemWorkload::new(ItemSetting {
            system: self.name.clone(),
            number: stage.number,
            loads: loads.to_vec(),
            client: (self.client.open)(nodes, &options),
            labels: BTreeMap::new(),
            recorder: stage.recorder,
            clock: stage.clock,
            streams: stage.streams,
        });
        Ok(Box::new(workload.map_err(|e| SystemError(e.0))?))
    }
}
