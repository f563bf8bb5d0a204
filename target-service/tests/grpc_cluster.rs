//! Three real nodes over loopback: real sockets and threads, the client library in front. Their disks are in memory,
//! since a test's machine may make a real one wait for seconds, and time is not what is tested here.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, Caller, HistoryRequest, Role, SendRequest, SubscribeRequest, messaging_client::MessagingClient,
    subscribe_event::Event,
};
use target_service::{
    client::{Attempt, CallError, ChannelOptions, Channels, Client, RetryPolicy, Subscription},
    env::{Clock, SimDisk, Streams},
    grpc::from_status,
    node::{Bounds, NodeConfig, Reason, Retention, Timing, Verification},
    process::{Ended, RunningNode},
};

const NODES: u64 = 3;
/// Nothing takes this long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(180);

struct Cluster {
    disks: BTreeMap<u64, SimDisk>,
    bounds: Bounds,
    clients: BTreeMap<u64, SocketAddr>,
    peers: BTreeMap<u64, SocketAddr>,
    running: BTreeMap<u64, RunningNode>,
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Cluster {
    fn start(bounds: Bounds) -> Self {
        let bind = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners: BTreeMap<u64, _> = (1..=NODES).map(|node| (node, (bind(), bind()))).collect();
        let at = |listener: &TcpListener| listener.local_addr().unwrap();
        let clients: BTreeMap<_, _> = listeners
            .iter()
            .map(|(node, (client, _))| (*node, at(client)))
            .collect();
        let peers = listeners.iter().map(|(node, (_, peer))| (*node, at(peer))).collect();
        let options = ChannelOptions {
            connect_timeout: Duration::from_secs(5),
            ..ChannelOptions::default()
        };
        let addresses = clients.iter().map(|(node, at)| (*node, at.to_string())).collect();
        let client = Client::new(Channels::new(addresses, options));
        let mut cluster = Self {
            disks: (1..=NODES).map(|node| (node, SimDisk::new())).collect(),
            bounds,
            clients,
            peers,
            running: BTreeMap::new(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            client: client.with_timeout(Duration::from_secs(10)).with_silence_max(PATIENCE),
        };
        for (node, (client, peer)) in listeners {
            let running = cluster.run(node, client, peer);
            cluster.running.insert(node, running);
        }
        cluster.wait(async |cluster| cluster.client.refresh_routes().await.unwrap());
        cluster
    }

    fn config(&self, node: u64) -> NodeConfig {
        NodeConfig {
            node,
            cluster: String::new(),
            zone: format!("zone-{node}"),
            peers: self.peers.clone(),
            founders: Vec::new(),
            bootstrap: true,
            bootstrap_permit: None,
            client_listen: self.clients[&node],
            peer_listen: self.peers[&node],
            data_dir: "on-no-real-disk".into(),
            shards: 4,
            replication_factor: 3,
            everywhere_up_to: 5,
            epoch: 1,
            seed: 11,
            plant: None,
            timing: Timing::default(),
            bounds: self.bounds.clone(),
            volatile_write_cache: false,
            retention: Retention::default(),
            state: Default::default(),
            verification: Verification::default(),
            capacity: target_service::node::Capacity::default(),
            login_ramp: target_service::node::LoginRamp::default(),
            protections: target_service::node::Protections::default(),
            versions: Default::default(),
        }
    }

    fn run(&self, node: u64, client: TcpListener, peer: TcpListener) -> RunningNode {
        RunningNode::start_on(self.config(node), client, peer, Arc::new(self.disks[&node].clone())).unwrap()
    }

    fn restart(&mut self, node: u64) {
        let bind = |at: &SocketAddr| TcpListener::bind(at).expect("a dead node's port is free again");
        let running = self.run(node, bind(&self.clients[&node]), bind(&self.peers[&node]));
        self.running.insert(node, running);
    }

    /// Runs `work` with an overall bound.
    fn wait<T>(&self, work: impl AsyncFnOnce(&Self) -> T) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, work(self)).await.expect("in time") })
    }

    /// Attempts until one succeeds, as a careful client would.
    async fn retry<T>(&self, mut attempt: impl AsyncFnMut(&Client) -> Attempt<T>) -> T {
        let mut policy = RetryPolicy::new(u32::MAX, Streams::new(5).stream("retry"));
        policy.max = Duration::from_millis(100);
        let clock = Clock::system();
        for attempts in 1.. {
            match attempt(&self.client).await.outcome {
                Ok(answer) => return answer,
                Err(error) => {
                    let wait = policy
                        .wait(attempts, &error)
                        .unwrap_or_else(|| panic!("can't succeed: {error}"));
                    clock.sleep(wait).await;
                }
            }
        }
        unreachable!("bounded by the caller's patience")
    }

    async fn user(&self, phone: &str) -> u64 {
        self.retry(async |client| client.sign_up(phone).await).await.user
    }

    async fn session(&self, user: u64, device: u32) -> u64 {
        self.retry(async |client| client.open_session(user, device, 1).await)
            .await
            .session
    }

    async fn send(&self, from: (u64, u64), to: u64, client_id: u64) -> u64 {
        let request = SendRequest {
            sender: from.0,
            device: 1,
            session: from.1,
            recipient: to,
            client_id,
            body: format!("message {client_id}").into_bytes().into(),
            ..SendRequest::default()
        };
        self.retry(async |client| client.send(request.clone()).await)
            .await
            .position
    }

    async fn subscribe(&self, user: u64, device: u32, session: u64, after: u64) -> Subscription {
        let request = SubscribeRequest {
            user,
            device,
            session,
            after,
            ..SubscribeRequest::default()
        };
        self.retry(async |client| client.subscribe(request).await).await
    }

    fn leader_of(&self, shard: u32) -> u64 {
        self.wait(async |cluster| {
            loop {
                for node in cluster.running.keys() {
                    let Ok(status) = cluster.client.status(*node).await else {
                        continue;
                    };
                    if status
                        .shards
                        .iter()
                        .any(|said| said.shard == shard && said.role == i32::from(Role::Leader))
                    {
                        return *node;
                    }
                }
                tokio::task::yield_now().await;
            }
        })
    }
}

