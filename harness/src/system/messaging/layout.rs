//! Ports, links and configuration files: what a node needs before it can start.
//!
//! Each node is given, as the address of each peer, its own link to that peer. So a cut between two nodes is a cut of
//! their two links, and no third party is touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use target_service::node::{NodeConfig, Plant};

use super::{
    MessagingSpec, NODE_COMMAND, SystemError,
    edge::{self, LaidEdge},
    page,
};
use crate::{
    backend::{Backend, LinkId, NodeSpec, Ready},
    target::{NodeName, Roster, RosterNode, gateway_names, group_of},
};

/// How long a node may take until it serves.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(30);
/// The group of all clients, where there are no zones.
const EVERYBODY: &str = "all";
/// In a cluster of more nodes than this, a shard lives on some of them only.
const EVERYWHERE_UP_TO: u32 = 5;
const REPLICATION_FACTOR: u32 = 3;
/// The file, beside a node's data, that lets it found its cluster.
const PERMIT: &str = "bootstrap-permit";

/// A system whose ports are taken and whose files are written.
pub(super) struct Laid {
    pub(super) nodes: BTreeMap<NodeName, LaidNode>,
    /// For each group of clients: where to dial each node, by its id.
    pub(super) client_links: BTreeMap<String, BTreeMap<u64, String>>,
    /// What stands around the nodes; then clients have no links to nodes.
    pub(super) edge: Option<LaidEdge>,
}

pub(super) struct LaidNode {
    pub(super) spec: NodeSpec,
    id: u64,
    client_listen: SocketAddr,
}

impl Laid {
    /// The nodes' own addresses for clients, by id: not through links.
    pub(super) fn own_addresses(&self) -> BTreeMap<u64, String> {
        let nodes = self.nodes.values();
        nodes.map(|node| (node.id, node.client_listen.to_string())).collect()
    }
}

/// The id of the node `n<id>`.
pub(super) fn node_id(name: &str) -> Option<u64> {
    name.strip_prefix('n')?.parse().ok().filter(|id| *id > 0)
}

/// The name of node `id`.
pub(super) fn node_name(id: u64) -> NodeName {
    format!("n{id}")
}

pub(super) fn check(spec: &MessagingSpec) -> Result<(), SystemError> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let ids = 1..=u64::from(spec.nodes);
    let peers: BTreeMap<u64, SocketAddr> = ids.map(|id| (id, loopback)).collect();
    let text = config(spec, 0, 1, &peers, loopback, loopback, Path::new("data"))?;
    NodeConfig::parse(&text).map_err(|e| SystemError(e.to_string()))?;
    edge::check(spec)
}

/// Who there is: nodes dealt over the zones in turn; in a large cluster shard s lives on consecutive nodes from the
/// (s + 1)th on.
pub(super) fn roster(spec: &MessagingSpec) -> Roster {
    let mut zones = spec.zones.iter().cycle();
    let nodes = (1..=u64::from(spec.nodes)).map(|id| RosterNode {
        name: node_name(id),
        zone: zones.next().cloned().unwrap_or_default(),
    });
    let copies = if let Some(replicas) = spec.replicas {
        replicas.min(spec.nodes)
    } else if spec.nodes <= EVERYWHERE_UP_TO {
        spec.nodes
    } else {
        REPLICATION_FACTOR
    };
    let holders = |shard: u32| {
        let turns = (0..copies).map(move |turn| (shard + turn) % spec.nodes.max(1) + 1);
        turns.map(|id| node_name(u64::from(id))).collect::<BTreeSet<_>>()
    };
    Roster {
        nodes: nodes.collect(),
        groups: (0..spec.shards)
            .map(|shard| (group_of(shard), holders(shard)))
            .collect(),
        gateways: gateway_names(&spec.zones, spec.gateways.as_ref().map_or(0, |it| it.per_zone))
            .into_iter()
            .map(|(name, zone)| RosterNode { name, zone })
            .collect(),
    }
}

/// Where and as what the nodes run.
pub(super) struct Site<'a> {
    pub(super) system: &'a str,
    pub(super) program: &'a Path,
    pub(super) dir: &'a Path,
    pub(super) seed: u64,
}

