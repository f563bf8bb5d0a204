//! Whole operations, on a system that moves by script, on nodes that are names, in virtual time.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::backend::journal::{Journal, StateDir};
use crate::backend::{
    Backend, BackendError, Capability, Direction, LinkId, LinkRule, NodeSignal, NodeSpec, ProbeResult, Ready,
    SignalEvidence, Started, TearDownReport,
};
use crate::base::{Nanos, RunClock, Streams};
use crate::fault::{Engine, EngineParts, FaultSpec, Injection};
use crate::history::{
    Amounts, Event, FORMAT, FaultChange, GroupStatus, HarnessKind, Header, Migration, MigrationEnd, NodeStatus,
    ProcessEvent, Recorder, migrations,
};
use crate::system::{Relocation, Stage, Standing, System, SystemError, Taken};
use crate::target::{Roster, RosterNode};
use crate::workload::{LoadSpec, Workload};

const NODES: [&str; 4] = ["n1", "n2", "n3", "n4"];

/// Nodes that are names: they end when they are told to, and start at once.
pub(super) struct Names {
    clock: RunClock,
    running: Mutex<BTreeSet<String>>,
}

#[async_trait]
impl Backend for Names {
    fn name(&self) -> &'static str {
        "names"
    }
    fn capabilities(&self) -> BTreeSet<Capability> {
        BTreeSet::from([Capability::Processes])
    }
    async fn reserve_ports(&self, _: usize) -> Result<Vec<u16>, BackendError> {
        Ok(Vec::new())
    }
    async fn open_link(&self, link: LinkId, _: SocketAddr) -> Result<SocketAddr, BackendError> {
        Err(BackendError::UnknownLink(link))
    }
    fn links(&self) -> Vec<LinkId> {
        Vec::new()
    }
    async fn start(&self, node: &NodeSpec) -> Result<Started, BackendError> {
        if !self.running.lock().unwrap().insert(node.name.clone()) {
            return Err(BackendError::AlreadyRunning(node.name.clone()));
        }
        let at = self.clock.now();
        Ok(Started {
            pid: 1,
            at,
            ready: at,
            line: None,
        })
    }
    fn running(&self) -> BTreeSet<String> {
        self.running.lock().unwrap().clone()
    }
    async fn signal(&self, nodes: &[String], _: NodeSignal) -> Result<Vec<SignalEvidence>, BackendError> {
        let now = self.clock.now();
        let mut running = self.running.lock().unwrap();
        let ended = nodes.iter().map(|node| {
            running.remove(node);
            SignalEvidence {
                node: node.clone(),
                sent: now,
                effective: now,
                text: format!("{node} has ended"),
            }
        });
        Ok(ended.collect())
    }
    async fn set_rules(&self, _: &[(LinkId, Direction, LinkRule)]) -> Result<Nanos, BackendError> {
        Ok(self.clock.now())
    }
    async fn reset_link(&self, link: &LinkId) -> Result<usize, BackendError> {
        Err(BackendError::UnknownLink(link.clone()))
    }
    async fn probe_links(&self, _: &[LinkId], _: Duration) -> Result<Vec<ProbeResult>, BackendError> {
        Ok(Vec::new())
    }
    fn process_events(&self) -> broadcast::Receiver<ProcessEvent> {
        broadcast::channel(1).1
    }
    async fn tear_down(&self) -> Result<TearDownReport, BackendError> {
        Ok(TearDownReport::default())
    }
}

/// How long the scripted move stays in each phase.
const PHASE: Duration = Duration::from_millis(500);

/// A system that moves a replica from n1 to n4 through its phases, each for [`PHASE`], from its being asked on.
struct Moving {
    roster: Roster,
    clock: RunClock,
    /// The phases, and the end behind them; none for one that never ends.
    script: &'static [&'static str],
    end: Option<MigrationEnd>,
    began: Mutex<Option<Nanos>>,
    asked: Mutex<u32>,
}

