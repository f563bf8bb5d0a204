//! The engine over real helper processes and links, with a system that says what the test has it say.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

use firedrill::backend::journal::{self, Journal, StateDir, unique_run};
use firedrill::backend::process::{ProcessBackend, ProcessConfig};
use firedrill::backend::{
    Backend, BackendError, Capability, Direction, LinkId, LinkRule, NodeSignal, NodeSpec, ProbeResult, Ready,
    SignalEvidence, Started, TearDownReport,
};
use firedrill::base::{Nanos, RunClock, Streams};
use firedrill::fault::{Engine, EngineParts, FaultError, FaultSpec, Injection};
use firedrill::history::{
    Event, FORMAT, FaultChange, GroupStatus, HarnessKind, Header, NodeStatus, ProcessEvent, Recorder,
};
use firedrill::system::{Stage, System, SystemError};
use firedrill::target::{Roster, RosterNode};
use firedrill::workload::{LoadSpec, Workload};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

const ROLE: &str = "FIREDRILL_TEST_ROLE";
/// For what must come.
const SOON: Duration = Duration::from_secs(60);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let clock = RunClock::start();
    tokio::select! {
        biased;
        done = what => done,
        () = clock.sleep(SOON) => panic!("did not happen in {SOON:?}"),
    }
}

/// How to run this very test program as an echo server.
fn node(name: &str, port: u16, folder: &Path) -> NodeSpec {
    NodeSpec {
        name: name.to_owned(),
        zone: String::new(),
        program: std::env::current_exe().unwrap(),
        args: ["--exact", "in_a_role", "--nocapture"].map(str::to_owned).to_vec(),
        env: BTreeMap::from([(ROLE.to_owned(), port.to_string())]),
        dir: folder.join(name),
        disk: None,
        listens: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))],
        ready: Ready::Line("ready".to_owned()),
        ready_within: SOON,
    }
}

/// Not a test of its own: what helper processes run. Without a role it has nothing to do.
#[test]
fn in_a_role() {
    let Ok(port) = std::env::var(ROLE) else { return };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.parse().unwrap())).unwrap();
    // The test runner may have begun a line of its own.
    println!("\nready");
    std::io::stdout().flush().unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        });
    }
}

/// Three echo servers; who leads the one shard is what the test says.
struct Echoes {
    roster: Roster,
    specs: BTreeMap<String, NodeSpec>,
    leader: Mutex<(String, u64)>,
    /// How often a node was asked, and what changes with which asking.
    asked: Mutex<usize>,
    turn: Mutex<Option<(usize, Turn)>>,
}

/// What changes once the nodes have been asked some times.
#[derive(Clone, Debug)]
enum Turn {
    /// This node leads, in the next term.
    Leads(&'static str),
    /// Nobody leads.
    NobodyLeads,
    /// None says anything any more, nor that it won't.
    Silence,
}

impl Echoes {
    /// Counts one asking; none when it gets no answer.
    fn turn(&self) -> Option<(String, u64)> {
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            *asked += 1;
            *asked
        };
        let turn = self.turn.lock().unwrap().clone();
        let mut leader = self.leader.lock().unwrap();
        match turn.filter(|(after, _)| asked > *after).map(|(_, turn)| turn) {
            Some(Turn::Silence) => return None,
            Some(Turn::Leads(node)) if leader.0 != node => *leader = (node.to_owned(), leader.1 + 1),
            Some(Turn::NobodyLeads) => leader.0 = String::new(),
            Some(Turn::Leads(_)) | None => {}
        }
        Some(leader.clone())
    }
}

#[async_trait]
impl System for Echoes {
    fn name(&self) -> &str {
        "main"
    }

    fn kind(&self) -> &'static str {
        "echo"
    }

    fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn layout(&mut self, _: &dyn Backend, _: &Path) -> Result<(), SystemError> {
        Ok(())
    }

    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        self.specs
            .get(node)
            .cloned()
            .ok_or_else(|| SystemError(format!("no node {node}")))
    }

    async fn observe(&self, node: &str) -> Option<NodeStatus> {
        let Some((leader, term)) = self.turn() else {
            return std::future::pending().await;
        };
        Some(NodeStatus {
            groups: vec![GroupStatus {
                group: "shard:0".into(),
                leader: leader == node,
                term,
                ..GroupStatus::default()
            }],
            ..NodeStatus::default()
        })
    }

    async fn transfer_leader(&self, _: &str, to: &str) -> Result<(), String> {
        let mut leader = self.leader.lock().unwrap();
        *leader = (to.to_owned(), leader.1 + 1);
        Ok(())
    }

    fn workload(&self, _: &[LoadSpec], _: Stage) -> Result<Box<dyn Workload>, SystemError> {
        Err(SystemError("it has no clients".into()))
    }
}