pub(super) async fn lay_out(
    site: &Site<'_>,
    spec: &MessagingSpec,
    roster: &Roster,
    backend: &dyn Backend,
) -> Result<Laid, SystemError> {
    let no =
        |what: &str, e: &dyn std::fmt::Display| SystemError(format!("system {}: failed to {what}: {e}", site.system));
    // Nodes run in folders of their own, where a relative path would be another one.
    let dir = std::path::absolute(site.dir).map_err(|e| no("find the run's folder", &e))?;
    let ports = backend.reserve_ports(roster.nodes.len() * 2).await;
    let ports = ports.map_err(|e| no("reserve ports", &e))?;
    let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let addresses: BTreeMap<NodeName, (SocketAddr, SocketAddr)> = roster
        .nodes
        .iter()
        .zip(ports.chunks_exact(2))
        .map(|(node, pair)| (node.name.clone(), (at(pair[0]), at(pair[1]))))
        .collect();

    let mut nodes = BTreeMap::new();
    for (number, node) in (1u64..).zip(&roster.nodes) {
        let (client_listen, peer_listen) = addresses[&node.name];
        let mut peers = BTreeMap::new();
        for (peer, other) in (1u64..).zip(&roster.nodes) {
            let own = addresses[&other.name].1;
            let address = if other.name == node.name {
                own
            } else {
                let link = LinkId::between(&node.name, &other.name);
                backend.open_link(link, own).await.map_err(|e| no("open a link", &e))?
            };
            peers.insert(peer, address);
        }
        let node_dir = dir.join(&node.name);
        std::fs::create_dir_all(&node_dir).map_err(|e| no(&format!("make {}", node_dir.display()), &e))?;
        let text = config(
            spec,
            site.seed,
            number,
            &peers,
            client_listen,
            peer_listen,
            &node_dir.join("data"),
        )?;
        // Used up by the node's first start: one whose folder is wiped later doesn't begin as if nothing had been.
        let permit = node_dir.join(PERMIT);
        std::fs::write(&permit, "").map_err(|e| no(&format!("write {}", permit.display()), &e))?;
        let file = node_dir.join("node.toml");
        std::fs::write(&file, text).map_err(|e| no(&format!("write {}", file.display()), &e))?;
        let laid = LaidNode {
            spec: node_spec(node, site.program, &file, node_dir, [client_listen, peer_listen]),
            id: number,
            client_listen,
        };
        nodes.insert(node.name.clone(), laid);
    }

    let mut client_links: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    if let Some(gateways) = &spec.gateways {
        let listens = nodes
            .iter()
            .map(|(name, node)| (node.id, (name.clone(), node.client_listen)));
        let groups = client_groups(spec);
        let edge = edge::lay_out(site, spec, gateways, groups, &listens.collect(), backend).await?;
        return Ok(Laid {
            nodes,
            client_links,
            edge: Some(edge),
        });
    }
    for group in client_groups(spec) {
        for (name, node) in &nodes {
            let link = LinkId::clients(&group, name);
            let dial = backend.open_link(link, node.client_listen).await;
            let dial = dial.map_err(|e| no("open a link", &e))?;
            let links = client_links.entry(group.clone()).or_default();
            links.insert(node.id, dial.to_string());
        }
    }
    Ok(Laid {
        nodes,
        client_links,
        edge: None,
    })
}

/// Clients in each zone reach every node over links of their own.
pub(super) fn client_groups(spec: &MessagingSpec) -> BTreeSet<String> {
    if spec.zones.is_empty() {
        BTreeSet::from([EVERYBODY.to_owned()])
    } else {
        spec.zones.iter().cloned().collect()
    }
}

fn node_spec(node: &RosterNode, program: &Path, config: &Path, dir: PathBuf, listens: [SocketAddr; 2]) -> NodeSpec {
    NodeSpec {
        name: node.name.clone(),
        zone: node.zone.clone(),
        program: program.to_owned(),
        args: vec![
            NODE_COMMAND.to_owned(),
            "--config".to_owned(),
            config.display().to_string(),
        ],
        env: BTreeMap::new(),
        dir,
        disk: None,
        listens: listens.into(),
        ready: Ready::Line("ready".to_owned()),
        ready_within: READY_WITHIN,
    }
}

/// A node's configuration file. Its write cache lives in its process: so a power loss is a power loss, and even a kill
/// forgets what was not synced, which a service that keeps its word must survive just as well.
fn config(
    spec: &MessagingSpec,
    seed: u64,
    node: u64,
    peers: &BTreeMap<u64, SocketAddr>,
    client_listen: SocketAddr,
    peer_listen: SocketAddr,
    data_dir: &Path,
) -> Result<String, SystemError> {
    let wrong = |e: &dyn std::fmt::Display| SystemError(format!("the nodes' configuration: {e}"));
    let of_nodes = spec.plant.as_deref().filter(|_| page::plant(spec).is_none());
    let plant = match of_nodes.map(|name| (name, Plant::named(name))) {
        None => None,
        Some((_, Some(plant))) => Some(plant),
        Some((name, None)) => {
            let known: Vec<_> = Plant::ALL.iter().map(|plant| plant.as_str()).collect();
            let known = known.join(", ");
            return Err(SystemError(format!("there is no plant {name}; the plants are {known}")));
        }
    };
    let mut zones = spec.zones.iter().cycle().skip(usize::try_from(node - 1).unwrap_or(0));
    let config = NodeConfig {
        node,
        cluster: "firedrill".to_owned(),
        zone: zones.next().cloned().unwrap_or_default(),
        peers: peers.clone(),
        founders: Vec::new(),
        bootstrap: false,
        bootstrap_permit: Some(data_dir.with_file_name(PERMIT)),
        client_listen,
        peer_listen,
        data_dir: data_dir.to_owned(),
        shards: spec.shards,
        replication_factor: spec.replicas.unwrap_or(REPLICATION_FACTOR),
        // Where a number is said it holds for small clusters too.
        everywhere_up_to: if spec.replicas.is_some() {
            0
        } else {
            EVERYWHERE_UP_TO as usize
        },
        epoch: 1,
        seed,
        plant,
        volatile_write_cache: true,
        timing: target_service::node::Timing::default(),
        bounds: target_service::node::Bounds::default(),
        retention: target_service::node::Retention::default(),
        state: target_service::chat::Settings::default(),
        verification: target_service::node::Verification::default(),
        capacity: target_service::node::Capacity::default(),
        login_ramp: target_service::node::LoginRamp::default(),
        protections: target_service::node::Protections::default(),
        versions: target_service::node::Versions::default(),
    };
    let mut config = serde_json::to_value(config).map_err(|e| wrong(&e))?;
    if let Some(verification) = spec.verification {
        config["verification"]["required"] = true.into();
        config["verification"]["delay_ms"] = verification.delay_ms.into();
    }
    if let Some(limit) = spec.login_per_s {
        config["bounds"]["logins_per_second"] = share(limit, spec.nodes).into();
    }
    for (key, value) in &spec.settings {
        set(&mut config, key, value.clone())?;
    }
    let config: NodeConfig = serde_json::from_value(config).map_err(|e| wrong(&e))?;
    config.to_toml().map_err(|e| wrong(&e))
}

