//! A system of helper processes, through the real backend.

use std::collections::BTreeMap;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    backend::{
        Direction, LinkId, LinkRule, NodeSignal, Ready,
        process::testing::{ROLE, ROLE_ARGS, backend, soon},
    },
    base::{RunClock, Streams},
    history::{Class, Event, FORMAT, Header, Outcome, Recorder},
    workload::{RequestSpec, RetrySpec, ScheduleSpec},
};

fn spec(client: &str) -> CommandSpec {
    let program = std::env::current_exe().expect("this test").display().to_string();
    let args = ROLE_ARGS.map(str::to_owned);
    CommandSpec {
        nodes: ["n1", "n2"].map(|name| (name.to_owned(), String::new())).into(),
        command: std::iter::once(program).chain(args).collect(),
        env: BTreeMap::from([
            (ROLE.to_owned(), "relay {port:client} {dir}".to_owned()),
            ("PEERS".to_owned(), "{index}:{peers}".to_owned()),
        ]),
        ports: vec!["client".to_owned(), "peer".to_owned()],
        peers: "{name}=http://{address:client}".to_owned(),
        ready: "tcp:client".to_owned(),
        disk: None,
        client: client.to_owned(),
    }
}

fn load() -> LoadSpec {
    LoadSpec {
        system: "main".to_owned(),
        class: Class::Request,
        users: 2,
        devices: 1,
        size_bytes: 0,
        schedule: ScheduleSpec::Constant { per_s: 100.0 },
        retry: RetrySpec::default(),
        op_timeout_ms: 2000,
        in_flight_max: 1000,
        probe: None,
        request: Some(RequestSpec {
            send: "ping\n".to_owned(),
            expect: "pong".to_owned(),
            ..RequestSpec::default()
        }),
        group: None,
        life: None,
    }
}

