//! The messaging service of this project: each node a child of this very binary, clients through links.
//!
//! - `layout`: ports, links and the nodes' configuration files.
//! - `directory`: what it answers, as a fault has it.
//! - `edge`: gateways and their directory, where a system has them.
//! - `page`: the status page beside them.
//! - `client`: how the load reaches the service.
//! - `people`: how the social loads do; `contacts`: how those on address books do.
//! - `moves`: replicas that move.
//! - `verification`: whoever carries codes, as a fault has it.
//! - `home`: how opening the app, receipts and presence do.
//! - `status`: what a node says of itself, in the words of histories.

mod client;
mod contacts;
mod directory;
mod edge;
mod home;
mod layout;
mod moves;
mod page;
mod people;
mod status;
mod verification;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use target_service::client::{ChannelOptions, Channels, Client, Directory};

use self::{
    client::{ChatOverGrpc, Way},
    edge::LaidEdge,
    layout::Laid,
    page::Reader,
    verification::Manner,
};
use super::{Errand, MessagingSpec, Stage, System, SystemError};
use crate::{
    backend::{Backend, Endpoint, LinkId, NodeSpec},
    history::{NodeStatus, Statement, TraceIds},
    target::{NodeName, Roster},
    workload::{
        LoadSpec, Workload,
        chat::{ChatSetting, ChatWorkload, ClientGroup},
    },
};

/// The hidden subcommand with which this binary runs a node.
pub const NODE_COMMAND: &str = "__node";
/// Runs a node of the messaging service when `arguments`, the program's name first, ask for one; none when they don't.
/// To be called from the main thread, before any runtime.
pub fn run_node(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut arguments = arguments.into_iter().skip(1).peekable();
    let asked = arguments.peek().is_some_and(|first| first == NODE_COMMAND);
    asked.then(|| target_service::process::run_from_args(arguments))
}

/// How long a node may take to say what it believes.
const OBSERVE_WITHIN: Duration = Duration::from_millis(300);

/// The service, its nodes and the ways to them.
pub struct Messaging {
    name: String,
    spec: MessagingSpec,
    seed: u64,
    /// What runs the nodes; this very binary when none.
    program: Option<PathBuf>,
    roster: Roster,
    laid: Option<Laid>,
    /// To the nodes' own addresses, for asking them of themselves.
    direct: Option<Client>,
    /// Whoever looks at the status page, where there is one.
    page: Option<Reader>,
    /// To the directory's own address, where there is one.
    directory: Option<Directory>,
}

impl Messaging {
    /// The service as `spec` has it; nothing is taken or started yet.
    ///
    /// # Errors
    /// When `spec` can't be: no nodes, no shards, an unknown plant, a setting that nodes don't have.
    pub fn new(name: &str, spec: &MessagingSpec, seed: u64) -> Result<Self, SystemError> {
        layout::check(spec)?;
        Ok(Self {
            name: name.to_owned(),
            roster: layout::roster(spec),
            spec: spec.clone(),
            seed,
            program: None,
            laid: None,
            direct: None,
            page: None,
            directory: None,
        })
    }

    /// Runs the nodes with another program than this binary, which must know [`NODE_COMMAND`] as well.
    #[must_use]
    pub fn with_program(self, program: PathBuf) -> Self {
        Self {
            program: Some(program),
            ..self
        }
    }

    fn laid(&self) -> Result<&Laid, SystemError> {
        let missing = || SystemError(format!("system {} was not laid out yet", self.name));
        self.laid.as_ref().ok_or_else(missing)
    }

    /// A client that knows nothing yet of who leads.
    fn client(&self, channels: Channels, direct: &Client, traceparent: &str) -> Arc<ChatOverGrpc> {
        let client = Client::new(channels).with_traceparent(traceparent);
        Arc::new(ChatOverGrpc::new(Way::Nodes(client), direct.clone(), &self.spec))
    }

    fn directory(&self) -> Result<&Directory, String> {
        self.directory
            .as_ref()
            .ok_or_else(|| "the system has no directory".to_owned())
    }

