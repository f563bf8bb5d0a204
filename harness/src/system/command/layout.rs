//! Ports, links and commands: what a node needs before it can start.
//!
//! Peers are told one address of each node, the same for all, since many programs make it part of who a node is. Behind
//! that address every connection is put under the link of the node that made it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    super::{
        CommandSpec, DiskKind, SystemError,
        clients::{self, ClientNode},
    },
    program,
};
use crate::{
    backend::{Backend, LinkId, NodeSpec, Ready, ReadyCheck, disk::DiskSpec},
    base::{Field, Template},
    target::{NodeName, Roster, RosterNode},
    workload::RequestSpec,
};

/// How long a node may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long one question whether it is ready may take.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// The port that takes the load.
const CLIENT: &str = "client";
/// In a node's folder, where its own disk is mounted, and what of it is durable.
const DISK: &str = "disk";
const DURABLE: &str = "durable";
/// The group of all clients.
const EVERYBODY: &str = "all";

/// A system whose ports are taken.
pub(super) struct Laid {
    pub(super) nodes: BTreeMap<NodeName, LaidNode>,
    /// Where clients dial each node.
    pub(super) client_links: BTreeMap<NodeName, SocketAddr>,
}

pub(super) struct LaidNode {
    pub(super) spec: NodeSpec,
    /// The node's own address for clients, past the links.
    pub(super) client_listen: SocketAddr,
}

/// What stands for a node's placeholders.
struct Facts<'a> {
    node: &'a RosterNode,
    /// From 1.
    index: usize,
    dir: &'a Path,
    /// Where its own disk is mounted, when it has one.
    disk: Option<PathBuf>,
    /// The port of each name that it listens on.
    ports: BTreeMap<&'a str, u16>,
    /// Where the others dial each of them.
    addresses: BTreeMap<&'a str, SocketAddr>,
}

impl Facts<'_> {
    fn fill(&self, field: &Field, peers: Option<&str>) -> Option<String> {
        match (field.name.as_str(), field.of.as_str(), peers) {
            ("name", "", _) => Some(self.node.name.clone()),
            ("index", "", _) => Some(self.index.to_string()),
            ("zone", "", _) => Some(self.node.zone.clone()),
            ("address", port, _) => self.addresses.get(port).map(ToString::to_string),
            ("port", port, Some(_)) => self.ports.get(port).map(ToString::to_string),
            ("dir", "", Some(_)) => Some(self.dir.display().to_string()),
            ("disk", "", Some(_)) => Some(self.disk.as_ref()?.display().to_string()),
            ("peers", "", Some(peers)) => Some(peers.to_owned()),
            _ => None,
        }
    }
}

fn fill(text: &str, facts: &Facts<'_>, peers: Option<&str>) -> Result<String, SystemError> {
    let template = Template::parse(text).map_err(|e| SystemError(e.to_string()))?;
    template
        .fill(|field| facts.fill(field, peers))
        .map_err(|field| SystemError(format!("nothing is known for `{field}` in `{text}`")))
}

/// Fills everything in once, for nobody, so that what can't be filled in is refused before anything is taken.
pub(super) fn check(name: &str, spec: &CommandSpec) -> Result<(), SystemError> {
    let wrong = |what: String| SystemError(format!("system {name}: {what}"));
    if spec.nodes.is_empty() || spec.command.is_empty() {
        return Err(wrong("it needs a node and a command at least".to_owned()));
    }
    if !spec.ports.iter().any(|port| port == CLIENT) {
        return Err(wrong(format!(
            "none of its ports is called `{CLIENT}`, which takes the load"
        )));
    }
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let node = RosterNode {
        name: String::new(),
        zone: String::new(),
    };
    let facts = Facts {
        node: &node,
        index: 1,
        dir: Path::new(""),
        disk: spec.disk.map(|_| PathBuf::new()),
        ports: spec.ports.iter().map(|port| (port.as_str(), 1)).collect(),
        addresses: spec.ports.iter().map(|port| (port.as_str(), nowhere)).collect(),
    };
    fill(&spec.peers, &facts, None).map_err(|e| wrong(e.0))?;
    for text in spec.command.iter().chain(spec.env.values()) {
        fill(text, &facts, Some("")).map_err(|e| wrong(e.0))?;
    }
    ready(&spec.ready, &facts, nowhere).map(|_| ()).map_err(|e| wrong(e.0))
}