#[async_trait]
impl System for Moving {
    fn name(&self) -> &'static str {
        "main"
    }
    fn kind(&self) -> &'static str {
        "moving"
    }
    fn roster(&self) -> &Roster {
        &self.roster
    }
    async fn layout(&mut self, _: &dyn Backend, _: &Path) -> Result<(), SystemError> {
        Ok(())
    }
    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        Ok(name_spec(node))
    }
    async fn observe(&self, node: &str) -> Option<NodeStatus> {
        let groups = (node != "n4").then(|| GroupStatus {
            group: "shard:0".to_owned(),
            leader: node == "n1",
            ..GroupStatus::default()
        });
        Some(NodeStatus {
            groups: groups.into_iter().collect(),
            ..NodeStatus::default()
        })
    }
    async fn transfer_leader(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
    async fn relocate(&self, _: &Relocation) -> Result<Taken, String> {
        *self.asked.lock().unwrap() += 1;
        self.began.lock().unwrap().get_or_insert(self.clock.now());
        Ok(Taken {
            operation: 7,
            text: "n1 took operation 7".to_owned(),
        })
    }
    async fn standing(&self, operation: u64) -> Option<Standing> {
        assert_eq!(operation, 7, "by the number that it gave");
        let began = (*self.began.lock().unwrap())?;
        let since = self.clock.now().since(began);
        let place = usize::try_from(since.as_millis() / PHASE.as_millis()).unwrap();
        let last = self.script.len() - 1;
        let ended = self.end.filter(|_| place > last);
        Some(Standing {
            phase: self.script[place.min(last)].to_owned(),
            done: Amounts {
                items: place as u64,
                items_total: self.script.len() as u64,
                bytes: 100 * place as u64,
            },
            source: vec!["n1".to_owned()],
            target: vec!["n4".to_owned()],
            coordinator: Some("n2".to_owned()),
            ended: ended.map(|how| (how, "the map says so".to_owned())),
        })
    }
    fn workload(&self, _: &[LoadSpec], _: Stage) -> Result<Box<dyn Workload>, SystemError> {
        Err(SystemError("it has no clients".to_owned()))
    }
}

