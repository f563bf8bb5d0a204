//! A real etcd as a system of somebody else: its leader is killed, then cut off, and what it acknowledged is read back.
//! Skipped by name where there is no etcd.

use std::{collections::BTreeMap, path::Path, process::Command, sync::Arc, time::Duration};

use firedrill::{
    backend::{
        Backend,
        journal::{Journal, StateDir, unique_run},
        process::{ProcessBackend, ProcessConfig},
    },
    base::{RunClock, Streams},
    fault::{Engine, EngineParts, FaultSpec},
    history::{Class, Event, FORMAT, Header, Outcome, Recorder, Subject},
    plan, scenario,
    system::{self, Stage, System},
    target::leader_of,
    workload::Workload,
};

/// For what must come: long enough for a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Whether there is an etcd; says so where there is none. A continuous-integration machine has one, or is set up wrongly.
fn installed() -> bool {
    if Command::new("etcd").arg("--version").output().is_ok() {
        return true;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "etcd is not installed on this continuous-integration machine: apt-get install etcd-server"
    );
    println!("skipped: etcd is not installed");
    false
}

struct Bench {
    clock: RunClock,
    recorder: Recorder,
    backend: Arc<ProcessBackend>,
    system: Arc<dyn System>,
    engine: Engine,
    workload: Box<dyn Workload>,
}

