//! What stands around the nodes where a system has gateways: the gateways of each zone and the directory they are found in.
//!
//! Gateways reach nodes and each other over links of the back-end plane; clients and gateways reach the directory, and
//! clients the gateways, over links of the client plane. So the back-end plane can go away while clients stay connected.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use target_service::{
    client::{ChannelOptions, Directory, Doors},
    discovery::ResolverOptions,
    edge::{DirectoryConfig, GatewayConfig},
    env::Clock,
};

use super::{
    NODE_COMMAND, SystemError,
    layout::{READY_WITHIN, Site},
    page::{self, PAGE, Sights},
};
use crate::{
    backend::{Backend, Endpoint, LinkId, NodeSpec, Plane, Ready},
    system::{GatewaysSpec, MessagingSpec},
    target::{NodeName, gateway_names},
};

/// The directory's name among the processes.
const DIRECTORY: &str = "directory";
/// How long clients wait for the directory.
const DIRECTORY_WITHIN: Duration = Duration::from_millis(500);

/// The processes around the nodes, laid out.
pub(super) struct LaidEdge {
    /// How to start each.
    pub(super) processes: BTreeMap<NodeName, NodeSpec>,
    /// Where the directory is asked.
    pub(super) directory: SocketAddr,
    /// Where the status page is asked, where there is one.
    pub(super) page: Option<SocketAddr>,
    /// For each group of clients: where to dial the directory, and where the gateways' addresses are dialled.
    ways: BTreeMap<String, (String, BTreeMap<String, String>)>,
}

/// A gateway that was given its ports.
struct Placed {
    name: String,
    zone: String,
    clients: SocketAddr,
    peers: SocketAddr,
}

impl LaidEdge {
    /// The doors of one group of clients.
    pub(super) fn doors(&self, group: &str) -> Option<Doors> {
        let (directory, addresses) = self.ways.get(group)?;
        let directory = Directory::new(directory, DIRECTORY_WITHIN);
        let (remember, options) = (ResolverOptions::default(), ChannelOptions::default());
        let doors = Doors::new(directory, group, remember, options, Clock::system());
        Some(doors.dialled_at(addresses.clone()))
    }
}

/// Whether gateways of `spec` can be, before anything is taken for them.
pub(super) fn check(spec: &MessagingSpec) -> Result<(), SystemError> {
    let Some(gateways) = &spec.gateways else {
        if spec.status_page.is_some() {
            return Err(SystemError(
                "a status page counts the sessions of gateways, and there are none: add gateways".to_owned(),
            ));
        }
        return Ok(());
    };
    if gateways.per_zone == 0 {
        return Err(SystemError(
            "gateways is 0: leave it out, or write at least 1".to_owned(),
        ));
    }
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let placed = Placed {
        name: "gw".to_owned(),
        zone: String::new(),
        clients: at,
        peers: at,
    };
    let one = |name: &str| BTreeMap::from([(name.to_owned(), at.to_string())]);
    gateway_text(gateways, 0, &placed, at, &one("1"), &one("gw"))?;
    directory_text(gateways, at).map(drop)
}

/// Takes ports, opens links and writes files, for the gateways of a system whose nodes serve clients at `nodes`.
pub(super) async fn lay_out(
    site: &Site<'_>,
    spec: &MessagingSpec,
    gateways: &GatewaysSpec,
    groups: impl IntoIterator<Item = String>,
    nodes: &BTreeMap<u64, (NodeName, SocketAddr)>,
    backend: &dyn Backend,
) -> Result<LaidEdge, SystemError> {
    let no =
        |what: &str, e: &dyn std::fmt::Display| SystemError(format!("system {}: failed to {what}: {e}", site.system));
    let names = gateway_names(&spec.zones, gateways.per_zone);
    let ports = backend.reserve_ports(2 + names.len() * 2).await;
    let ports = ports.map_err(|e| no("reserve ports", &e))?;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let [directory_port, page_port, pairs @ ..] = ports.as_slice() else {
        return Err(no("reserve ports", &"none came"));
    };
    let (directory, page_listens) = (at(*directory_port), at(*page_port));
    let placed: Vec<Placed> = names
        .into_iter()
        .zip(pairs.chunks_exact(2))
        .map(|((name, zone), pair)| Placed {
            name,
            zone,
            clients: at(pair[0]),
            peers: at(pair[1]),
        })
        .collect();
    let open = async |link, to| backend.open_link(link, to).await.map_err(|e| no("open a link", &e));

    let mut processes = BTreeMap::new();
    let text = directory_text(gateways, directory)?;
    let started = process(site, DIRECTORY, "", "directory", &text, vec![directory])?;
    processes.insert(DIRECTORY.to_owned(), started);
    let mut page = None;
    if let Some(of) = spec.status_page {
        let sights = Sights {
            listen: page_listens,
            directory,
            nodes: nodes
                .iter()
                .map(|(id, (_, at))| (id.to_string(), at.to_string()))
                .collect(),
            gateways: placed
                .iter()
                .map(|it| (it.name.clone(), it.peers.to_string()))
                .collect(),
        };
        let text = page::text(spec, of, &sights)?;
        let started = process(site, PAGE, "", "status-page", &text, vec![page_listens])?;
        processes.insert(PAGE.to_owned(), started);
        page = Some(page_listens);
    }
    for gateway in &placed {
        let mut to_nodes = BTreeMap::new();
        for (id, (node, listens)) in nodes {
            let dial = open(LinkId::between(&gateway.name, node), *listens).await?;
            to_nodes.insert(id.to_string(), dial.to_string());
        }
        let mut to_gateways = BTreeMap::new();
        for other in &placed {
            let dial = if other.name == gateway.name {
                other.peers
            } else {
                open(LinkId::between(&gateway.name, &other.name), other.peers).await?
            };
            to_gateways.insert(other.name.clone(), dial.to_string());
        }
        let link = LinkId {
            from: Endpoint::Node(gateway.name.clone()),
            to: DIRECTORY.to_owned(),
            plane: Plane::Client,
        };
        let dial = open(link, directory).await?;
        let text = gateway_text(gateways, site.seed, gateway, dial, &to_nodes, &to_gateways)?;
        let listens = vec![gateway.clients, gateway.peers];
        let started = process(site, &gateway.name, &gateway.zone, "gateway", &text, listens)?;
        processes.insert(gateway.name.clone(), started);
    }

    let mut ways = BTreeMap::new();
    for group in groups {
        let to_directory = open(LinkId::clients(&group, DIRECTORY), directory).await?;
        let mut addresses = BTreeMap::new();
        for gateway in &placed {
            let dial = open(LinkId::clients(&group, &gateway.name), gateway.clients).await?;
            addresses.insert(gateway.clients.to_string(), dial.to_string());
        }
        ways.insert(group, (to_directory.to_string(), addresses));
    }
    Ok(LaidEdge {
        processes,
        directory,
        page,
        ways,
    })
}