/// A backend that can be told to lie: to say that rules are in force and do nothing.
struct Liar {
    real: ProcessBackend,
    lies: AtomicBool,
}

#[async_trait]
impl Backend for Liar {
    fn name(&self) -> &'static str {
        self.real.name()
    }
    fn capabilities(&self) -> BTreeSet<Capability> {
        self.real.capabilities()
    }
    async fn reserve_ports(&self, count: usize) -> Result<Vec<u16>, BackendError> {
        self.real.reserve_ports(count).await
    }
    async fn open_link(&self, link: LinkId, upstream: SocketAddr) -> Result<SocketAddr, BackendError> {
        self.real.open_link(link, upstream).await
    }
    fn links(&self) -> Vec<LinkId> {
        self.real.links()
    }
    async fn start(&self, node: &NodeSpec) -> Result<Started, BackendError> {
        self.real.start(node).await
    }
    fn running(&self) -> BTreeSet<String> {
        self.real.running()
    }
    async fn signal(&self, nodes: &[String], signal: NodeSignal) -> Result<Vec<SignalEvidence>, BackendError> {
        self.real.signal(nodes, signal).await
    }
    async fn set_rules(&self, rules: &[(LinkId, Direction, LinkRule)]) -> Result<Nanos, BackendError> {
        if self.lies.load(Ordering::SeqCst) {
            return self.real.set_rules(&[]).await;
        }
        self.real.set_rules(rules).await
    }
    async fn reset_link(&self, link: &LinkId) -> Result<usize, BackendError> {
        self.real.reset_link(link).await
    }
    async fn probe_links(&self, links: &[LinkId], within: Duration) -> Result<Vec<ProbeResult>, BackendError> {
        self.real.probe_links(links, within).await
    }
    fn process_events(&self) -> broadcast::Receiver<ProcessEvent> {
        self.real.process_events()
    }
    async fn tear_down(&self) -> Result<TearDownReport, BackendError> {
        self.real.tear_down().await
    }
}

struct Rig {
    dir: tempfile::TempDir,
    clock: RunClock,
    backend: Arc<Liar>,
    system: Arc<Echoes>,
    engine: Engine,
    recorder: Recorder,
    addresses: BTreeMap<LinkId, SocketAddr>,
    listens: BTreeMap<String, SocketAddr>,
}

impl Rig {
    async fn new(run: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = RunClock::start();
        let journal = Journal::create(dir.path(), &unique_run(run), &StateDir::at(&dir.path().join("state"))).unwrap();
        let real = ProcessBackend::start(ProcessConfig {
            system: "main".into(),
            logs: dir.path().join("logs"),
            clock,
            streams: Streams::new(1),
            journal: journal.clone(),
        })
        .await
        .unwrap();
        let ports = real.reserve_ports(NODES.len()).await.unwrap();
        let specs: BTreeMap<String, NodeSpec> = NODES
            .iter()
            .zip(&ports)
            .map(|(name, port)| ((*name).to_owned(), node(name, *port, dir.path())))
            .collect();
        let listens = specs
            .values()
            .map(|spec| (spec.name.clone(), spec.listens[0]))
            .collect();
        let mut addresses = BTreeMap::new();
        for (to, port) in NODES.iter().zip(&ports) {
            let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            let mut links = vec![LinkId::clients("all", to)];
            links.extend(
                NODES
                    .iter()
                    .filter(|from| *from != to)
                    .map(|from| LinkId::between(from, to)),
            );
            for link in links {
                addresses.insert(link.clone(), real.open_link(link, upstream).await.unwrap());
            }
        }
        let backend = Arc::new(Liar {
            real,
            lies: AtomicBool::new(false),
        });
        for spec in specs.values() {
            backend.start(spec).await.unwrap();
        }
        let names: BTreeSet<String> = specs.keys().cloned().collect();
        let roster = Roster {
            nodes: NODES
                .iter()
                .map(|name| RosterNode {
                    name: (*name).to_owned(),
                    zone: String::new(),
                })
                .collect(),
            groups: [("shard:0".to_owned(), names)].into(),
            ..Roster::default()
        };
        let system = Arc::new(Echoes {
            roster,
            specs,
            leader: Mutex::new(("n2".into(), 1)),
            asked: Mutex::new(0),
            turn: Mutex::new(None),
        });
        let recorder = Recorder::in_memory(Header {
            format: FORMAT.into(),
            plan: serde_json::Value::Null,
            started: String::new(),
            versions: BTreeMap::new(),
        });
        let engine = Engine::new(EngineParts {
            backend: Arc::clone(&backend) as Arc<dyn Backend>,
            system: Arc::clone(&system) as Arc<dyn System>,
            recorder: recorder.clone(),
            journal,
            clock,
            streams: Streams::new(1),
        });
        Self {
            dir,
            clock,
            backend,
            system,
            engine,
            recorder,
            addresses,
            listens,
        }
    }