pub(super) fn name_spec(node: &str) -> NodeSpec {
    NodeSpec {
        name: node.to_owned(),
        zone: String::new(),
        program: "true".into(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        dir: "/".into(),
        disk: None,
        listens: Vec::new(),
        ready: Ready::Started,
        ready_within: Duration::from_secs(1),
    }
}

pub(super) fn roster(groups: &[&str]) -> Roster {
    Roster {
        nodes: NODES
            .iter()
            .map(|name| RosterNode {
                name: (*name).to_owned(),
                zone: String::new(),
            })
            .collect(),
        groups: groups
            .iter()
            .map(|group| {
                (
                    (*group).to_owned(),
                    NODES.iter().take(3).map(|n| (*n).to_owned()).collect(),
                )
            })
            .collect(),
        ..Roster::default()
    }
}

/// An engine with all around it.
pub(super) struct Rig {
    pub(super) engine: Engine,
    pub(super) recorder: Recorder,
    pub(super) backend: Arc<Names>,
    journal: Journal,
    _dir: tempfile::TempDir,
}

impl Rig {
    pub(super) fn new(system: Arc<dyn System>, clock: RunClock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path(), "r1", &StateDir::at(&dir.path().join("state"))).unwrap();
        let recorder = Recorder::in_memory(Header {
            format: FORMAT.to_owned(),
            plan: serde_json::Value::Null,
            started: String::new(),
            versions: std::collections::BTreeMap::new(),
        });
        let backend = Arc::new(Names {
            clock,
            running: Mutex::new(NODES.iter().map(|name| (*name).to_owned()).collect()),
        });
        let engine = Engine::new(EngineParts {
            backend: Arc::clone(&backend) as _,
            system,
            recorder: recorder.clone(),
            journal: journal.clone(),
            clock,
            streams: Streams::new(1),
        });
        Self {
            engine,
            recorder,
            backend,
            journal,
            _dir: dir,
        }
    }

    pub(super) async fn inject(&self, yaml: &str) -> Injection {
        let spec: FaultSpec = serde_saphyr::from_str(yaml).unwrap();
        self.engine.inject("1-it", &spec).await.unwrap()
    }

    pub(super) fn migration(&self) -> Migration {
        let events = self.recorder.recorded().events.into_iter();
        let own: Vec<_> = events
            .filter_map(|event| match event {
                Event::Migration(event) => Some(event),
                _ => None,
            })
            .collect();
        let mut found = migrations(&own);
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// What became of the fault `id`, in words.
    pub(super) fn changes(&self, id: &str) -> Vec<&'static str> {
        let events = self.recorder.recorded().events.into_iter();
        let words = events.filter_map(|event| match event {
            Event::Fault(event) if event.id == id => Some(match event.change {
                FaultChange::Requested => "requested",
                FaultChange::Installed { .. } => "installed",
                FaultChange::Skipped { .. } => "skipped",
                FaultChange::Indeterminate { .. } => "indeterminate",
                FaultChange::HealRequested => "heal requested",
                FaultChange::Healed { .. } => "healed",
                FaultChange::HealFailed { .. } => "heal failed",
            }),
            _ => None,
        });
        words.collect()
    }

    /// What leaves the run without a green verdict.
    pub(super) fn doubts(&self) -> Vec<String> {
        let events = self.recorder.recorded().events.into_iter();
        let doubts = events.filter_map(|event| match event {
            Event::Harness(event) if event.kind == HarnessKind::NotTriggered => Some(event.text),
            _ => None,
        });
        doubts.collect()
    }

    /// Nothing lasts, and the journal has nothing open.
    pub(super) fn is_clean(&self) -> bool {
        self.engine.active().is_empty() && self.journal.undone().is_empty()
    }
}

const SCRIPT: &[&str] = &["add_learner", "catch_up", "enter_joint", "leave_joint"];

fn moving(script: &'static [&'static str], end: Option<MigrationEnd>) -> (Arc<Moving>, Rig) {
    let clock = RunClock::start_virtual();
    let system = Arc::new(Moving {
        roster: roster(&["shard:0"]),
        clock,
        script,
        end,
        began: Mutex::default(),
        asked: Mutex::default(),
    });
    let rig = Rig::new(Arc::clone(&system) as _, clock);
    (system, rig)
}

const PROVEN: [&str; 3] = ["requested", "installed", "healed"];
const WHOLE: [&str; 4] = ["requested", "installed", "heal requested", "healed"];

#[tokio::test(start_paused = true)]
async fn an_operation_is_seen_from_its_beginning_through_every_phase_to_its_end() {
    let (_, rig) = moving(SCRIPT, Some(MigrationEnd::Completed));
    let done = rig.inject("move_replica: { shard: 0, to: { node: n4 } }").await;
    assert_eq!((done.outcome, done.lasts), ("installed", false), "{done:?}");
    assert_eq!(rig.changes("1-it"), PROVEN);
    let it = rig.migration();
    let names: Vec<&str> = it.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, SCRIPT);
    for phase in &it.phases {
        let lasted = phase.lasted(Nanos(0));
        assert!(
            lasted.abs_diff(PHASE) <= Duration::from_nanos(phase.bound_ns),
            "{phase:?}"
        );
        assert!(phase.bound_ns < 30_000_000, "{phase:?}");
    }
    assert_eq!(it.done().items, 4);
    assert_eq!(it.done().bytes, 400);
    assert_eq!(it.operation, Some(7));
    assert_eq!(rig.doubts(), Vec::<String>::new());
    assert!(rig.is_clean());
}