/// Writes the configuration of a process, and says how to start it.
fn process(
    site: &Site<'_>,
    name: &str,
    zone: &str,
    role: &str,
    text: &str,
    listens: Vec<SocketAddr>,
) -> Result<NodeSpec, SystemError> {
    let no = |what: &str, e: &std::io::Error| SystemError(format!("system {}: failed to {what}: {e}", site.system));
    let dir = std::path::absolute(site.dir).map_err(|e| no("find the run's folder", &e))?;
    let dir = dir.join(name);
    std::fs::create_dir_all(&dir).map_err(|e| no(&format!("make {}", dir.display()), &e))?;
    let file = dir.join(format!("{role}.toml"));
    std::fs::write(&file, text).map_err(|e| no(&format!("write {}", file.display()), &e))?;
    Ok(NodeSpec {
        name: name.to_owned(),
        zone: zone.to_owned(),
        program: site.program.to_owned(),
        args: arguments(role, &file),
        env: BTreeMap::new(),
        dir,
        disk: None,
        listens,
        ready: Ready::Line("ready".to_owned()),
        ready_within: READY_WITHIN,
    })
}

fn arguments(role: &str, file: &Path) -> Vec<String> {
    let words = [NODE_COMMAND, role, "--config"];
    let words = words.into_iter().map(str::to_owned);
    words.chain([file.display().to_string()]).collect()
}

fn wrong(error: &str) -> SystemError {
    SystemError(format!("the gateways' configuration: {error}"))
}

fn directory_text(gateways: &GatewaysSpec, listen: SocketAddr) -> Result<String, SystemError> {
    let (ttl, negative) = (gateways.ttl_ms, gateways.negative_ttl_ms);
    let text = format!("listen = \"{listen}\"\nttl_ms = {ttl}\nnegative_ttl_ms = {negative}\n");
    DirectoryConfig::parse(&text).map_err(|e| wrong(&e))?;
    Ok(text)
}

fn gateway_text(
    gateways: &GatewaysSpec,
    seed: u64,
    placed: &Placed,
    directory: SocketAddr,
    nodes: &BTreeMap<String, String>,
    all: &BTreeMap<String, String>,
) -> Result<String, SystemError> {
    let Placed {
        name,
        zone,
        clients,
        peers,
    } = placed;
    let (rule, mode) = (&gateways.health_rule, &gateways.registry);
    let mut text = format!(
        "name = \"{name}\"\nzone = \"{zone}\"\nclient_listen = \"{clients}\"\npeer_listen = \"{peers}\"\n\
         directory = \"{directory}\"\nhealth_rule = \"{rule}\"\nseed = {seed}\nregistry = {{ mode = \"{mode}\" }}\n"
    );
    for (table, entries) in [("nodes", nodes), ("gateways", all)] {
        let _ = writeln!(text, "[{table}]");
        for (key, address) in entries {
            let _ = writeln!(text, "\"{key}\" = \"{address}\"");
        }
    }
    GatewayConfig::parse(&text).map_err(|e| wrong(&e))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(zones: &[&str], health_rule: &str) -> MessagingSpec {
        MessagingSpec {
            nodes: 3,
            zones: zones.iter().map(ToString::to_string).collect(),
            shards: 2,
            login_per_s: None,
            plant: None,
            gateways: Some(GatewaysSpec {
                per_zone: 2,
                ttl_ms: 1000,
                negative_ttl_ms: 500,
                health_rule: health_rule.to_owned(),
                registry: "naive".to_owned(),
            }),
            latency_ms: BTreeMap::new(),
            replicas: None,
            verification: None,
            status_page: None,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn what_gateways_can_not_be_is_refused_before_anything_starts() {
        assert!(check(&spec(&["a"], "fail_static")).is_ok());
        let error = check(&spec(&["a"], "nonsense")).expect_err("refused").0;
        assert!(error.contains("fail_static"), "{error}");
        let mut none = spec(&["a"], "on");
        if let Some(gateways) = &mut none.gateways {
            gateways.per_zone = 0;
        }
        assert!(check(&none).is_err());
    }
}