    async fn inject(&self, id: &str, yaml: &str) -> Injection {
        soon(self.engine.inject(id, &spec(yaml))).await.unwrap()
    }

    async fn heal(&self, id: &str) {
        soon(self.engine.heal(id)).await.unwrap();
    }

    /// The words of what happened to fault `id`.
    fn changes(&self, id: &str) -> Vec<&'static str> {
        let word = |change: &FaultChange| match change {
            FaultChange::Requested => "requested",
            FaultChange::Installed { .. } => "installed",
            FaultChange::Skipped { .. } => "skipped",
            FaultChange::Indeterminate { .. } => "indeterminate",
            FaultChange::HealRequested => "heal requested",
            FaultChange::Healed { .. } => "healed",
            FaultChange::HealFailed { .. } => "heal failed",
        };
        let events = self.faults();
        let of = events.iter().filter(|event| event.id == id);
        of.map(|event| word(&event.change)).collect()
    }

    fn faults(&self) -> Vec<firedrill::history::FaultEvent> {
        let events = self.recorder.recorded().events;
        let faults = events.into_iter().filter_map(|event| match event {
            Event::Fault(fault) => Some(fault),
            _ => None,
        });
        faults.collect()
    }

    fn journal(&self) -> Vec<journal::Act> {
        let read = journal::read(&self.dir.path().join("undo.journal")).unwrap();
        let undone = read.undone.into_iter();
        undone.filter(|act| matches!(act, journal::Act::Fault { .. })).collect()
    }

    /// Which halves let a byte through now.
    async fn open_halves(&self, link: &LinkId) -> (bool, bool) {
        let links = [link.clone()];
        let seen = self
            .backend
            .probe_links(&links, Duration::from_millis(30))
            .await
            .unwrap()[0];
        (seen.forward.arrived.is_some(), seen.backward.arrived.is_some())
    }
}

fn spec(yaml: &str) -> FaultSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

const WHOLE: [&str; 4] = ["requested", "installed", "heal requested", "healed"];

#[tokio::test]
async fn a_killed_leader_is_dead_until_it_is_healed() {
    let rig = Rig::new("e1").await;
    let killed = rig.inject("1-kill", "kill: leader").await;
    assert_eq!((killed.outcome, killed.lasts), ("installed", true), "{killed:?}");
    assert_eq!(killed.targets, ["n2"]);
    assert!(!rig.backend.running().contains("n2"));
    assert_eq!(rig.engine.active(), ["1-kill"]);
    assert_eq!(rig.journal().len(), 1, "it is in the journal while it lasts");
    let event = rig.faults().remove(0);
    assert_eq!((event.kind.as_str(), event.needs), ("kill", vec!["shard:0".to_owned()]));

    let again = rig.inject("2-kill", "kill: { node: n2 }").await;
    assert_eq!((again.outcome, again.lasts), ("skipped", false));
    assert!(again.evidence.contains("none runs"), "{again:?}");
    assert_eq!(rig.changes("2-kill"), ["requested", "skipped"]);

    rig.heal("1-kill").await;
    rig.heal("1-kill").await;
    assert!(rig.backend.running().contains("n2"));
    assert_eq!(rig.changes("1-kill"), WHOLE, "healing twice is healing once");
    assert_eq!(rig.journal(), []);
    assert!(rig.engine.active().is_empty());
}

