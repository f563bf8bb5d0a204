//! A cluster in one process, on simulated disks and a clock that jumps, and the people who use it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AuditRequest, AuditResponse, Caller, Delivery, DigestRequest, HistoryRequest, OpenSessionRequest, PeerMessage,
    Position, Role, SendRequest, SendResponse, ShardStatus, SignUpRequest, StatusRequest, SubscribeRequest,
    subscribe_event::Event,
};

use super::super::{Answer, Call, ClientApi, NodeConfig, NodeError, NodeHandle, Observer, Parts, Reason, channel, run};
use crate::{
    chat::ids,
    env::{Clock, Disk as _, SimDisk, Transport, WallClock},
};

/// Node `node` of a cluster of `nodes`, with `shards` shards.
pub(in crate::node) fn config(node: u64, nodes: u64, shards: u32) -> NodeConfig {
    let at = SocketAddr::from(([127, 0, 0, 1], 1));
    NodeConfig {
        node,
        cluster: String::new(),
        zone: String::new(),
        peers: (1..=nodes).map(|id| (id, at)).collect::<BTreeMap<_, _>>(),
        founders: Vec::new(),
        bootstrap: true,
        bootstrap_permit: None,
        client_listen: at,
        peer_listen: at,
        data_dir: "unused".into(),
        shards,
        replication_factor: 3,
        everywhere_up_to: 5,
        epoch: 1,
        seed: 7,
        plant: None,
        timing: Default::default(),
        bounds: Default::default(),
        volatile_write_cache: false,
        retention: Default::default(),
        state: Default::default(),
        verification: Default::default(),
        capacity: Default::default(),
        login_ramp: Default::default(),
        protections: Default::default(),
        versions: Default::default(),
    }
}

/// How long anything here may take, in virtual time.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

struct StoppedWall;

impl WallClock for StoppedWall {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

/// Hands messages over at once, unless the way is cut.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) nodes: Mutex<BTreeMap<u64, NodeHandle>>,
    pub(super) cut: Mutex<BTreeSet<(u64, u64)>>,
    /// What becomes of messages on their way.
    pub(super) way: Mutex<Option<Way>>,
}

/// Messages from one node to another, and those of them that arrive.
pub(super) type Way = Box<dyn FnMut(u64, u64, Vec<PeerMessage>) -> Vec<PeerMessage> + Send>;

struct From {
    node: u64,
    pub(super) wire: Arc<Wire>,
}

impl Transport for From {
    fn send(&self, to: u64, messages: Vec<PeerMessage>) {
        if self.wire.cut.lock().unwrap().contains(&(self.node, to)) {
            return;
        }
        let messages = match &mut *self.wire.way.lock().unwrap() {
            Some(way) => way(self.node, to, messages),
            None => messages,
        };
        if let Some(handle) = self.wire.nodes.lock().unwrap().get(&to) {
            handle.deliver(self.node, messages);
        }
    }
}

pub(super) type Task = tokio::task::JoinHandle<Result<(), NodeError>>;