impl Bench {
    /// The scenario's own system and load, with all nodes started.
    async fn new(dir: &Path) -> Self {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../scenarios/systems/etcd-leader-kill.yaml"
        );
        let loaded = scenario::load(Path::new(path)).unwrap_or_else(|error| panic!("{}", error.render(false)));
        let plan = plan::plan(&loaded, None, "process").expect("it plans");
        let (clock, streams) = (RunClock::start(), plan.streams());
        let journal =
            Journal::create(dir, &unique_run("etcd-test"), &StateDir::at(&dir.join("state"))).expect("a journal");
        let config = ProcessConfig {
            system: "main".to_owned(),
            logs: dir.join("logs"),
            clock,
            streams,
            journal: journal.clone(),
        };
        let backend = Arc::new(ProcessBackend::start(config).await.expect("a backend"));
        let mut system = system::build(&plan.systems[0], plan.seed).expect("a system");
        system.layout(&*backend, &dir.join("main")).await.expect("laid out");
        let system: Arc<dyn System> = Arc::from(system);
        for node in &system.roster().nodes {
            let spec = system.node_spec(&node.name).expect("a node");
            backend.start(&spec).await.expect("it starts");
        }
        let recorder = Recorder::in_memory(Header {
            format: FORMAT.to_owned(),
            plan: serde_json::Value::Null,
            started: String::new(),
            versions: BTreeMap::new(),
        });
        let engine = Engine::new(EngineParts {
            backend: Arc::clone(&backend) as Arc<dyn Backend>,
            system: Arc::clone(&system),
            recorder: recorder.clone(),
            journal,
            clock,
            streams: Streams::new(1),
        });
        let stage = Stage {
            recorder: recorder.clone(),
            clock,
            streams,
            number: 0,
        };
        let workload = system.workload(&plan.loads, stage).expect("a load");
        Self {
            clock,
            recorder,
            backend,
            system,
            engine,
            workload,
        }
    }

    /// Asks again and again until there is an answer.
    async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let asked = tokio::time::timeout(SOON, async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                self.clock.sleep(Duration::from_millis(20)).await;
            }
        });
        match asked.await {
            Ok(answer) => answer,
            Err(_) => panic!(
                "{what} did not happen in {SOON:?}; leader {:?}; the last attempts ended so: {:?}",
                self.leader().await,
                self.endings()
            ),
        }
    }

    /// How the attempts of the last ten seconds ended, counted.
    fn endings(&self) -> BTreeMap<String, usize> {
        let from = self.clock.now().minus(Duration::from_secs(10));
        let mut endings = BTreeMap::new();
        for event in self.recorder.recorded().events {
            if let Event::Op(op) = event
                && op.done >= from
            {
                let how = op.error.or(op.answered_by).unwrap_or_default();
                *endings.entry(format!("{:?} {how}", op.outcome)).or_default() += 1;
            }
        }
        endings
    }

    async fn leader(&self) -> Option<String> {
        let mut seen = BTreeMap::new();
        for node in &self.system.roster().nodes {
            if let Some(status) = self.system.observe(&node.name).await {
                seen.insert(node.name.clone(), status);
            }
        }
        leader_of("etcd", &seen)
    }

    /// Until this many more puts are acknowledged.
    async fn more(&self, count: u64) {
        let acknowledged = || {
            self.workload
                .progress()
                .classes
                .get(&Class::Put)
                .map_or(0, |class| class.ok)
        };
        let wanted = acknowledged() + count;
        self.until("more puts", async || (acknowledged() >= wanted).then_some(()))
            .await;
    }

    async fn inject(&self, id: &str, fault: serde_json::Value) -> Vec<String> {
        let spec: FaultSpec = serde_json::from_value(fault).expect("a fault");
        let injection = self.engine.inject(id, &spec).await.expect("it is injected");
        assert_eq!(injection.outcome, "installed", "{}", injection.evidence);
        injection.targets
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_loses_its_leader_twice_and_nothing_that_it_acknowledged() {
    if !installed() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let mut bench = Bench::new(dir.path()).await;
    let first = bench.until("a leader", async || bench.leader().await).await;
    bench.workload.prepare().await.expect("prepared");
    bench.workload.start().await.expect("it sends");
    bench.more(300).await;

    let killed = bench.inject("1-kill", serde_json::json!({ "kill": "leader" })).await;
    assert_eq!(killed.join(","), first, "the one that says it leads");
    bench.more(200).await;
    bench.engine.heal("1-kill").await.expect("it starts again");

    let second = bench
        .until("another leader", async || {
            bench.leader().await.filter(|leader| *leader != first)
        })
        .await;
    bench
        .inject(
            "2-isolate",
            serde_json::json!({ "isolate": { "target": { "node": second } } }),
        )
        .await;
    let third = async || bench.leader().await.filter(|leader| *leader != second);
    bench.until("a leader on the other side of the cut", third).await;
    bench.more(200).await;
    bench.engine.heal("2-isolate").await.expect("it is healed");

    bench.workload.stop_sending().await;
    bench.workload.fence().await.expect("fenced");
    let summary = bench.workload.read_back().await;
    assert_eq!(summary.incomplete, 0, "{summary:?}");
    bench.workload.shut_down().await;
    let report = bench.backend.tear_down().await.expect("torn down");
    assert!(report.left.is_empty(), "{report:?}");
    judge(&bench.recorder);
}

/// Every acknowledged put is there, where its answer said, with its own hash; what surely failed is not there.
fn judge(recorder: &Recorder) {
    let events = recorder.recorded().events;
    let mut found = BTreeMap::new();
    for event in &events {
        let Event::Read(read) = event else { continue };
        for item in &read.items {
            let id = item.item.expect("every value is one of ours");
            let before = found.insert(id, (read.log.clone(), item.position, item.hash));
            assert!(before.is_none(), "{id} is there twice");
        }
    }
    let mut acknowledged = 0;
    let mut fates: BTreeMap<u64, Vec<Outcome>> = BTreeMap::new();
    for event in &events {
        let Event::Op(op) = event else { continue };
        let Subject::Item {
            item,
            log,
            hash,
            position,
            ..
        } = &op.subject
        else {
            panic!("{op:?}")
        };
        fates.entry(*item).or_default().push(op.outcome);
        if op.outcome == Outcome::Ok {
            acknowledged += 1;
            let expected = (log.clone(), position.expect("etcd names it"), *hash);
            assert_eq!(found.get(item), Some(&expected), "{op:?}");
            assert!(op.answered_by.is_some() && op.needs == "etcd");
        }
    }
    for (item, outcomes) in &fates {
        let surely_not = outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Failed | Outcome::Shed));
        assert!(
            !surely_not || !found.contains_key(item),
            "{item} surely failed, and is there: {outcomes:?}"
        );
    }
    assert!(
        found.keys().all(|item| fates.contains_key(item)),
        "nothing comes from nowhere"
    );
    assert!(acknowledged >= 700, "{acknowledged}");
    let not_well = fates
        .values()
        .flatten()
        .filter(|outcome| **outcome != Outcome::Ok)
        .count();
    assert!(not_well > 0, "two outages leave a trace");
}