#[tokio::test]
async fn a_freeze_and_a_kill_of_the_same_node_both_heal() {
    let rig = Rig::new("e2").await;
    assert_eq!(
        rig.inject("1-freeze", "freeze: { node: n1 }").await.outcome,
        "installed"
    );
    assert_eq!(rig.inject("2-kill", "kill: { node: n1 }").await.outcome, "installed");
    let lasting = soon(rig.engine.inject("2-kill", &spec("kill: { node: n3 }"))).await;
    assert!(matches!(lasting, Err(FaultError::Repeated(_))));
    rig.heal("1-freeze").await;
    rig.heal("2-kill").await;
    assert_eq!(
        (rig.changes("1-freeze"), rig.changes("2-kill")),
        (WHOLE.into(), WHOLE.into())
    );
    assert_eq!(rig.backend.running().len(), 3);
}

#[tokio::test]
async fn a_node_that_two_faults_freeze_goes_on_after_the_second() {
    let rig = Rig::new("e20").await;
    rig.inject("1-freeze", "freeze: { node: n1 }").await;
    rig.inject("2-freeze", "freeze: { node: n1 }").await;
    rig.heal("2-freeze").await;
    assert!(
        evidence_of(&rig, "2-freeze").contains("still frozen"),
        "{}",
        evidence_of(&rig, "2-freeze")
    );
    let mut stream = TcpStream::connect(rig.listens["n1"]).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = stream.read_exact(&mut byte) => panic!("a frozen node answered"),
        () = rig.clock.sleep(Duration::from_millis(200)) => {}
    }
    rig.heal("1-freeze").await;
    soon(stream.read_exact(&mut byte)).await.unwrap();
}

/// What the last heal of a fault was proven by.
fn evidence_of(rig: &Rig, id: &str) -> String {
    let heals = rig.faults().into_iter().filter(|event| event.id == id);
    let mut texts = heals.filter_map(|event| match event.change {
        FaultChange::Healed { evidence, .. } => Some(evidence),
        _ => None,
    });
    texts.next_back().unwrap_or_default()
}

#[tokio::test]
async fn a_node_that_does_not_come_back_is_the_systems_doing_and_no_dirty_host() {
    let rig = Rig::new("e21").await;
    rig.inject("1-kill", "kill: { node: n1 }").await;
    // Somebody sits on its port: it can not start.
    let _taken = TcpListener::bind(rig.listens["n1"]).unwrap();
    let healed = soon(rig.engine.heal("1-kill")).await;
    assert!(matches!(healed, Err(FaultError::NotBack(_))), "{healed:?}");
    assert_eq!(rig.changes("1-kill"), ["requested", "installed", "heal requested"]);
    assert!(
        rig.engine.active().is_empty() && rig.journal().is_empty(),
        "nothing is left to undo"
    );
}

#[tokio::test]
async fn power_is_lost_at_one_instant_and_all_come_back() {
    let rig = Rig::new("e3").await;
    let lost = rig.inject("1-power_loss", "power_loss: all").await;
    assert_eq!(lost.targets, NODES);
    assert!(rig.backend.running().is_empty());
    soon(rig.engine.heal_all()).await.unwrap();
    assert_eq!(rig.backend.running().len(), 3);
    assert_eq!(rig.changes("1-power_loss"), WHOLE);
}

#[tokio::test]
async fn a_stop_waits_for_its_heal_and_a_restart_does_not() {
    let rig = Rig::new("e4").await;
    assert!(rig.inject("1-stop", "stop: { node: n1 }").await.lasts);
    assert_eq!(rig.backend.running().len(), 2);
    let restarted = rig.inject("2-restart", "restart: { node: n3 }").await;
    assert_eq!((restarted.outcome, restarted.lasts), ("installed", false));
    assert_eq!(rig.backend.running().len(), 2, "n3 is back, n1 is not");
    assert_eq!(rig.changes("2-restart"), ["requested", "installed", "healed"]);
    rig.heal("1-stop").await;
    assert_eq!(rig.changes("1-stop"), WHOLE);
}