    /// How codes are carried during an errand, or else as the system has it.
    fn manner(&self, errand: &Errand, on: bool) -> Manner {
        match (errand, on) {
            (Errand::Verification { delay, failing }, true) => Manner {
                delay: *delay,
                failing: *failing,
            },
            _ => Manner {
                delay: Duration::from_millis(self.spec.verification.map_or(0, |it| it.delay_ms)),
                failing: false,
            },
        }
    }

    fn labels(&self, group: &str) -> BTreeMap<String, String> {
        if self.spec.zones.is_empty() {
            return BTreeMap::new();
        }
        BTreeMap::from([("zone".to_owned(), group.to_owned())])
    }

    /// The same through gateways, each group's by doors of its own.
    fn through_gateways(
        &self,
        edge: &LaidEdge,
        direct: &Client,
        traceparent: &str,
    ) -> (Vec<ClientGroup>, Option<Arc<ChatOverGrpc>>) {
        let client = |group: &str| {
            let way = Way::Doors(edge.doors(group)?, traceparent.to_owned());
            Some(Arc::new(ChatOverGrpc::new(way, direct.clone(), &self.spec)))
        };
        let all = layout::client_groups(&self.spec);
        let groups = all.iter().filter_map(|group| {
            Some(ClientGroup {
                labels: self.labels(group),
                client: client(group)?,
            })
        });
        (groups.collect(), all.first().and_then(|group| client(group)))
    }

    /// One client for each group of users, through the links, and one more for somebody who reads beside the first. Their
    /// calls are part of the run's trace, so that what the nodes tell of them can be laid beside the faults.
    fn clients(&self, laid: &Laid, direct: &Client, trace: TraceIds) -> (Vec<ClientGroup>, Option<Arc<ChatOverGrpc>>) {
        let traceparent = trace.traceparent();
        let direct = direct.with_traceparent(&traceparent);
        if let Some(edge) = &laid.edge {
            return self.through_gateways(edge, &direct, &traceparent);
        }
        let mut reader = None;
        let groups = laid.client_links.iter().map(|(group, addresses)| {
            let channels = Channels::new(addresses.clone(), ChannelOptions::default());
            reader.get_or_insert_with(|| self.client(channels.clone(), &direct, &traceparent));
            ClientGroup {
                labels: self.labels(group),
                client: self.client(channels, &direct, &traceparent),
            }
        });
        (groups.collect(), reader)
    }
}