#[tokio::test]
async fn load_goes_through_links_and_moves_on_when_a_node_dies() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r1").await;
    let mut system = Command::new("main", &spec("tcp")).unwrap();
    system.layout(&backend, &dir.path().join("main")).await.unwrap();
    for node in ["n1", "n2"] {
        backend.start(&system.node_spec(node).unwrap()).await.unwrap();
    }
    let clock = RunClock::start();
    let recorder = Recorder::in_memory(Header {
        format: FORMAT.to_owned(),
        plan: serde_json::Value::Null,
        started: String::new(),
        versions: BTreeMap::new(),
    });
    let stage = Stage {
        recorder: recorder.clone(),
        clock,
        streams: Streams::new(1),
        number: 0,
    };
    let mut workload = system.workload(&[load()], stage).unwrap();
    let answered = |workload: &dyn Workload| {
        workload
            .progress()
            .classes
            .get(&Class::Request)
            .map_or(0, |class| class.ok)
    };
    let more = async |workload: &dyn Workload| {
        let wanted = answered(workload) + 20;
        soon(async {
            while answered(workload) < wanted {
                clock.sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    workload.start().await.unwrap();
    more(&*workload).await;
    backend.signal(&["n1".to_owned()], NodeSignal::Kill).await.unwrap();
    more(&*workload).await;
    workload.stop_sending().await;
    workload.fence().await.unwrap();
    workload.shut_down().await;

    let events = recorder.recorded().events;
    let ops = || {
        events.iter().filter_map(|event| match event {
            Event::Op(op) => Some(op),
            _ => None,
        })
    };
    let by = |node: &str| ops().filter(|op| op.answered_by.as_deref() == Some(node)).count();
    assert!(
        by("n1") > 0 && by("n2") > 0,
        "n1 answered {}, n2 {}",
        by("n1"),
        by("n2")
    );
    assert!(
        ops().any(|op| op.outcome != Outcome::Ok && op.error.is_some()),
        "the first attempt after the kill did not end well"
    );
    assert!(system.observe("n2").await.is_none(), "nobody says who leads");
    backend.tear_down().await.unwrap();
}

#[tokio::test]
async fn what_one_node_says_to_another_is_under_the_rules_of_their_link() {
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r1").await;
    let mut system = Command::new("main", &spec("tcp")).unwrap();
    system.layout(&backend, &dir.path().join("main")).await.unwrap();
    let specs: Vec<NodeSpec> = ["n1", "n2"].map(|node| system.node_spec(node).unwrap()).into();
    let told: Vec<&str> = specs.iter().map(|spec| spec.env["PEERS"].as_str()).collect();
    assert_eq!(
        told[0].split_once(':').unwrap().1,
        told[1].split_once(':').unwrap().1,
        "all are told the same"
    );
    assert!(
        told[0].starts_with("1:n1=http://127.0.0.1:") && told[1].starts_with("2:n1="),
        "{told:?}"
    );
    let peer = told[0].rsplit_once("n2=http://").unwrap().1.to_owned();
    for spec in &specs {
        backend.start(spec).await.unwrap();
    }
    let own: Vec<SocketAddr> = ["n1", "n2"]
        .map(|node| system.laid().unwrap().nodes[node].client_listen)
        .into();
    assert!(
        !told[0].contains(&own[1].to_string()),
        "no address leads past the links"
    );

    // Through each node to n2: from n1 that is the link n1->n2, from n2 itself it is none.
    let ask = async |node: SocketAddr| {
        let mut stream = TcpStream::connect(node).await.unwrap();
        stream.write_all(format!("{peer}\nping\n").as_bytes()).await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.map(|_| answer)
    };
    assert_eq!(soon(ask(own[0])).await.unwrap(), *b"pong");
    let link = LinkId::between("n1", "n2");
    let cut = LinkRule {
        cut: true,
        ..LinkRule::default()
    };
    backend
        .set_rules(&[(link.clone(), Direction::Backward, cut)])
        .await
        .unwrap();
    let clock = RunClock::start();
    let cut_off = tokio::select! {
        biased;
        _ = ask(own[0]) => false,
        () = clock.sleep(Duration::from_millis(100)) => true,
    };
    assert!(cut_off, "n1 hears nothing from n2");
    assert_eq!(soon(ask(own[1])).await.unwrap(), *b"pong", "n2 hears itself");
    let whole = LinkRule::default();
    backend.set_rules(&[(link, Direction::Backward, whole)]).await.unwrap();
    assert_eq!(soon(ask(own[0])).await.unwrap(), *b"pong");
    // Whoever is not a node of this system gets nowhere.
    let mut stranger = TcpStream::connect(&peer).await.unwrap();
    assert!(soon(stranger.read(&mut [0])).await.is_err());
    backend.tear_down().await.unwrap();
}

#[test]
fn what_can_not_be_is_refused_with_the_remedy() {
    let refused = |change: &dyn Fn(&mut CommandSpec)| {
        let mut spec = spec("etcd");
        change(&mut spec);
        Command::new("main", &spec)
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    };
    assert_eq!(refused(&|_| {}), "");
    for (text, says) in [
        (refused(&|s| s.client = "pigeon".to_owned()), "the clients are tcp"),
        (refused(&|s| s.ports = vec!["peer".to_owned()]), "called `client`"),
        (refused(&|s| s.command.push("{prot:x}".to_owned())), "`{prot:x}`"),
        (refused(&|s| s.peers = "{port:peer}".to_owned()), "`{port:peer}`"),
        (refused(&|s| s.ready = "soon".to_owned()), "write tcp:PORT"),
        (refused(&|s| s.ready = "tcp:nowhere".to_owned()), "tcp:nowhere"),
        (refused(&|s| s.nodes.clear()), "a node and a command"),
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
}

#[test]
fn etcd_is_one_group_of_all_nodes_in_the_order_of_their_numbers() {
    let mut spec = spec("etcd");
    spec.nodes = (1..=11).map(|i| (format!("n{i}"), String::new())).collect();
    let roster = Command::new("main", &spec).unwrap().roster().clone();
    assert_eq!(roster.nodes[1].name, "n2");
    assert_eq!(roster.nodes[10].name, "n11");
    assert_eq!(roster.groups[ETCD_GROUP].len(), 11);
}

#[tokio::test]
async fn readiness_is_asked_in_the_words_of_the_system() {
    let mut spec = spec("http");
    spec.ready = "http:/health".to_owned();
    let dir = tempfile::tempdir().unwrap();
    let backend = backend(dir.path(), "r1").await;
    let mut system = Command::new("main", &spec).unwrap();
    system.layout(&backend, &dir.path().join("main")).await.unwrap();
    let ready = system.node_spec("n1").unwrap().ready;
    let Ready::Check(check) = ready else {
        panic!("{ready:?}")
    };
    assert!(!soon(check.ask()).await, "nobody is there");
    assert!(
        format!("{check:?}").starts_with("http:/health at 127.0.0.1:"),
        "{check:?}"
    );
    backend.tear_down().await.unwrap();
}