#[tokio::test]
async fn a_partition_holds_the_bytes_of_both_who_dialled_and_who_was_dialled() {
    let rig = Rig::new("e5").await;
    let link = LinkId::between("n1", "n2");
    let mut client = TcpStream::connect(rig.addresses[&link]).await.unwrap();
    let cut = rig
        .inject("1-partition", "partition: { groups: [{ node: n1 }, all] }")
        .await;
    assert_eq!(cut.outcome, "installed", "{cut:?}");
    let pairs = [
        "n1->n2/back_end",
        "n1->n3/back_end",
        "n2->n1/back_end",
        "n3->n1/back_end",
    ];
    assert_eq!(cut.targets, pairs);
    client.write_all(b"x").await.unwrap();
    let mut byte = [0; 1];
    let held = tokio::select! {
        biased;
        _ = client.read(&mut byte) => false,
        () = rig.clock.sleep(Duration::from_millis(50)) => true,
    };
    assert!(held);
    assert_eq!(rig.open_halves(&LinkId::between("n2", "n3")).await, (true, true));
    assert_eq!(rig.open_halves(&LinkId::clients("all", "n1")).await, (true, true));
    rig.heal("1-partition").await;
    soon(client.read_exact(&mut byte)).await.unwrap();
    assert_eq!(rig.changes("1-partition"), WHOLE);
}

#[tokio::test]
async fn one_way_is_one_way_on_both_links_between_the_two() {
    let rig = Rig::new("e6").await;
    let cut = rig
        .inject("1-partition", "partition: { from: { node: n1 }, to: { node: n2 } }")
        .await;
    assert_eq!(cut.targets, ["n1->n2/back_end"]);
    assert_eq!(rig.open_halves(&LinkId::between("n1", "n2")).await, (false, true));
    assert_eq!(rig.open_halves(&LinkId::between("n2", "n1")).await, (true, false));
    rig.heal("1-partition").await;
    assert_eq!(rig.changes("1-partition"), WHOLE);
}

#[tokio::test]
async fn faults_that_overlap_do_not_undo_each_other() {
    let rig = Rig::new("e7").await;
    rig.inject("1-isolate", "isolate: { target: { node: n1 }, plane: all }")
        .await;
    rig.inject("2-partition", "partition: { all_nodes: true }").await;
    rig.heal("1-isolate").await;
    let between = LinkId::between("n1", "n2");
    assert_eq!(
        rig.open_halves(&between).await,
        (false, false),
        "the partition still holds it"
    );
    assert_eq!(rig.open_halves(&LinkId::clients("all", "n1")).await, (true, true));
    rig.heal("2-partition").await;
    assert_eq!(rig.open_halves(&between).await, (true, true));
    for id in ["1-isolate", "2-partition"] {
        assert_eq!(rig.changes(id), WHOLE);
    }
}

#[tokio::test]
async fn a_delay_is_proven_late_and_then_on_time() {
    let rig = Rig::new("e8").await;
    let late = rig
        .inject(
            "1-delay",
            "delay: { from: { node: n1 }, to: all, delay: 25ms, jitter: 5ms }",
        )
        .await;
    assert_eq!(late.outcome, "installed", "{late:?}");
    assert_eq!(late.targets, ["n1->n2/back_end", "n1->n3/back_end"]);
    rig.heal("1-delay").await;
    assert_eq!(rig.changes("1-delay"), WHOLE);
}

#[tokio::test]
async fn a_flap_is_as_many_faults_as_it_has_bursts() {
    let rig = Rig::new("e9").await;
    let flap = "flap: { partition: { all_nodes: true }, on: 40ms, off: 30ms, times: 3 }";
    let flapped = rig.inject("1-flap", flap).await;
    assert_eq!((flapped.outcome, flapped.lasts), ("installed", false), "{flapped:?}");
    for burst in 1..=3 {
        assert_eq!(rig.changes(&format!("1-flap.{burst}")), WHOLE);
    }
    assert_eq!(rig.changes("1-flap"), [""; 0]);
    assert_eq!(rig.journal(), []);
}

#[tokio::test]
async fn a_flap_that_is_healed_lifts_its_burst_and_has_no_more() {
    let rig = Rig::new("e10").await;
    let flap = spec("flap: { partition: { all_nodes: true }, on: 60s, off: 30s, times: 9 }");
    let engine = rig.engine.clone();
    let flapping = tokio::spawn(async move { engine.inject("1-flap", &flap).await });
    let mut events = rig.recorder.subscribe(0);
    soon(async {
        while rig.changes("1-flap.1").len() < 2 {
            events.next().await;
        }
    })
    .await;
    soon(rig.engine.heal_all()).await.unwrap();
    assert_eq!(soon(flapping).await.unwrap().unwrap().outcome, "installed");
    assert_eq!(rig.changes("1-flap.1"), WHOLE);
    assert!(rig.changes("1-flap.2").is_empty());
    assert_eq!(rig.open_halves(&LinkId::between("n1", "n2")).await, (true, true));
}