#[tokio::test(start_paused = true)]
async fn whoever_is_the_source_is_killed_in_the_phase_that_was_named_and_comes_back() {
    let (_, rig) = moving(SCRIPT, Some(MigrationEnd::Completed));
    let clock = RunClock::start_virtual();
    let (done, at) = tokio::join!(
        rig.inject(
            "move_replica: { shard: 0, to: { node: n4 }, interrupt: { at: enter_joint, with: { kill: source }, back_after: 3s } }"
        ),
        async {
            while rig.backend.running().contains("n1") {
                clock.sleep(Duration::from_millis(1)).await;
            }
            clock.now()
        }
    );
    assert_eq!(done.outcome, "installed", "{done:?}");
    let kill = at.since(Nanos(0));
    assert!(
        kill >= 2 * PHASE && kill < 2 * PHASE + Duration::from_millis(60),
        "{kill:?}"
    );
    assert_eq!(rig.changes("1-it-interrupt"), WHOLE);
    assert!(rig.backend.running().contains("n1"), "it was started again");
    assert!(rig.is_clean());
    assert_eq!(rig.doubts(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn another_controller_goes_on_from_the_journal_and_asks_for_nothing_twice() {
    let (system, rig) = moving(SCRIPT, Some(MigrationEnd::Completed));
    let done = rig
        .inject("move_replica: { shard: 0, to: { node: n4 }, interrupt: { at: catch_up, with: { kill: controller } } }")
        .await;
    assert_eq!(done.outcome, "installed", "{done:?}");
    let it = rig.migration();
    assert_eq!(it.taken_over, 1);
    assert_eq!(it.ended.as_ref().map(|(how, ..)| *how), Some(MigrationEnd::Completed));
    assert_eq!(*system.asked.lock().unwrap(), 1);
    let names: Vec<&str> = it.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(names, SCRIPT, "a phase that both saw is one phase");
    assert_eq!(rig.changes("1-it-interrupt"), WHOLE);
    assert!(rig.is_clean());
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_that_never_came_is_no_pass() {
    let (_, rig) = moving(SCRIPT, Some(MigrationEnd::Completed));
    rig.inject("move_replica: { shard: 0, to: { node: n4 }, interrupt: { at: aborting, with: { kill: target } } }")
        .await;
    let doubts = rig.doubts();
    assert!(doubts.len() == 1 && doubts[0].contains("aborting"), "{doubts:?}");
    assert!(rig.changes("1-it-interrupt").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_not_asked_for_is_no_pass() {
    let aborted = Some(MigrationEnd::Aborted);
    for (ends, doubtful) in [("", true), (", ends: aborted", false), (", ends: any", false)] {
        let (_, rig) = moving(&["catch_up", "aborting"], aborted);
        rig.inject(&format!("move_replica: {{ shard: 0, to: {{ node: n4 }}{ends} }}"))
            .await;
        assert_eq!(rig.changes("1-it"), PROVEN, "{ends}");
        assert_eq!(!rig.doubts().is_empty(), doubtful, "{ends}: {:?}", rig.doubts());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_not_seen_to_end_is_not_proven() {
    let (_, rig) = moving(SCRIPT, None);
    let done = rig
        .inject("move_replica: { shard: 0, to: { node: n4 }, within: 5s }")
        .await;
    assert_eq!(done.outcome, "indeterminate");
    assert!(done.evidence.contains("leave_joint"), "{done:?}");
    assert_eq!(rig.changes("1-it"), ["requested", "installed", "indeterminate"]);
    assert!(rig.is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ends_waits_for_no_operation() {
    let (_, rig) = moving(SCRIPT, None);
    let clock = RunClock::start_virtual();
    let (done, ()) = tokio::join!(
        rig.inject("move_replica: { shard: 0, to: { node: n4 }, within: 1h }"),
        async {
            clock.sleep(Duration::from_secs(3)).await;
            rig.engine.heal_all().await.unwrap();
        }
    );
    assert_eq!(done.outcome, "indeterminate");
    assert!(done.evidence.contains("given up"), "{done:?}");
    assert!(clock.now().since(Nanos(0)) < Duration::from_secs(4));
    assert!(rig.is_clean());
}
