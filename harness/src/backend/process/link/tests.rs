//! Links over real sockets: what is cut waits, what dies looks dead, nothing is lost or overtakes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::LinkNet;
use crate::backend::{BackendError, Direction, LinkId, LinkRule};
use crate::base::{RunClock, Streams};

/// For what must come: long enough for a machine that is busy with other tests.
const SOON: Duration = Duration::from_secs(20);
/// For what must not come. A false pass is possible on a busy machine, a false failure is not.
const A_WHILE: Duration = Duration::from_millis(60);

const CUT: LinkRule = LinkRule {
    cut: true,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
    bytes_per_s: None,
    expires: None,
};

struct Bench {
    net: LinkNet,
    id: LinkId,
    clock: RunClock,
    address: SocketAddr,
    server: TcpListener,
}

impl Bench {
    async fn new() -> Self {
        let clock = RunClock::start();
        let net = LinkNet::start(clock, Streams::new(7)).await.unwrap();
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let id = LinkId::between("n1", "n2");
        let address = net.open(id.clone(), server.local_addr().unwrap()).await.unwrap();
        Self {
            net,
            id,
            clock,
            address,
            server,
        }
    }

    async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(self.address).await.unwrap();
        let (server, _) = soon(self.clock, self.server.accept()).await.unwrap();
        (client, server)
    }

    async fn set(&self, direction: Direction, rule: LinkRule) {
        self.net.set_rules(&[(self.id.clone(), direction, rule)]).await.unwrap();
    }

    async fn nothing_within(&self, wait: Duration, what: impl Future) -> bool {
        tokio::select! {
            biased;
            _ = what => false,
            () = self.clock.sleep(wait) => true,
        }
    }
}

async fn soon<T>(clock: RunClock, what: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = what => done,
        () = clock.sleep(SOON) => panic!("did not happen in {SOON:?}"),
    }
}

async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_cut_holds_one_direction_and_loses_nothing() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.set(Direction::Forward, CUT).await;
    client.write_all(b"there").await.unwrap();
    server.write_all(b"back").await.unwrap();
    assert_eq!(soon(bench.clock, read(&mut client, 4)).await, b"back");
    let mut one = [0; 1];
    assert!(bench.nothing_within(A_WHILE, server.peek(&mut one)).await);
    bench.set(Direction::Forward, LinkRule::default()).await;
    assert_eq!(soon(bench.clock, read(&mut server, 5)).await, b"there");
    // One more round trip through the links' one thread: by then the count is in.
    server.write_all(b"x").await.unwrap();
    soon(bench.clock, read(&mut client, 1)).await;
    assert_eq!(
        bench.net.delivered_bytes(&bench.id, Direction::Forward).unwrap(),
        5,
        "what is handed on is counted"
    );
}

#[tokio::test]
async fn the_end_of_a_stream_waits_for_the_heal_and_then_is_an_end() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.set(Direction::Forward, CUT).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut all = Vec::new();
    assert!(bench.nothing_within(A_WHILE, server.read_to_end(&mut all)).await);
    bench.set(Direction::Forward, LinkRule::default()).await;
    soon(bench.clock, server.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"last words");
    server.write_all(b"still open").await.unwrap();
    assert_eq!(soon(bench.clock, read(&mut client, 10)).await, b"still open");
}

#[tokio::test]
async fn an_end_with_nothing_before_it_waits_too() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.set(Direction::Forward, CUT).await;
    client.shutdown().await.unwrap();
    let mut one = [0; 1];
    assert!(bench.nothing_within(A_WHILE, server.read(&mut one)).await);
    bench.set(Direction::Forward, LinkRule::default()).await;
    assert_eq!(soon(bench.clock, server.read(&mut one)).await.unwrap(), 0);
}