#[tokio::test]
async fn a_transfer_is_proven_by_the_new_leader() {
    let rig = Rig::new("e11").await;
    let moved = rig
        .inject("1-transfer_leader", "transfer_leader: { shard: 0, to: all }")
        .await;
    assert_eq!((moved.outcome, moved.lasts), ("installed", false), "{moved:?}");
    assert_eq!(moved.targets, ["n2", "n1"]);
    assert!(
        moved.evidence.contains("n1 says that it leads shard:0 in term 2"),
        "{moved:?}"
    );
    let back = rig
        .inject("2-transfer_leader", "transfer_leader: { shard: 0, to: { node: n1 } }")
        .await;
    assert_eq!(back.outcome, "skipped", "n1 leads already");
}

/// Arms a fault for some time ahead, lets `turn` happen after the nodes were asked whom it hits, and fires it at its
/// instant. What came of it, the instant, and from when the fault says that it knows.
async fn aimed(rig: &Rig, id: &str, yaml: &str, turn: Option<Turn>) -> (Injection, Nanos, Nanos) {
    let asked = *rig.system.asked.lock().unwrap();
    *rig.system.turn.lock().unwrap() = turn.map(|turn| (asked + NODES.len(), turn));
    let at = rig.clock.now().plus(Duration::from_millis(400));
    let injected = soon(rig.engine.inject_at(id, &spec(yaml), at)).await.unwrap();
    let told = rig.faults().into_iter().find(|event| event.id == id);
    (injected, at, told.unwrap().resolved.expect("who leads was asked"))
}

#[tokio::test]
async fn whom_a_fault_hits_is_asked_again_at_its_instant() {
    let rig = Rig::new("e21").await;
    let (killed, at, resolved) = aimed(&rig, "1-kill", "kill: leader", Some(Turn::Leads("n3"))).await;
    assert_eq!((killed.outcome, killed.targets), ("installed", vec!["n3".to_owned()]));
    assert!(!rig.backend.running().contains("n3") && rig.backend.running().contains("n2"));
    assert!(killed.effective.unwrap() >= at, "it is not early");
    assert!(
        resolved.plus(Duration::from_millis(300)) > at,
        "resolved at {resolved:?} for {at:?}"
    );
    assert_eq!(rig.engine.active(), ["1-kill"]);
    assert_eq!(rig.journal().len(), 1, "the first aim left nothing behind");
    rig.heal("1-kill").await;
    assert_eq!(rig.changes("1-kill"), WHOLE);
    assert_eq!(rig.journal(), []);
}

#[tokio::test]
async fn what_was_resolved_stays_when_nothing_has_changed() {
    let rig = Rig::new("e22").await;
    let (frozen, at, resolved) = aimed(&rig, "1-freeze", "freeze: leader", None).await;
    assert_eq!((frozen.outcome, frozen.targets), ("installed", vec!["n2".to_owned()]));
    assert!(
        resolved.plus(Duration::from_millis(300)) > at,
        "resolved at {resolved:?} for {at:?}"
    );
    rig.heal("1-freeze").await;
}

#[tokio::test]
async fn nobody_leads_at_the_instant_so_nobody_is_hit() {
    let rig = Rig::new("e23").await;
    let (skipped, _, _) = aimed(&rig, "1-kill", "kill: leader", Some(Turn::NobodyLeads)).await;
    assert_eq!((skipped.outcome, skipped.lasts), ("skipped", false), "{skipped:?}");
    assert!(skipped.evidence.contains("no node says that it leads"), "{skipped:?}");
    assert_eq!(rig.changes("1-kill"), ["requested", "skipped"]);
    assert_eq!(rig.backend.running().len(), 3);
    assert!(rig.journal().is_empty() && rig.engine.active().is_empty());
}

#[tokio::test]
async fn silence_at_the_instant_keeps_the_instant_and_says_how_old_the_word_is() {
    let rig = Rig::new("e24").await;
    let (killed, at, resolved) = aimed(&rig, "1-kill", "kill: leader", Some(Turn::Silence)).await;
    assert_eq!((killed.outcome, killed.targets), ("installed", vec!["n2".to_owned()]));
    assert!(
        resolved.plus(Duration::from_millis(300)) < at,
        "resolved at {resolved:?} for {at:?}"
    );
    *rig.system.turn.lock().unwrap() = None;
    rig.heal("1-kill").await;
}

