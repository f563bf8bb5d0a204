//! The processes at the edge over loopback, before a real node: gateways, the directory, the status page, and a back-end
//! plane that can be cut while clients stay connected.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use firedrill_proto::chat::v1::{
    AcknowledgeRequest, Delivery, DistortRequest, DistortionKind, GatewayStatusRequest, GatewayStatusResponse,
    RegistryBatch, Said, SayRequest, SayResponse, SendRequest, SubscribeRequest, gateway_client::GatewayClient,
    registry_client::RegistryClient, status_page_client::StatusPageClient, subscribe_event::Event,
};
use target_service::{
    client::{CallError, ChannelOptions, Client, Directory, Doors, StreamEnd, Subscription},
    discovery::{Door, HealthRule, Publication, ResolverOptions},
    edge::{DirectoryConfig, GatewayConfig, PageConfig, serve_directory, serve_gateway, serve_page},
    env::{Clock, SimDisk},
    node::{NodeConfig, Reason},
    process::RunningNode,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
};

/// Nothing takes this long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(120);
const SHARDS: u32 = 2;

/// A link that can be cut: then it holds bytes and new connections until it heals.
struct Relay {
    address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Relay {
    async fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(carry(near, target, is_cut.clone()));
            }
        });
        Self { address, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

async fn carry(near: TcpStream, target: SocketAddr, mut cut: watch::Receiver<bool>) {
    if cut.wait_for(|cut| !cut).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect(target).await else {
        return;
    };
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::join!(half(near_in, far_out, cut.clone()), half(far_in, near_out, cut));
}

async fn half(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut cut: watch::Receiver<bool>) {
    let mut bytes = [0; 4096];
    loop {
        let read = from.read(&mut bytes).await.unwrap_or(0);
        if cut.wait_for(|cut| !cut).await.is_err() || to.write_all(&bytes[..read]).await.is_err() || read == 0 {
            return;
        }
    }
}

struct Gateway {
    peer: SocketAddr,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

/// One node, a directory, a gateway in each of the zones a and b, and a status page that asks them all on its own way.
struct Rig {
    node: Option<RunningNode>,
    back_end: Relay,
    directory_address: String,
    directory: Directory,
    directory_stops: watch::Sender<bool>,
    gateways: BTreeMap<&'static str, Gateway>,
    page: String,
    clock: Clock,
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Rig {
    async fn start(rule: HealthRule) -> Self {
        let clock = Clock::system();
        let node = tokio::task::spawn_blocking(node).await.unwrap();
        let at = node.client_address();
        let back_end = Relay::before(at).await;

        let (listens, directory_at) = listener().await;
        let (directory_stops, stop) = watch::channel(false);
        let text = format!("listen = \"{directory_at}\"\nttl_ms = 200\nnegative_ttl_ms = 200\n");
        let (config, its) = (DirectoryConfig::parse(&text).unwrap(), clock.clone());
        tokio::spawn(async move { serve_directory(listens, &config, its, stop).await.unwrap() });

        let mut fronts = BTreeMap::new();
        for zone in ["a", "b"] {
            fronts.insert(zone, (listener().await, listener().await));
        }
        let peers: Vec<String> = fronts
            .iter()
            .map(|(zone, (_, (_, at)))| format!("gw-{zone} = \"{at}\""))
            .collect();
        let peers = peers.join("\n");
        let mut gateways = BTreeMap::new();
        for (zone, ((clients, client), (peer_listener, peer))) in fronts {
            let text = format!(
                "name = \"gw-{zone}\"\nzone = \"{zone}\"\nclient_listen = \"{client}\"\npeer_listen = \"{peer}\"\n\
                 directory = \"{directory_at}\"\nhealth_rule = \"{rule}\"\nprobe_ms = 50\nlease_ms = 2000\n\
                 silence_ms_max = 2000\nseed = 3\nregistry = {{ round_ms = 10 }}\n\
                 [nodes]\n1 = \"{}\"\n[gateways]\n{peers}\n",
                back_end.address,
            );
            let (config, its) = (GatewayConfig::parse(&text).unwrap(), clock.clone());
            let (stop, stops) = watch::channel(false);
            let ended = tokio::spawn(async move {
                serve_gateway(clients, peer_listener, &config, its, stops)
                    .await
                    .unwrap();
            });
            gateways.insert(zone, Gateway { peer, stop, ended });
        }

        let (listens, page) = listener().await;
        let text = format!(
            "listen = \"{page}\"\nshards = {SHARDS}\nask_ms = 300\nfresh_ms = 6000\nhold_ms = 300\n\
             directory = \"{directory_at}\"\nphone = \"+10000000\"\n[nodes]\n1 = \"{at}\"\n[gateways]\n{peers}\n",
        );
        let (config, its) = (PageConfig::parse(&text).unwrap(), clock.clone());
        let (never, stop) = watch::channel(false);
        tokio::spawn(async move {
            serve_page(listens, &config, its, stop).await.unwrap();
            drop(never);
        });
        Self {
            node: Some(node),
            back_end,
            directory: Directory::new(&directory_at.to_string(), Duration::from_secs(5)),
            directory_address: directory_at.to_string(),
            directory_stops,
            gateways,
            page: format!("http://{page}"),
            clock,
        }
    }

    fn doors(&self, zone: &str) -> Doors {
        let directory = Directory::new(&self.directory_address, Duration::from_secs(5));
        let options = ChannelOptions {
            connect_timeout: Duration::from_secs(5),
            ..ChannelOptions::default()
        };
        Doors::new(directory, zone, ResolverOptions::default(), options, self.clock.clone())
    }

    async fn names(&self) -> Vec<String> {
        let answer = self.directory.resolve().await.unwrap();
        answer.doors.into_iter().map(|door| door.name).collect()
    }

    async fn gateway(&self, zone: &str) -> GatewayStatusResponse {
        let at = format!("http://{}", self.gateways[zone].peer);
        let mut gateway = GatewayClient::connect(at).await.unwrap();
        gateway
            .gateway_status(GatewayStatusRequest {})
            .await
            .unwrap()
            .into_inner()
    }

    async fn says(&self) -> SayResponse {
        let mut page = StatusPageClient::connect(self.page.clone()).await.unwrap();
        page.say(SayRequest {}).await.unwrap().into_inner()
    }

    /// Waits until `is` so, within [`PATIENCE`].
    async fn until(&self, what: &str, mut is: impl AsyncFnMut(&Self) -> bool) {
        let ends = self.clock.now() + PATIENCE;
        while !is(self).await {
            assert!(self.clock.now() < ends, "not within {PATIENCE:?}: {what}");
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until both gateways are listed and the page has seen that everybody is served.
    async fn up(&self) {
        self.until("all is well", async |rig| {
            rig.names().await.len() == 2 && rig.says().await.said() == Said::AllClear
        })
        .await;
    }
}

fn node() -> RunningNode {
    let (clients, peers) = (
        StdListener::bind("127.0.0.1:0").unwrap(),
        StdListener::bind("127.0.0.1:0").unwrap(),
    );
    let (client, peer) = (clients.local_addr().unwrap(), peers.local_addr().unwrap());
    let text = format!(
        "node = 1\nclient_listen = \"{client}\"\npeer_listen = \"{peer}\"\ndata_dir = \"none\"\nshards = {SHARDS}\n\
         [peers]\n1 = \"{peer}\"\n"
    );
    let mut config = NodeConfig::parse(&text).unwrap();
    config.bootstrap = true;
    RunningNode::start_on(config, clients, peers, Arc::new(SimDisk::new())).unwrap()
}

/// Runs a test's body on threads of its own, with an overall bound.
fn run(body: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { tokio::time::timeout(2 * PATIENCE, body).await.expect("in time") });
    runtime.shutdown_background();
}

struct Person {
    user: u64,
    session: u64,
    client: Client,
    door: Door,
    events: Subscription,
}

/// Signs up, opens a session and listens, all through the door of `zone`.
async fn person(doors: &Doors, phone: &str) -> Person {
    let through = doors.door(1).await.unwrap();
    let client = through
        .client
        .with_timeout(Duration::from_secs(20))
        .with_silence_max(PATIENCE);
    client.refresh_routes().await.unwrap();
    let user = client.sign_up(phone).await.outcome.unwrap().user;
    let session = client.open_session(user, 1, 7).await.outcome.unwrap().session;
    let request = SubscribeRequest {
        user,
        device: 1,
        session,
        ..SubscribeRequest::default()
    };
    let events = client.subscribe(request).await.outcome.unwrap();
    Person {
        user,
        session,
        client,
        door: through.door,
        events,
    }
}

impl Person {
    async fn send(&self, to: u64, client_id: u64) -> Result<u64, CallError> {
        let request = SendRequest {
            sender: self.user,
            device: 1,
            session: self.session,
            recipient: to,
            client_id,
            body: b"hello".as_slice().into(),
            ..SendRequest::default()
        };
        self.client.send(request).await.outcome.map(|answer| answer.position)
    }

    async fn hears(&mut self) -> Delivery {
        loop {
            if let Event::Delivery(delivery) = self.events.next().await.unwrap() {
                return delivery;
            }
        }
    }

    async fn shows(&self, sequence: u64) {
        let request = AcknowledgeRequest {
            user: self.user,
            device: 1,
            session: self.session,
            sequence,
            ..AcknowledgeRequest::default()
        };
        self.client.acknowledge(request).await.outcome.unwrap();
    }
}

#[test]
fn clients_come_through_a_gateway_of_their_zone_and_gateways_know_of_each_others_sessions() {
    run(async {
        let rig = Rig::start(HealthRule::FailStatic).await;
        rig.up().await;
        let ann = person(&rig.doors("a"), "+4912345001").await;
        let mut bob = person(&rig.doors("b"), "+4912345002").await;
        assert_eq!((&*ann.door.name, &*bob.door.name), ("gw-a", "gw-b"));

        assert_eq!(ann.send(bob.user, 1).await, Ok(1));
        let delivery = bob.hears().await;
        assert_eq!((delivery.sender, &delivery.body[..]), (ann.user, &b"hello"[..]));
        bob.shows(delivery.sequence).await;

        rig.until("each gateway's registry knows both sessions", async |rig| {
            let (a, b) = (rig.gateway("a").await, rig.gateway("b").await);
            let known = |status: &GatewayStatusResponse| {
                let registry = status.registry.clone().unwrap();
                (
                    status.sessions,
                    registry.own_sessions,
                    registry.sessions,
                    registry.peers_up,
                )
            };
            known(&a) == (1, 1, 2, 1) && known(&b) == (1, 1, 2, 1)
        })
        .await;
        drop(bob);
        rig.until("a session that ended is known to have", async |rig| {
            rig.gateway("a").await.registry.unwrap().sessions == 1
        })
        .await;

        // What operators ask of nodes is not for gateways, and strangers do not speak in the registry.
        let fence = ann.client.fence(0, &[1]).await.outcome.unwrap_err();
        assert!(
            matches!(&fence, CallError::Refused(refusal) if refusal.reason == Reason::Invalid),
            "{fence}"
        );
        let mut registry = RegistryClient::connect(format!("http://{}", rig.gateways["a"].peer))
            .await
            .unwrap();
        let stranger = RegistryBatch {
            from: "gw-x".to_owned(),
            ..RegistryBatch::default()
        };
        let refused = registry.exchange(stranger).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    });
}

#[test]
fn with_the_rule_on_a_cut_back_end_makes_gateways_in_good_health_unreachable() {
    run(async {
        let rig = Rig::start(HealthRule::On).await;
        rig.up().await;
        let doors = rig.doors("a");
        let ann = person(&doors, "+4912345003").await;
        rig.back_end.cut(true);
        rig.until("nobody is listed", async |rig| rig.names().await.is_empty())
            .await;
        let dark = async || matches!(doors.door(1).await, Err(CallError::NotSent(_)));
        rig.until("clients have no door", async |_| dark().await).await;
        // The gateway itself is well: who kept its connection is answered, only not with what it wants.
        let status = rig.gateway("a").await;
        assert_eq!((status.reaches_store, status.published), (Some(false), false));
        let refused = ann
            .client
            .with_timeout(Duration::from_secs(5))
            .presence(ann.user)
            .await
            .outcome;
        assert!(refused.is_err());

        rig.back_end.cut(false);
        rig.until("both are listed again", async |rig| rig.names().await.len() == 2)
            .await;
        rig.until("clients have a door again", async |_| !dark().await).await;
        rig.until("they are served again", async |_| {
            ann.client.presence(ann.user).await.outcome.is_ok()
        })
        .await;
    });
}

#[test]
fn fail_static_keeps_the_doors_and_clients_stay_connected_to_gateways_that_have_nothing_to_give() {
    run(async {
        let rig = Rig::start(HealthRule::FailStatic).await;
        rig.up().await;
        let doors = rig.doors("b");
        let mut ann = person(&doors, "+4912345004").await;
        rig.back_end.cut(true);
        rig.until("the gateway notices", async |rig| {
            rig.gateway("b").await.reaches_store == Some(false)
        })
        .await;
        // The stream ends with a word, not with a broken connection.
        let end = loop {
            if let Err(end) = ann.events.next().await {
                break end;
            }
        };
        assert!(
            matches!(&end, StreamEnd::Refused(CallError::Refused(why)) if why.reason == Reason::NoQuorum),
            "{end}"
        );
        let until_refused = async |_: &Rig| {
            let outcome = ann
                .client
                .with_timeout(Duration::from_secs(5))
                .presence(ann.user)
                .await
                .outcome;
            matches!(outcome, Err(CallError::Refused(refusal)) if refusal.reason == Reason::NoQuorum)
        };
        rig.until("calls are refused as surely not done", until_refused).await;
        assert_eq!(rig.names().await.len(), 2, "nobody went dark");
        assert_eq!(doors.door(1).await.unwrap().door.name, "gw-b");

        rig.back_end.cut(false);
        rig.until("the same connection serves again", async |_| {
            ann.client.presence(ann.user).await.outcome.is_ok()
        })
        .await;
    });
}

#[test]
fn a_gateway_that_stops_says_so_first_and_its_clients_find_another() {
    run(async {
        let mut rig = Rig::start(HealthRule::On).await;
        rig.up().await;
        let doors = rig.doors("a");
        let mut ann = person(&doors, "+4912345005").await;
        let gateway = rig.gateways.remove("a").unwrap();
        gateway.stop.send_replace(true);
        let end = loop {
            if let Err(end) = ann.events.next().await {
                break end;
            }
        };
        assert!(end.to_string().contains("stopping"), "{end}");
        gateway.ended.await.unwrap();
        assert_eq!(rig.names().await, ["gw-b"]);
        rig.until("the door of the other zone is taken", async |_| {
            doors.door(1).await.is_ok_and(|through| through.door.name == "gw-b")
        })
        .await;
    });
}

#[test]
fn the_directory_can_be_made_to_lie_for_a_while_and_refuses_an_earlier_life() {
    run(async {
        let rig = Rig::start(HealthRule::FailStatic).await;
        rig.up().await;
        let distort = |kind: DistortionKind, address: &str, for_ms| DistortRequest {
            kind: kind.into(),
            address: address.to_owned(),
            for_ms,
            ..DistortRequest::default()
        };
        rig.directory
            .distort(distort(DistortionKind::Empty, "", 60_000))
            .await
            .unwrap();
        assert!(rig.names().await.is_empty());
        rig.directory
            .distort(distort(DistortionKind::Poison, "127.0.0.1:1", 60_000))
            .await
            .unwrap();
        let poisoned = rig.directory.resolve().await.unwrap();
        assert!(poisoned.doors.iter().all(|door| door.address == "127.0.0.1:1"));
        // Nobody serves there: surely not sent, and another door is tried next, which is no better.
        let through = rig.doors("a").door(1).await.unwrap();
        let outcome = through.client.refresh_routes().await;
        assert!(matches!(outcome, Err(CallError::NotSent(_))), "{outcome:?}");
        rig.directory
            .distort(distort(DistortionKind::None, "", 0))
            .await
            .unwrap();
        assert_eq!(rig.names().await.len(), 2);
        for wrong in [
            distort(DistortionKind::Empty, "", 0),
            distort(DistortionKind::Poison, "", 1000),
        ] {
            assert!(rig.directory.distort(wrong).await.is_err());
        }
        let late = Publication {
            name: "gw-a".to_owned(),
            zone: "a".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            generation: 1,
            lease: Duration::from_secs(1),
            healthy: true,
        };
        assert!(rig.directory.publish(&late).await.is_err());
        let status = rig.directory.status().await.unwrap();
        assert_eq!((status.live, status.refused), (2, 1));
    });
}

#[test]
fn the_page_says_that_all_is_well_only_when_it_is_and_speaks_when_all_else_is_dead() {
    run(async {
        let mut rig = Rig::start(HealthRule::On).await;
        rig.up().await;
        let is = async |rig: &Rig, said: Said| rig.says().await.said() == said;
        rig.until("all is well", async |rig| is(rig, Said::AllClear).await)
            .await;
        let ann = person(&rig.doors("a"), "+4912345006").await;
        rig.until("the session is seen", async |rig| {
            let statement = rig.says().await;
            statement.said() == Said::AllClear && statement.sessions_before == 1
        })
        .await;

        rig.back_end.cut(true);
        rig.until("users' way is shut", async |rig| is(rig, Said::Down).await)
            .await;
        rig.back_end.cut(false);
        rig.until("the way is open again", async |rig| {
            let names = rig.names().await;
            !names.is_empty() && !is(rig, Said::Down).await
        })
        .await;
        // Every process answers and everybody could be served; but whoever was here is not back.
        drop(ann);
        rig.until("the session is gone", async |rig| rig.gateway("a").await.sessions == 0)
            .await;
        rig.until("and missed", async |rig| {
            let statement = rig.says().await;
            statement
                .reasons
                .iter()
                .any(|reason| reason.contains("0 sessions are there, of 1"))
        })
        .await;
        assert!(!is(&rig, Said::AllClear).await);
        let back = person(&rig.doors("a"), "+4912345006").await;
        rig.until("all is well again", async |rig| is(rig, Said::AllClear).await)
            .await;

        // All that it speaks of dies; it still speaks.
        drop(back);
        drop(rig.node.take());
        rig.directory_stops.send_replace(true);
        for gateway in std::mem::take(&mut rig.gateways).into_values() {
            gateway.ended.abort();
        }
        rig.until("it is seen to be down", async |rig| is(rig, Said::Down).await)
            .await;
        let reasons = rig.says().await.reasons;
        assert!(
            reasons.iter().any(|reason| reason.starts_with("node n1")),
            "{reasons:?}"
        );
    });
}