pub(super) struct Cluster {
    pub(super) configs: BTreeMap<u64, NodeConfig>,
    pub(super) disks: BTreeMap<u64, SimDisk>,
    pub(super) wire: Arc<Wire>,
    pub(super) tasks: BTreeMap<u64, Task>,
    pub(super) clock: Clock,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl Cluster {
    pub(super) fn start(nodes: u64, shards: u32, change: impl Fn(&mut NodeConfig)) -> Self {
        let mut cluster = Self {
            configs: BTreeMap::new(),
            disks: BTreeMap::new(),
            wire: Arc::default(),
            tasks: BTreeMap::new(),
            clock: Clock::new(Arc::new(StoppedWall)),
            observer: None,
        };
        for node in 1..=nodes {
            let mut config = config(node, nodes, shards);
            change(&mut config);
            cluster.configs.insert(node, config);
            cluster.disks.insert(node, SimDisk::new());
        }
        (1..=nodes).for_each(|node| cluster.up(node));
        cluster
    }

    pub(super) fn up(&mut self, node: u64) {
        let config = self.configs[&node].clone();
        let clock = Clock::new(Arc::new(StoppedWall));
        let (handle, inbox) = channel(&config, clock.clone());
        let transport = From {
            node,
            wire: self.wire.clone(),
        };
        let parts = Parts {
            clock,
            disk: Arc::new(self.disks[&node].attach()),
            transport: Arc::new(transport),
            observer: self.observer.clone(),
            #[cfg(feature = "plants")]
            promises_early: false,
        };
        self.wire.nodes.lock().unwrap().insert(node, handle);
        self.tasks.insert(node, tokio::spawn(run(config, parts, inbox)));
    }

    /// Ends a node where it stands; its peers notice if `reset`.
    pub(super) fn crash(&mut self, node: u64, reset: bool) {
        self.tasks.remove(&node).unwrap().abort();
        self.disks[&node].crash();
        self.wire.nodes.lock().unwrap().remove(&node);
        if reset {
            for handle in self.wire.nodes.lock().unwrap().values() {
                handle.peer_reset(node);
            }
        }
    }

    /// Removes what a node, which is down, keeps in a folder.
    pub(super) fn lose(&self, node: u64, dir: &str) {
        let disk = &self.disks[&node];
        for name in disk.list(dir).unwrap() {
            disk.remove(&format!("{dir}/{name}")).unwrap();
        }
    }

    pub(super) fn handle(&self, node: u64) -> NodeHandle {
        self.wire.nodes.lock().unwrap()[&node].clone()
    }

    pub(super) fn nodes(&self) -> Vec<u64> {
        self.wire.nodes.lock().unwrap().keys().copied().collect()
    }

    pub(super) fn isolate(&self, node: u64, others: &[u64]) {
        let mut cut = self.wire.cut.lock().unwrap();
        for other in others {
            cut.extend([(node, *other), (*other, node)]);
        }
    }

    pub(super) fn heal(&self) {
        self.wire.cut.lock().unwrap().clear();
    }

    /// Repeats `ask` until it gives something.
    pub(super) async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
        let end = self.clock.now() + PATIENCE;
        while self.clock.now() < end {
            if let Some(found) = ask().await {
                return found;
            }
            self.clock.sleep(Duration::from_millis(5)).await;
        }
        panic!("no {what} within {PATIENCE:?}");
    }

    /// Repeats a call at every node until one carries it out.
    pub(super) async fn call<T>(&self, ask: impl AsyncFn(NodeHandle) -> Answer<T>) -> T {
        self.until("answer", async || {
            for node in self.nodes() {
                match ask(self.handle(node)).await {
                    Ok(answer) => return Some(answer),
                    Err(refusal) => assert!(
                        matches!(refusal.reason, Reason::NotLeader | Reason::NoQuorum | Reason::Maybe),
                        "{refusal:?}"
                    ),
                }
            }
            None
        })
        .await
    }

    pub(super) async fn shard(&self, node: u64, shard: u32) -> Option<ShardStatus> {
        let status = self.handle(node).status(StatusRequest {}, patient()).await.ok()?;
        status.shards.into_iter().find(|status| status.shard == shard)
    }

    pub(super) async fn leader(&self, shard: u32) -> u64 {
        self.until("leader", async || {
            for node in self.nodes() {
                let status = self.shard(node, shard).await;
                if status.is_some_and(|status| status.role() == Role::Leader) {
                    return Some(node);
                }
            }
            None
        })
        .await
    }