#[tokio::test]
async fn a_node_that_is_named_and_down_is_told_to_be_left_out() {
    let rig = Rig::new("e18").await;
    let told = || -> Vec<String> {
        let events = rig.recorder.recorded().events.into_iter();
        let left_out = events.filter_map(|event| match event {
            Event::Harness(event) if event.kind == HarnessKind::NotTriggered => Some(event.text),
            _ => None,
        });
        left_out.collect()
    };
    rig.inject("1-kill", "kill: { node: n1 }").await;
    assert_eq!(told(), Vec::<String>::new());
    let second = rig.inject("2-freeze", "freeze: all").await;
    assert_eq!(second.targets, ["n2", "n3"]);
    assert_eq!(told(), ["fault 2-freeze hit n2, n3 and not n1, which did not run"]);
    rig.heal("2-freeze").await;
    rig.heal("1-kill").await;
}

#[tokio::test]
async fn what_nobody_heals_heals_itself() {
    let mut rig = Rig::new("e12").await;
    rig.engine = rig.engine.clone().with_lease(Duration::from_millis(400));
    rig.inject("1-freeze", "freeze: { node: n1 }").await;
    rig.inject("2-isolate", "isolate: { target: { node: n3 } }").await;
    let mut events = rig.recorder.subscribe(0);
    soon(async {
        while rig.changes("1-freeze").len() < 4 || rig.changes("2-isolate").len() < 4 {
            events.next().await;
        }
    })
    .await;
    assert_eq!(
        (rig.changes("1-freeze"), rig.changes("2-isolate")),
        (WHOLE.into(), WHOLE.into())
    );
}

#[tokio::test]
async fn a_fault_that_is_armed_and_not_fired_was_never_there() {
    let rig = Rig::new("e13").await;
    let armed = rig.engine.arm("1-kill", &spec("kill: all")).await.unwrap();
    assert_eq!(rig.journal().len(), 1);
    drop(armed);
    assert_eq!(rig.journal(), []);
    let armed = rig.engine.arm("2-kill", &spec("kill: all")).await.unwrap();
    soon(rig.engine.heal_all()).await.unwrap();
    assert_eq!(soon(armed.fire()).await.unwrap().outcome, "skipped");
    assert_eq!(rig.backend.running().len(), 3);
    assert!(rig.faults().is_empty());
}

#[tokio::test]
async fn a_cut_that_does_not_bite_is_not_called_a_cut() {
    let rig = Rig::new("e14").await;
    rig.backend.lies.store(true, Ordering::SeqCst);
    let cut = rig.inject("1-partition", "partition: { all_nodes: true }").await;
    assert_eq!(cut.outcome, "indeterminate", "{cut:?}");
    assert!(cut.evidence.contains("came through"), "{cut:?}");
    let late = rig.inject("2-delay", "delay: { from: all, to: all, delay: 10s }").await;
    assert_eq!(late.outcome, "indeterminate", "{late:?}");
}

#[tokio::test]
async fn a_cut_that_stays_is_a_heal_that_failed_and_can_be_tried_again() {
    let rig = Rig::new("e15").await;
    rig.inject("1-partition", "partition: { all_nodes: true }").await;
    rig.backend.lies.store(true, Ordering::SeqCst);
    let error = soon(rig.engine.heal_all()).await.unwrap_err();
    assert!(
        matches!(&error, FaultError::HealFailed(text) if text.contains("nothing came through")),
        "{error}"
    );
    assert_eq!(rig.changes("1-partition").last(), Some(&"heal failed"));
    assert_eq!(
        (rig.engine.active().len(), rig.journal().len()),
        (1, 1),
        "it is not forgotten"
    );
    rig.backend.lies.store(false, Ordering::SeqCst);
    rig.heal("1-partition").await;
    assert_eq!(rig.changes("1-partition").last(), Some(&"healed"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_nothing_is_done() {
    let rig = Rig::new("e16").await;
    let error = rig
        .engine
        .inject("1-kill", &spec("kill: { node: n9 }"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("n9"), "{error}");
    assert!(rig.faults().is_empty() && rig.journal().is_empty());
    let nobody = rig
        .inject("2-partition", "partition: { groups: [all, { node: n1 }] }")
        .await;
    assert_eq!(nobody.outcome, "skipped");
}