#[async_trait]
impl System for Messaging {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "messaging"
    }

    fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn layout(&mut self, backend: &dyn Backend, dir: &Path) -> Result<(), SystemError> {
        let program = self.program.clone().map_or_else(std::env::current_exe, Ok);
        let program = program.map_err(|e| SystemError(format!("failed to find this binary: {e}")))?;
        let site = layout::Site {
            system: &self.name,
            program: &program,
            dir,
            seed: self.seed,
        };
        let laid = layout::lay_out(&site, &self.spec, &self.roster, backend).await?;
        let options = ChannelOptions {
            connections_per_node: 1,
            connect_timeout: OBSERVE_WITHIN,
            ..ChannelOptions::default()
        };
        let direct = Client::new(Channels::new(laid.own_addresses(), options));
        self.direct = Some(direct.with_timeout(OBSERVE_WITHIN));
        let directory = laid.edge.as_ref().map(|edge| edge.directory.to_string());
        self.directory = directory.map(|address| Directory::new(&address, directory::ANSWER_WITHIN));
        let page = laid.edge.as_ref().and_then(|edge| edge.page);
        self.page = page.map(Reader::of).transpose()?;
        self.laid = Some(laid);
        Ok(())
    }

    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        let laid = self.laid()?;
        let around = || laid.edge.as_ref()?.processes.get(node).cloned();
        let spec = laid.nodes.get(node).map(|laid| laid.spec.clone()).or_else(around);
        spec.ok_or_else(|| SystemError(format!("there is no node {node} in system {}", self.name)))
    }

    fn surroundings(&self) -> Vec<NodeName> {
        let edge = self.laid.as_ref().and_then(|laid| laid.edge.as_ref());
        edge.map(|edge| edge.processes.keys().cloned().collect())
            .unwrap_or_default()
    }

    async fn observe(&self, node: &str) -> Option<NodeStatus> {
        let direct = self.direct.as_ref()?;
        let status = direct.status(layout::node_id(node)?).await.ok()?;
        Some(status::translate(&status))
    }

    fn distance(&self, link: &LinkId) -> Duration {
        let zone = |name: &str| {
            let all = self.roster.nodes.iter().chain(&self.roster.gateways);
            all.filter(|it| it.name == name).map(|it| it.zone.clone()).next()
        };
        let from = match &link.from {
            Endpoint::Node(name) => zone(name),
            // Clients are in groups by their zone.
            Endpoint::Clients(group) => Some(group.clone()),
        };
        let (Some(from), Some(to)) = (from, zone(&link.to)) else {
            return Duration::ZERO;
        };
        let ms = |a: &String, b: &String| self.spec.latency_ms.get(a)?.get(b).copied();
        Duration::from_millis(ms(&from, &to).or_else(|| ms(&to, &from)).unwrap_or(0))
    }

    fn has_status_page(&self) -> bool {
        self.page.is_some()
    }

    async fn status_page(&self) -> Option<Statement> {
        self.page.as_ref()?.look().await
    }

    async fn transfer_leader(&self, group: &str, to: &str) -> Result<(), String> {
        let direct = self.direct.as_ref().ok_or("the system was not laid out yet")?;
        let shard = group.strip_prefix("shard:").and_then(|shard| shard.parse().ok());
        let shard: u32 = shard.ok_or_else(|| format!("there is no group {group}"))?;
        let to = layout::node_id(to).ok_or_else(|| format!("there is no node {to}"))?;
        // The map, and with it the leader as the nodes know it now.
        direct.refresh_routes().await.map_err(|e| e.to_string())?;
        let asked = direct.transfer_leader(shard, to).await;
        asked.outcome.map(|_| ()).map_err(|e| e.to_string())
    }

    async fn order(&self, errand: &Errand, on: bool) -> Result<String, String> {
        let direct = self.direct.as_ref().ok_or("the system was not laid out yet")?;
        match errand {
            Errand::MoveReplica { group, from, to } => moves::begin(direct, moves::request(group, from, to)?).await,
            Errand::Directory(answering) => directory::set(self.directory()?, on.then_some(answering)).await,
            Errand::Verification { .. } => verification::set(direct, self.manner(errand, on)).await,
        }
    }

    async fn proof(&self, errand: &Errand, on: bool) -> Result<String, String> {
        let direct = self.direct.as_ref().ok_or("the system was not laid out yet")?;
        match errand {
            Errand::MoveReplica { group, from, to } => moves::done(direct, moves::request(group, from, to)?).await,
            Errand::Directory(answering) => directory::show(self.directory()?, on.then_some(answering)).await,
            Errand::Verification { .. } => verification::show(direct, self.manner(errand, on)).await,
        }
    }

    fn workload(&self, loads: &[LoadSpec], stage: Stage) -> Result<Box<dyn Workload>, SystemError> {
        let laid = self.laid()?;
        let direct = self
            .direct
            .as_ref()
            .ok_or_else(|| SystemError("no way to the nodes".to_owned()))?;
        let (groups, reader) = self.clients(laid, direct, TraceIds::of(stage.recorder.header()));
        let workload = ChatWorkload::new(ChatSetting {
            system: self.name.clone(),
            number: stage.number,
            loads: loads.to_vec(),
            groups,
            reader: reader.ok_or_else(|| SystemError("no client has a way to the nodes".to_owned()))?,
            login_per_s: self.spec.login_per_s,
            recorder: stage.recorder,
            clock: stage.clock,
            streams: stage.streams,
        });
        Ok(Box::new(workload.map_err(|e| SystemError(e.0))?))
    }
}