pub(super) async fn lay_out(
    system: &str,
    spec: &CommandSpec,
    roster: &Roster,
    backend: &dyn Backend,
    dir: &Path,
) -> Result<Laid, SystemError> {
    let no = |what: &str, e: &dyn std::fmt::Display| SystemError(format!("system {system}: failed to {what}: {e}"));
    // Nodes run in folders of their own, where a relative path would be another one.
    let dir = std::path::absolute(dir).map_err(|e| no("find the run's folder", &e))?;
    let ports = backend.reserve_ports(roster.nodes.len() * spec.ports.len()).await;
    let ports = ports.map_err(|e| no("reserve ports", &e))?;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    let dirs: Vec<PathBuf> = roster.nodes.iter().map(|node| dir.join(&node.name)).collect();
    let mut all = Vec::new();
    for (place, (node, ports)) in roster
        .nodes
        .iter()
        .zip(ports.chunks_exact(spec.ports.len()))
        .enumerate()
    {
        let ports: BTreeMap<&str, u16> = spec
            .ports
            .iter()
            .map(String::as_str)
            .zip(ports.iter().copied())
            .collect();
        let mut addresses = BTreeMap::new();
        for (name, port) in &ports {
            let gate = backend.open_gate(&node.name, at(*port)).await;
            addresses.insert(*name, gate.map_err(|e| no("open a gate", &e))?);
        }
        let client = at(ports[CLIENT]);
        for other in roster.nodes.iter().filter(|other| other.name != node.name) {
            let link = LinkId::between(&other.name, &node.name);
            backend
                .open_link(link, client)
                .await
                .map_err(|e| no("open a link", &e))?;
        }
        all.push(Facts {
            node,
            index: place + 1,
            dir: &dirs[place],
            disk: spec.disk.map(|_| dirs[place].join(DISK)),
            ports,
            addresses,
        });
    }

    let peers: Vec<String> = all
        .iter()
        .map(|facts| fill(&spec.peers, facts, None))
        .collect::<Result<_, _>>()?;
    let peers = peers.join(",");
    let mut laid = Laid {
        nodes: BTreeMap::new(),
        client_links: BTreeMap::new(),
    };
    for facts in &all {
        let name = &facts.node.name;
        std::fs::create_dir_all(facts.dir).map_err(|e| no(&format!("make {}", facts.dir.display()), &e))?;
        let client_listen = at(facts.ports[CLIENT]);
        let node = LaidNode {
            spec: node_spec(spec, facts, &peers, client_listen).map_err(|e| no("put a command together", &e))?,
            client_listen,
        };
        laid.nodes.insert(name.clone(), node);
        let link = LinkId::clients(EVERYBODY, name);
        let dial = backend.open_link(link, client_listen).await;
        laid.client_links
            .insert(name.clone(), dial.map_err(|e| no("open a link", &e))?);
    }
    Ok(laid)
}

fn node_spec(
    spec: &CommandSpec,
    facts: &Facts<'_>,
    peers: &str,
    client_listen: SocketAddr,
) -> Result<NodeSpec, SystemError> {
    let words: Vec<String> = spec
        .command
        .iter()
        .map(|word| fill(word, facts, Some(peers)))
        .collect::<Result<_, _>>()?;
    let Some((program, args)) = words.split_first() else {
        return Err(SystemError("the command is empty".to_owned()));
    };
    let found = program::find(program).ok_or_else(|| SystemError(format!("there is no program `{program}` here")))?;
    let env = spec
        .env
        .iter()
        .map(|(name, value)| Ok((name.clone(), fill(value, facts, Some(peers))?)))
        .collect::<Result<_, SystemError>>()?;
    Ok(NodeSpec {
        name: facts.node.name.clone(),
        zone: facts.node.zone.clone(),
        program: found,
        args: args.to_vec(),
        env,
        dir: facts.dir.to_owned(),
        // Beside its working folder, and not it: nothing of ours may wait for a disk that we serve.
        disk: spec.disk.zip(facts.disk.clone()).map(|(kind, mount)| DiskSpec {
            mount,
            below: facts.dir.join(DURABLE),
            honest: kind == DiskKind::Volatile,
        }),
        listens: facts
            .ports
            .values()
            .map(|port| (Ipv4Addr::LOCALHOST, *port).into())
            .collect(),
        ready: ready(&spec.ready, facts, client_listen)?,
        ready_within: READY_WITHIN,
    })
}

/// `tcp:PORT`, `http:PATH` or `grpc:SERVICE`; the latter two ask the client port, past the links.
fn ready(how: &str, facts: &Facts<'_>, client_listen: SocketAddr) -> Result<Ready, SystemError> {
    let unknown = || {
        SystemError(format!(
            "`{how}` doesn't say when a node is ready; write tcp:PORT, http:PATH or grpc:SERVICE"
        ))
    };
    let (kind, of) = how.split_once(':').ok_or_else(unknown)?;
    let client = match kind {
        "tcp" => {
            let port = facts.ports.get(of).ok_or_else(unknown)?;
            return Ok(Ready::Tcp((Ipv4Addr::LOCALHOST, *port).into()));
        }
        "http" => "http",
        "grpc" => "grpc_health",
        _ => return Err(unknown()),
    };
    let node = ClientNode {
        name: facts.node.name.clone(),
        address: client_listen,
    };
    let options = RequestSpec {
        path: of.to_owned(),
        ..RequestSpec::default()
    };
    let client = clients::find(client).ok_or_else(unknown)?;
    let client = (client.open)(vec![node], &options);
    Ok(Ready::Check(ReadyCheck::new(
        format!("{how} at {client_listen}"),
        move || {
            let client = std::sync::Arc::clone(&client);
            async move {
                let asked = tokio::time::timeout(ASK_WITHIN, client.request(ASK_WITHIN)).await;
                asked.is_ok_and(|answered| answered.result.is_ok())
            }
        },
    )))
}