    /// Waits until all nodes that are up have applied the same, and compares what they hold.
    pub(super) async fn converge(&self, shard: u32) {
        self.until("agreement", async || {
            let mut digests = BTreeSet::new();
            for node in self.nodes() {
                let digest = self
                    .handle(node)
                    .digest(DigestRequest { shard }, patient())
                    .await
                    .ok()?;
                digests.insert((digest.applied, digest.digest));
            }
            let mut indices: Vec<_> = digests.iter().map(|(applied, _)| applied).collect();
            indices.dedup();
            assert_eq!(
                indices.len(),
                digests.len(),
                "replicas differ at one index: {digests:?}"
            );
            (digests.len() == 1).then_some(())
        })
        .await;
    }

    pub(super) async fn person(&self, phone: &str) -> Person {
        let request = SignUpRequest {
            phone: phone.to_owned(),
            epoch: 1,
            code: String::new(),
        };
        let user = self
            .call(async |node| node.sign_up(request.clone(), patient()).await)
            .await
            .user;
        let mut sessions = BTreeMap::new();
        for device in 1..=2 {
            let request = OpenSessionRequest {
                user,
                device,
                epoch: 1,
                client_nonce: u64::from(device),
            };
            let opened = self
                .call(async |node| node.open_session(request, patient()).await)
                .await;
            sessions.insert(device, opened.session);
        }
        Person { user, sessions }
    }

    pub(super) async fn send(&self, from: &Person, to: &Person, client_id: u64) -> SendResponse {
        let request = from.message(to, client_id);
        self.call(async |node| node.send(request.clone(), patient()).await)
            .await
    }

    /// All of a conversation, as an operator reads it.
    pub(super) async fn history(&self, conversation: u64) -> AuditResponse {
        self.history_after(conversation, 0).await
    }

    /// The same behind a position.
    pub(super) async fn history_after(&self, conversation: u64, after: u64) -> AuditResponse {
        let request = AuditRequest {
            conversation,
            after,
            limit: 0,
            epoch: 1,
        };
        self.call(async |node| node.audit(request, patient()).await).await
    }

    /// What a device is shown from `after` until it is told that it is current, and where.
    pub(super) async fn shown(&self, person: &Person, device: u32, after: u64) -> (Vec<Delivery>, Position) {
        let request = person.subscribe(device, after);
        let mut stream = self.call(async |node| node.subscribe(request, patient()).await).await;
        let mut shown = Vec::new();
        loop {
            let event = stream
                .recv()
                .await
                .expect("the stream goes on")
                .expect("and is not refused");
            match event.event.unwrap() {
                Event::Delivery(delivery) => shown.push(delivery),
                Event::Position(position) if position.current => return (shown, position),
                Event::Position(_) | Event::Notice(_) => {}
            }
        }
    }
}

pub(super) struct Person {
    pub(super) user: u64,
    pub(super) sessions: BTreeMap<u32, u64>,
}

impl Person {
    pub(super) fn message(&self, to: &Self, client_id: u64) -> SendRequest {
        SendRequest {
            sender: self.user,
            device: 1,
            session: self.sessions[&1],
            recipient: to.user,
            client_id,
            body: format!("message {client_id}").into(),
            epoch: 1,
            timeout_ms: 0,
            group: 0,
        }
    }

    /// Reads the conversation with `other`, with the first device's session.
    pub(super) fn read(&self, other: &Self) -> HistoryRequest {
        HistoryRequest {
            conversation: ids::conversation_id(self.user, other.user),
            after: 0,
            limit: 0,
            epoch: 1,
            caller: Some(Caller {
                user: self.user,
                device: 1,
                session: self.sessions[&1],
            }),
        }
    }

    pub(super) fn subscribe(&self, device: u32, after: u64) -> SubscribeRequest {
        SubscribeRequest {
            user: self.user,
            device,
            session: self.sessions[&device],
            after,
            incarnation: 0,
            epoch: 1,
        }
    }
}

pub(super) fn patient() -> Call {
    Call::within(Duration::from_secs(2))
}

pub(super) fn in_order(range: std::ops::RangeInclusive<u64>, of: impl IntoIterator<Item = u64>) {
    assert_eq!(of.into_iter().collect::<Vec<_>>(), range.collect::<Vec<_>>());
}