#[tokio::test]
async fn a_reset_is_a_reset_on_the_other_side_and_waits_for_the_heal() {
    let bench = Bench::new().await;
    let (client, mut server) = bench.pair().await;
    bench.set(Direction::Forward, CUT).await;
    super::connection::reset(&client);
    drop(client);
    let mut one = [0; 1];
    assert!(bench.nothing_within(A_WHILE, server.read(&mut one)).await);
    // The other direction notices too, but its news travels in the direction that is cut.
    server.write_all(b"anybody?").await.unwrap();
    assert!(bench.nothing_within(A_WHILE, server.read(&mut one)).await);
    bench.set(Direction::Forward, LinkRule::default()).await;
    let error = soon(bench.clock, server.read(&mut one)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_dead_upstream_is_an_immediate_reset() {
    let bench = Bench::new().await;
    let Bench {
        net, address, server, ..
    } = bench;
    drop(server);
    // The reset may be there before the client has looked at its connection for the first time.
    let error = match TcpStream::connect(address).await {
        Ok(mut client) => soon(RunClock::start(), client.read(&mut [0; 1])).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    drop(net);
}

#[tokio::test]
async fn a_process_that_dies_resets_its_clients_through_the_link() {
    let bench = Bench::new().await;
    let (mut client, server) = bench.pair().await;
    super::connection::reset(&server);
    drop(server);
    let error = soon(bench.clock, client.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_new_connection_waits_for_the_heal_unless_its_client_gives_up() {
    let bench = Bench::new().await;
    bench.set(Direction::Backward, CUT).await;
    let mut patient = TcpStream::connect(bench.address).await.unwrap();
    patient.write_all(b"hello").await.unwrap();
    let mut hasty = TcpStream::connect(bench.address).await.unwrap();
    hasty.write_all(b"never mind").await.unwrap();
    drop(hasty);
    assert!(bench.nothing_within(A_WHILE, bench.server.accept()).await);
    bench.set(Direction::Backward, LinkRule::default()).await;
    let (mut server, _) = soon(bench.clock, bench.server.accept()).await.unwrap();
    assert_eq!(soon(bench.clock, read(&mut server, 5)).await, b"hello");
    assert!(
        bench.nothing_within(A_WHILE, bench.server.accept()).await,
        "who gave up is never heard of"
    );
}

#[tokio::test]
async fn a_rule_lifts_itself_when_its_lease_runs_out_and_a_renewed_one_does_not() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    let short = LinkRule::cut_until(bench.clock.now().plus(Duration::from_millis(40)));
    bench.set(Direction::Forward, short).await;
    bench.set(Direction::Backward, short).await;
    bench.set(Direction::Backward, CUT).await;
    client.write_all(b"a").await.unwrap();
    server.write_all(b"b").await.unwrap();
    assert_eq!(soon(bench.clock, read(&mut server, 1)).await, b"a");
    assert!(bench.nothing_within(A_WHILE, client.peek(&mut [0; 1])).await);
}

#[tokio::test]
async fn a_delay_is_at_least_what_was_asked_each_way() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    let late = LinkRule {
        delay: Duration::from_millis(30),
        jitter: Duration::from_millis(5),
        ..LinkRule::default()
    };
    bench.set(Direction::Forward, late).await;
    let sent = bench.clock.now();
    client.write_all(b"x").await.unwrap();
    soon(bench.clock, read(&mut server, 1)).await;
    assert!(bench.clock.now().since(sent) >= late.delay);
    let probe = &bench.net.probe(std::slice::from_ref(&bench.id), SOON).await.unwrap()[0];
    let took = probe.forward.arrived.unwrap().since(probe.forward.sent);
    assert!(took >= late.delay, "{took:?}");
}

#[tokio::test]
async fn bandwidth_is_bounded() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    let narrow = LinkRule {
        bytes_per_s: Some(100_000),
        ..LinkRule::default()
    };
    bench.set(Direction::Forward, narrow).await;
    let began = bench.clock.now();
    client.write_all(&[7; 10_000]).await.unwrap();
    soon(bench.clock, read(&mut server, 10_000)).await;
    // The last slice is free, so at least (10 000 - 2 000) / 100 000 s.
    assert!(bench.clock.now().since(began) >= Duration::from_millis(80));
}

#[tokio::test]
async fn a_probe_sees_each_half_and_the_heal() {
    let bench = Bench::new().await;
    let ids = [bench.id.clone()];
    let whole = bench.net.probe(&ids, SOON).await.unwrap()[0];
    assert!(whole.forward.arrived.is_some() && whole.backward.arrived.is_some());
    bench.set(Direction::Backward, CUT).await;
    let cut = bench.net.probe(&ids, A_WHILE).await.unwrap()[0];
    assert!(cut.forward.arrived.is_some() && cut.backward.arrived.is_none());
    bench.set(Direction::Backward, LinkRule::default()).await;
    let healed = bench.net.probe(&ids, SOON).await.unwrap()[0];
    assert!(healed.forward.arrived.is_some() && healed.backward.arrived.is_some());
    assert!(
        bench.nothing_within(A_WHILE, bench.server.accept()).await,
        "a probe never reaches the node"
    );
}

#[tokio::test]
async fn a_first_probe_of_a_cut_link_sees_nothing_either_way() {
    let bench = Bench::new().await;
    bench.set(Direction::Forward, CUT).await;
    let ids = [bench.id.clone()];
    let cut = bench.net.probe(&ids, A_WHILE).await.unwrap()[0];
    assert_eq!((cut.forward.arrived, cut.backward.arrived), (None, None));
    bench.set(Direction::Forward, LinkRule::default()).await;
    let healed = bench.net.probe(&ids, SOON).await.unwrap()[0];
    assert!(healed.forward.arrived.is_some());
}

#[tokio::test]
async fn all_connections_of_a_link_can_be_reset_and_new_ones_are_served() {
    let bench = Bench::new().await;
    let (mut client, mut server) = bench.pair().await;
    bench.net.probe(std::slice::from_ref(&bench.id), SOON).await.unwrap();
    assert_eq!(bench.net.reset(&bench.id).await.unwrap(), 2, "ours, and the probe's");
    for stream in [&mut client, &mut server] {
        let error = soon(bench.clock, stream.read(&mut [0; 1])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let (mut client, mut server) = bench.pair().await;
    client.write_all(b"x").await.unwrap();
    soon(bench.clock, read(&mut server, 1)).await;
    let probe = bench.net.probe(std::slice::from_ref(&bench.id), SOON).await.unwrap()[0];
    assert!(probe.forward.arrived.is_some(), "the probe dials again");
}

#[tokio::test]
async fn unknown_and_repeated_links_are_refused_and_nothing_is_set() {
    let bench = Bench::new().await;
    let unknown = LinkId::between("n1", "n9");
    let rules = [
        (bench.id.clone(), Direction::Forward, CUT),
        (unknown.clone(), Direction::Forward, CUT),
    ];
    assert!(matches!(
        bench.net.set_rules(&rules).await,
        Err(BackendError::UnknownLink(id)) if id == unknown
    ));
    let probe = bench.net.probe(std::slice::from_ref(&bench.id), SOON).await.unwrap()[0];
    assert!(probe.forward.arrived.is_some());
    assert!(bench.net.open(bench.id.clone(), bench.address).await.is_err());
    bench.net.close().await;
    assert!(bench.net.names().is_empty());
}

#[derive(Clone, Debug)]
enum Act {
    Send(bool, usize),
    Rule(bool, LinkRule),
}

fn act() -> impl Strategy<Value = Act> {
    let rule = (any::<bool>(), 0u64..4, 0u64..4).prop_map(|(cut, delay, jitter)| LinkRule {
        cut,
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        ..LinkRule::default()
    });
    prop_oneof![
        3 => (any::<bool>(), 1usize..100_000).prop_map(|(forward, count)| Act::Send(forward, count)),
        2 => (any::<bool>(), rule).prop_map(|(forward, rule)| Act::Rule(forward, rule)),
    ]
}

/// Writes what it is told while reading all that comes; returns what came once the other side has ended.
async fn side(stream: TcpStream, mut orders: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>) -> Vec<u8> {
    let (mut reader, mut writer) = stream.into_split();
    let write = async move {
        while let Some(bytes) = orders.recv().await {
            writer.write_all(&bytes).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        writer
    };
    let mut all = Vec::new();
    let (_writer, read) = tokio::join!(write, reader.read_to_end(&mut all));
    read.unwrap();
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn bytes_arrive_whole_and_in_order_through_any_rules(acts in prop::collection::vec(act(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new().await;
            let (client, server) = bench.pair().await;
            let (to_client, client_orders) = tokio::sync::mpsc::unbounded_channel();
            let (to_server, server_orders) = tokio::sync::mpsc::unbounded_channel();
            let client = tokio::spawn(side(client, client_orders));
            let server = tokio::spawn(side(server, server_orders));
            let mut meant = [Vec::new(), Vec::new()];
            for act in acts {
                match act {
                    Act::Send(forward, count) => {
                        let half = usize::from(!forward);
                        let start = meant[half].len();
                        let bytes: Vec<u8> = (start..start + count).map(|n| (n / 7 % 251) as u8).collect();
                        meant[half].extend_from_slice(&bytes);
                        let side = if forward { &to_client } else { &to_server };
                        side.send(bytes).unwrap();
                    }
                    Act::Rule(forward, rule) => {
                        let direction = if forward { Direction::Forward } else { Direction::Backward };
                        bench.set(direction, rule).await;
                        tokio::task::yield_now().await;
                    }
                }
            }
            for direction in Direction::BOTH {
                bench.set(direction, LinkRule::default()).await;
            }
            drop((to_client, to_server));
            let (at_client, at_server) = soon(bench.clock, async { tokio::join!(client, server) }).await;
            assert!(at_server.unwrap() == meant[0], "forward bytes differ");
            assert!(at_client.unwrap() == meant[1], "backward bytes differ");
        });
    }
}

/// A gate at which every connection is taken for one of the node that `from` names at that moment.
async fn gate(bench: &Bench, from: &'static str) -> SocketAddr {
    let upstream = bench.server.local_addr().unwrap();
    let who = move |_, _| (!from.is_empty()).then(|| from.to_owned());
    bench
        .net
        .open_gate("n2", upstream, std::sync::Arc::new(who))
        .await
        .unwrap()
}

#[tokio::test]
async fn a_gate_puts_each_connection_under_the_rules_of_who_made_it() {
    let bench = Bench::new().await;
    let third = LinkId::between("n3", "n2");
    bench.net.open(third, bench.server.local_addr().unwrap()).await.unwrap();
    let (first, other) = (gate(&bench, "n1").await, gate(&bench, "n3").await);
    let mut from_first = TcpStream::connect(first).await.unwrap();
    let (mut at_first, _) = soon(bench.clock, bench.server.accept()).await.unwrap();
    let mut from_other = TcpStream::connect(other).await.unwrap();
    let (mut at_other, _) = soon(bench.clock, bench.server.accept()).await.unwrap();

    bench.set(Direction::Forward, CUT).await;
    from_first.write_all(b"one").await.unwrap();
    from_other.write_all(b"two").await.unwrap();
    assert_eq!(
        soon(bench.clock, read(&mut at_other, 3)).await,
        b"two",
        "another pair is not cut"
    );
    assert!(
        bench.nothing_within(A_WHILE, at_first.peek(&mut [0])).await,
        "n1 to n2 is"
    );
    at_first.write_all(b"back").await.unwrap();
    assert_eq!(
        soon(bench.clock, read(&mut from_first, 4)).await,
        b"back",
        "nor is the other direction"
    );

    bench.set(Direction::Forward, LinkRule::default()).await;
    assert_eq!(
        soon(bench.clock, read(&mut at_first, 3)).await,
        b"one",
        "what was cut arrives"
    );
}

#[tokio::test]
async fn a_gate_lets_in_nobody_it_does_not_know_and_a_node_to_itself() {
    let bench = Bench::new().await;
    for stranger in ["", "n9"] {
        let address = gate(&bench, stranger).await;
        // Turned away at once: a slow client may see it while it still connects.
        let refused = async { TcpStream::connect(address).await?.read(&mut [0]).await };
        let refused = soon(bench.clock, refused).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset, "`{stranger}`");
    }
    bench.set(Direction::Forward, CUT).await;
    let mut client = TcpStream::connect(gate(&bench, "n2").await).await.unwrap();
    let (mut server, _) = soon(bench.clock, bench.server.accept()).await.unwrap();
    client.write_all(b"self").await.unwrap();
    assert_eq!(soon(bench.clock, read(&mut server, 4)).await, b"self");
    bench.net.close().await;
    assert!(bench.net.names().is_empty());
}