/// One node's share of a limit of the whole service, at least 1 (0 would be no limit).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positive, and the cast saturates"
)]
fn share(limit: f64, nodes: u32) -> u32 {
    ((limit / f64::from(nodes.max(1))).ceil() as u32).max(1)
}

/// Sets `key`, such as `timing.election_ms_min`, to `value`. What nodes don't have is refused when it is read back.
fn set(config: &mut serde_json::Value, key: &str, value: serde_json::Value) -> Result<(), SystemError> {
    const OURS: [&str; 8] = [
        "node",
        "peers",
        "founders",
        "bootstrap_permit",
        "client_listen",
        "peer_listen",
        "data_dir",
        "plant",
    ];
    let first = key.split('.').next().unwrap_or(key);
    if OURS.contains(&first) {
        return Err(SystemError(format!(
            "the setting {key} is made by the run: leave it out"
        )));
    }
    let mut place = config;
    for part in key.split('.') {
        let Some(fields) = place.as_object_mut() else {
            return Err(SystemError(format!(
                "the setting {key} is below a value that has no fields"
            )));
        };
        place = fields.entry(part).or_insert(serde_json::Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> MessagingSpec {
        MessagingSpec {
            nodes: 3,
            zones: vec!["a".to_owned(), "b".to_owned()],
            shards: 4,
            login_per_s: Some(394.0),
            plant: None,
            gateways: None,
            latency_ms: BTreeMap::new(),
            replicas: None,
            verification: None,
            status_page: None,
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn names_and_ids_agree() {
        assert_eq!(node_id("n12"), Some(12));
        assert_eq!(node_id(&node_name(3)), Some(3));
        for wrong in ["12", "n", "n0", "m1", "n-1"] {
            assert_eq!(node_id(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_large_cluster_spreads_its_shards() {
        let large = MessagingSpec {
            nodes: 7,
            shards: 8,
            ..spec()
        };
        let roster = roster(&large);
        let holders = |shard: u32| roster.groups[&group_of(shard)].iter().cloned().collect::<Vec<_>>();
        assert_eq!(holders(0), ["n1", "n2", "n3"]);
        assert_eq!(holders(6), ["n1", "n2", "n7"]);
        assert_eq!(super::roster(&spec()).groups["shard:3"].len(), 3);
        assert_eq!(roster.nodes[2].zone, "a");
    }

    #[test]
    fn settings_reach_the_nodes_and_unknown_ones_are_refused() {
        let with = |key: &str, value: serde_json::Value| {
            let mut spec = spec();
            spec.settings.insert(key.to_owned(), value);
            check(&spec)
        };
        assert!(check(&spec()).is_ok());
        assert!(with("timing.election_ms_min", 250.into()).is_ok());
        for (key, value, says) in [
            ("timing.election_ms_min", 5.into(), "two heartbeats"),
            ("timing.nonsense", 5.into(), "nonsense"),
            ("nonsense.deep", 5.into(), "no fields"),
            ("data_dir", "/".into(), "made by the run"),
        ] {
            let error = with(key, value).expect_err("refused").0;
            assert!(error.contains(says), "{key}: {error}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused_before_anything_starts() {
        for (change, says) in [
            ((|s: &mut MessagingSpec| s.nodes = 0) as fn(&mut MessagingSpec), "peers"),
            (|s| s.shards = 0, "shards"),
            (|s| s.plant = Some("nonsense".to_owned()), "the plants are"),
        ] {
            let mut spec = spec();
            change(&mut spec);
            let error = check(&spec).expect_err("refused").0;
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn each_node_gets_its_share_of_the_log_in_limit() {
        assert_eq!(share(394.0, 3), 132);
        assert_eq!(share(0.5, 3), 1);
    }
}