/// The next `count` deliveries' sequences and bodies.
async fn deliveries(stream: &mut Subscription, count: usize) -> Vec<(u64, String)> {
    let mut got = Vec::new();
    while got.len() < count {
        if let Event::Delivery(delivery) = stream.next().await.expect("the stream goes on") {
            got.push((delivery.sequence, String::from_utf8(delivery.body.to_vec()).unwrap()));
        }
    }
    got
}

/// The refusal that another attempt can't change.
async fn definite(mut attempt: impl AsyncFnMut() -> Result<(), CallError>) -> CallError {
    loop {
        match attempt().await {
            Ok(()) => panic!("it succeeded"),
            Err(error) if error.may_retry() => tokio::task::yield_now().await,
            Err(error) => return error,
        }
    }
}

fn expected(sequences: impl Iterator<Item = u64>) -> Vec<(u64, String)> {
    sequences.map(|n| (n, format!("message {n}"))).collect()
}

#[test]
fn what_is_sent_reaches_each_device_in_order_and_a_device_resumes_where_it_was() {
    let cluster = Cluster::start(Bounds::default());
    cluster.wait(async |cluster| {
        let (ann, bob) = (cluster.user("+4930000001").await, cluster.user("+4930000002").await);
        assert_eq!(cluster.user("+49 30 000001").await, ann, "one number, one account");
        let from = (ann, cluster.session(ann, 1).await);
        let sessions = [cluster.session(bob, 1).await, cluster.session(bob, 2).await];
        let mut streams = Vec::new();
        for (device, session) in (1..).zip(sessions) {
            streams.push(cluster.subscribe(bob, device, session, 0).await);
        }
        for client_id in 1..=20 {
            assert_eq!(cluster.send(from, bob, client_id).await, client_id);
        }
        for stream in &mut streams {
            assert_eq!(deliveries(stream, 20).await, expected(1..=20));
        }
        // Nothing is owed any more, and the stream says so.
        let current = loop {
            if let Event::Position(position) = streams[0].next().await.expect("the stream goes on")
                && position.current
            {
                break position;
            }
        };
        assert_eq!(current.last_sequence, 20);

        streams.clear();
        let cursor = AcknowledgeRequest {
            user: bob,
            device: 1,
            session: sessions[0],
            sequence: 10,
            ..AcknowledgeRequest::default()
        };
        let moved = cluster.retry(async |client| client.acknowledge(cursor).await).await;
        assert_eq!(moved.acknowledged, 10);
        let mut resumed = cluster.subscribe(bob, 1, sessions[0], 10).await;
        assert_eq!(deliveries(&mut resumed, 10).await, expected(11..=20));

        // A repeated send is the first answer again.
        let again = SendRequest {
            sender: ann,
            device: 1,
            session: from.1,
            recipient: bob,
            client_id: 7,
            body: "message 7".into(),
            ..SendRequest::default()
        };
        let again = cluster.retry(async |client| client.send(again.clone()).await).await;
        assert_eq!((again.position, again.repeated), (7, true));
        let read = HistoryRequest {
            conversation: again.conversation,
            caller: Some(Caller {
                user: ann,
                device: 1,
                session: from.1,
            }),
            ..HistoryRequest::default()
        };
        let page = cluster.retry(async |client| client.history(read).await).await;
        let positions: Vec<_> = page
            .messages
            .iter()
            .map(|message| (message.position, message.client_id))
            .collect();
        assert_eq!(positions, (1..=20).map(|n| (n, n)).collect::<Vec<_>>());
    });
}

