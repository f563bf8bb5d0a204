//! A service with a configured capacity.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use firedrill_proto::chat::v1::{AdmissionStatus, PeerMessage, RampLoginsRequest, Role, StatusRequest};
use target_service::{
    env::{Clock, SimDisk, Transport, WallClock},
    node::{Call, Capacity, ClientApi as _, NodeConfig, NodeHandle, Parts, channel, run},
};

/// Sends a second that a node can do.
pub(crate) const CAPACITY: u32 = 60;

struct StoppedWall;

impl WallClock for StoppedWall {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

/// Hands messages over at once.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<BTreeMap<u64, NodeHandle>>>);

struct From(u64, Wire);

impl Transport for From {
    fn send(&self, to: u64, messages: Vec<PeerMessage>) {
        if let Some(handle) = self.1.0.lock().unwrap().get(&to) {
            handle.deliver(self.0, messages);
        }
    }
}

/// The service. Its nodes end with it.
pub(crate) struct Service {
    pub(crate) clock: Clock,
    leader: NodeHandle,
    _nodes: tokio::task::JoinSet<()>,
}

impl Service {
    /// Starts it, and returns once somebody leads.
    pub(crate) async fn start(count: u64, change: impl Fn(&mut NodeConfig)) -> Self {
        let wire = Wire::default();
        let mut nodes = tokio::task::JoinSet::new();
        for node in 1..=count {
            let mut config = config(node, count);
            change(&mut config);
            let clock = Clock::new(Arc::new(StoppedWall));
            let (handle, inbox) = channel(&config, clock.clone());
            let parts = Parts {
                clock,
                disk: Arc::new(SimDisk::new().attach()),
                transport: Arc::new(From(node, wire.clone())),
                observer: None,
                #[cfg(feature = "plants")]
                promises_early: false,
            };
            wire.0.lock().unwrap().insert(node, handle);
            nodes.spawn(async move { run(config, parts, inbox).await.expect("the node runs") });
        }
        let handles: Vec<NodeHandle> = wire.0.lock().unwrap().values().cloned().collect();
        let clock = Clock::new(Arc::new(StoppedWall));
        for _ in 0..1000 {
            for handle in &handles {
                let status = handle.status(StatusRequest {}, patient()).await.expect("a status");
                if status.shards[0].role() == Role::Leader {
                    let leader = handle.clone();
                    return Self {
                        clock,
                        leader,
                        _nodes: nodes,
                    };
                }
            }
            clock.sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads after ten seconds");
    }

    /// The node that leads the only shard.
    pub(crate) fn leader(&self) -> NodeHandle {
        self.leader.clone()
    }

    /// What the leader says of its gate.
    pub(crate) async fn admission(&self) -> AdmissionStatus {
        let status = self.leader.status(StatusRequest {}, patient()).await.expect("a status");
        status.admission.expect("it says what it does about overload")
    }

    pub(crate) async fn ramp_logins(&self, from_per_second: u32, to_per_second: u32, over: Duration) {
        let request = RampLoginsRequest {
            from_per_second,
            to_per_second,
            over_ms: u64::try_from(over.as_millis()).unwrap(),
        };
        self.leader.ramp_logins(request, patient()).await.expect("it ramps");
    }
}

pub(crate) fn patient() -> Call {
    Call::within(Duration::from_secs(2))
}

fn config(node: u64, count: u64) -> NodeConfig {
    let at = SocketAddr::from(([127, 0, 0, 1], 1));
    let peers: BTreeMap<String, SocketAddr> = (1..=count).map(|peer| (peer.to_string(), at)).collect();
    let mut config: NodeConfig = serde_json::from_value(serde_json::json!({
        "node": node, "peers": peers, "client_listen": at, "peer_listen": at,
        "data_dir": "unused", "shards": 1, "seed": 7,
    }))
    .expect("a configuration");
    config.bootstrap = true;
    config.capacity = Capacity {
        per_second: CAPACITY,
        // Five times what clients wait for, when the queue is full of sends.
        queue_calls: CAPACITY as usize * 5,
        ..Capacity::default()
    };
    config
}