#[test]
fn a_leader_that_stops_and_one_that_dies_are_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::start(Bounds::default());
    let (ann, bob, from) = cluster.wait(async |cluster| {
        let (ann, bob) = (cluster.user("+4930000001").await, cluster.user("+4930000002").await);
        (ann, bob, (ann, cluster.session(ann, 1).await))
    });
    let shard = cluster.client.router().shard_of_pair(ann, bob);
    let send = |cluster: &Cluster, ids: std::ops::RangeInclusive<u64>| {
        cluster.wait(async |cluster| {
            for client_id in ids {
                cluster.send(from, bob, client_id).await;
            }
        });
    };
    send(&cluster, 1..=10);

    let stopped = cluster.leader_of(shard);
    let ended = cluster.running.remove(&stopped).unwrap().stop();
    assert_eq!(ended, Ended::Stopped);
    send(&cluster, 11..=20);
    cluster.restart(stopped);

    let killed = cluster.leader_of(shard);
    drop(cluster.running.remove(&killed));
    send(&cluster, 21..=30);
    cluster.restart(killed);

    let page = cluster.wait(async |cluster| {
        let read = HistoryRequest {
            conversation: target_service::chat::ids::conversation_id(ann, bob),
            caller: Some(Caller {
                user: ann,
                device: 1,
                session: from.1,
            }),
            ..HistoryRequest::default()
        };
        cluster.retry(async |client| client.history(read).await).await
    });
    let ids: Vec<_> = page
        .messages
        .iter()
        .map(|message| (message.position, message.client_id))
        .collect();
    assert_eq!(ids, (1..=30).map(|n| (n, n)).collect::<Vec<_>>());
}

#[test]
fn refusals_say_what_to_do() {
    let cluster = Cluster::start(Bounds {
        logins_per_second: 1,
        login_burst: 1,
        ..Bounds::default()
    });
    let user = cluster.wait(async |cluster| cluster.user("+4930000001").await);
    let shard = cluster.client.router().shard_of_user(user);

    // A follower names the leader. Who leads may change under this test's feet, so it asks until the two agree.
    cluster.wait(async |cluster| {
        let request = SubscribeRequest {
            user,
            device: 1,
            session: 1,
            epoch: 1,
            ..SubscribeRequest::default()
        };
        for (node, address) in cluster.clients.iter().cycle() {
            let mut raw = MessagingClient::connect(format!("http://{address}")).await.unwrap();
            let refusal = from_status(&raw.subscribe(request).await.unwrap_err()).expect("one of ours");
            assert_eq!((refusal.shard, refusal.epoch), (Some(shard), 1), "{refusal:?}");
            if refusal.reason == Reason::NotLeader && refusal.leader.is_some() {
                assert!(refusal.leader != Some(*node) && refusal.term > 0, "{refusal:?}");
                break;
            }
        }
    });

    cluster.wait(async |cluster| {
        // At one log-in a second, a few in a row are too many, however slow the machine.
        let refused = loop {
            match cluster.client.open_session(user, 1, 1).await.outcome {
                Err(error) if error.word() == "OVERLOADED" => break error,
                Ok(_) => {}
                Err(error) => assert!(error.may_retry(), "{error}"),
            }
        };
        assert!(
            refused
                .retry_after()
                .is_some_and(|after| after <= Duration::from_secs(2)),
            "{refused:?}"
        );
        // And who waits for as long as asked gets in.
        cluster.session(user, 1).await;

        let nobody = SubscribeRequest {
            user: 12,
            device: 1,
            ..SubscribeRequest::default()
        };
        let refused = definite(async || cluster.client.subscribe(nobody).await.outcome.map(drop)).await;
        assert!(refused.surely_not_done(), "{refused}");
        let number = definite(async || cluster.client.sign_up("not a number").await.outcome.map(drop)).await;
        assert_eq!(number.word(), "INVALID");
    });
}
