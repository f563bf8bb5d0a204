//! The messaging service end to end: three processes behind links, the real load, a killed leader.
#![cfg(feature = "messaging")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use firedrill::{
    backend::{
        Backend, NodeSignal,
        journal::{Journal, StateDir, unique_run},
        process::{ProcessBackend, ProcessConfig},
    },
    base::{RunClock, Streams},
    history::{self, Class, Event, FORMAT, Header, Operation, Outcome, Recorder, RecorderLimits, Subject},
    system::{Messaging, MessagingSpec, Stage, System},
    target::{Observations, group_of, leader_of},
    workload::{LoadSpec, ProbeSpec, RetrySpec, ScheduleSpec, Workload},
};

struct Cluster {
    backend: Arc<ProcessBackend>,
    system: Messaging,
    recorder: Recorder,
    clock: RunClock,
    history: PathBuf,
}

impl Cluster {
    async fn start(dir: &Path) -> Self {
        let clock = RunClock::start();
        let streams = Streams::new(11);
        let state = StateDir::at(&dir.join("state"));
        let backend = ProcessBackend::start(ProcessConfig {
            system: "main".to_owned(),
            logs: dir.join("logs"),
            clock,
            streams,
            journal: Journal::create(dir, &unique_run("messaging-test"), &state).expect("a journal"),
        });
        let backend = Arc::new(backend.await.expect("a backend"));
        let spec = MessagingSpec {
            nodes: 3,
            zones: vec!["a".to_owned(), "b".to_owned()],
            shards: 3,
            login_per_s: Some(200.0),
            plant: None,
            gateways: None,
            latency_ms: BTreeMap::new(),
            replicas: None,
            verification: None,
            status_page: None,
            settings: BTreeMap::new(),
        };
        let system = Messaging::new("main", &spec, 11).expect("a valid spec");
        let mut system = system.with_program(env!("CARGO_BIN_EXE_firedrill").into());
        system.layout(&*backend, &dir.join("nodes")).await.expect("laid out");
        for node in &system.roster().nodes.clone() {
            let spec = system.node_spec(&node.name).expect("a node");
            backend.start(&spec).await.expect("started");
        }
        let history = dir.join(history::FILE_NAME);
        let header = Header {
            format: FORMAT.to_owned(),
            plan: serde_json::Value::Null,
            started: "2030-01-01T00:00:00Z".to_owned(),
            versions: BTreeMap::new(),
        };
        Self {
            backend,
            system,
            recorder: Recorder::create(&history, header, RecorderLimits::default()).expect("a history"),
            clock,
            history,
        }
    }

    /// What the nodes say of themselves.
    async fn look(&self) -> Observations {
        let mut seen = Observations::new();
        for node in &self.system.roster().nodes {
            if let Some(status) = self.system.observe(&node.name).await {
                seen.insert(node.name.clone(), status);
            }
        }
        seen
    }

    /// The node that leads `group`, once there is one.
    async fn leader(&self, group: &str, except: Option<&str>) -> String {
        let deadline = self.clock.now().plus(Duration::from_secs(30));
        loop {
            if let Some(leader) = leader_of(group, &self.look().await)
                && Some(leader.as_str()) != except
            {
                return leader;
            }
            assert!(self.clock.now() < deadline, "nobody leads {group}");
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until this many more sends are acknowledged.
    async fn more(&self, workload: &dyn Workload, when: &str, count: u64) {
        let acknowledged = || {
            workload
                .progress()
                .classes
                .get(&Class::Send)
                .map_or(0, |class| class.ok)
        };
        let (before, deadline) = (acknowledged(), self.clock.now().plus(Duration::from_secs(60)));
        while acknowledged() < before + count {
            assert!(self.clock.now() < deadline, "no load {when}: {:?}", workload.progress());
            self.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    async fn kill(&self, nodes: &[String]) {
        self.backend.signal(nodes, NodeSignal::Kill).await.expect("killed");
    }

    async fn start_node(&self, node: &str) {
        let spec = self.system.node_spec(node).expect("a node");
        self.backend.start(&spec).await.expect("started");
    }
}

/// In memory where there is such a place: killed processes lose nothing of it, and a busy disk can't fail the test.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.expect("a folder")
}

fn load() -> LoadSpec {
    LoadSpec {
        system: "main".to_owned(),
        class: Class::Send,
        users: 12,
        devices: 2,
        size_bytes: 128,
        schedule: ScheduleSpec::Constant { per_s: 60.0 },
        retry: RetrySpec {
            attempts: 6,
            budget_per_s: 1000,
            ..RetrySpec::default()
        },
        op_timeout_ms: 2000,
        in_flight_max: 5000,
        probe: Some(ProbeSpec { per_s: 10.0 }),
        request: None,
        group: None,
        life: None,
    }
}

fn sends(events: &[Event]) -> Vec<&Operation> {
    let ops = events.iter().filter_map(|event| match event {
        Event::Op(op) if op.class == Class::Send => Some(op),
        _ => None,
    });
    ops.collect()
}

/// A cluster, and its load once everybody is in and a hundred messages are acknowledged.
async fn under_load(dir: &Path) -> (Cluster, Box<dyn Workload>) {
    let cluster = Cluster::start(dir).await;
    for shard in 0..3 {
        cluster.leader(&group_of(shard), None).await;
    }
    let stage = Stage {
        recorder: cluster.recorder.clone(),
        clock: cluster.clock,
        streams: Streams::new(11),
        number: 0,
    };
    let mut workload = cluster.system.workload(&[load()], stage).expect("a workload");
    workload.prepare().await.expect("everybody is in");
    let progress = workload.progress();
    assert_eq!(progress.sessions_connected, progress.sessions_total);
    workload.start().await.expect("sending");
    cluster.more(&*workload, "before the fault", 100).await;
    (cluster, workload)
}

/// Ends a run as a controller does, and judges what it recorded.
async fn end(cluster: Cluster, mut workload: Box<dyn Workload>) {
    workload.stop_sending().await;
    let drained = workload.drain(Duration::from_secs(30)).await;
    assert!(drained, "not drained: {:?}", workload.progress());
    assert_eq!(workload.owed(), 0);
    workload.fence().await.expect("fenced");
    let read = workload.read_back().await;
    assert_eq!(read.incomplete, 0);
    workload.shut_down().await;
    cluster.recorder.finish().expect("written");
    let torn_down = cluster.backend.tear_down().await.expect("torn down");
    assert!(torn_down.left.is_empty(), "{torn_down:?}");
    judge(&history::read(&cluster.history).expect("readable").events);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_nothing_that_was_acknowledged() {
    let dir = folder();
    let (cluster, workload) = under_load(dir.path()).await;
    let group = group_of(0);
    let leader = cluster.leader(&group, None).await;
    let needs = cluster
        .system
        .needs_of(std::slice::from_ref(&leader), &cluster.look().await);
    assert!(needs.contains(&group), "{needs:?}");
    cluster.kill(std::slice::from_ref(&leader)).await;
    let next = cluster.leader(&group, Some(&leader)).await;
    assert_ne!(next, leader);
    cluster.more(&*workload, "after the kill", 150).await;
    cluster.start_node(&leader).await;
    cluster.more(&*workload, "after the restart", 60).await;
    end(cluster, workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_loss_of_all_nodes_loses_nothing_that_was_acknowledged() {
    let dir = folder();
    let (cluster, workload) = under_load(dir.path()).await;
    let nodes: Vec<String> = cluster
        .system
        .roster()
        .nodes
        .iter()
        .map(|node| node.name.clone())
        .collect();
    cluster.kill(&nodes).await;
    for node in &nodes {
        cluster.start_node(node).await;
    }
    cluster.more(&*workload, "after the power came back", 210).await;
    end(cluster, workload).await;
}

/// A few promises, by hand: the history holds enough to judge them, and they are kept.
fn judge(events: &[Event]) {
    let mut devices: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    let mut shown: BTreeMap<(u64, u32, u64), u32> = BTreeMap::new();
    let mut read = BTreeSet::new();
    let mut read_in_mid_run = BTreeSet::new();
    let mut digests: BTreeMap<String, BTreeSet<(u64, u64)>> = BTreeMap::new();
    for event in events {
        match event {
            Event::Op(Operation {
                subject: Subject::Device { user, device, .. },
                ..
            }) => {
                devices.entry(*user).or_default().insert(*device);
            }
            Event::Shown(at) if !at.repeated_on_wire => {
                let item = at.item.expect("whole bodies");
                *shown.entry((at.user, at.device, item)).or_default() += 1;
            }
            Event::Read(log) if log.after.is_some() => {
                let at = || log.items.iter().map(|item| item.position);
                assert!(
                    at().zip(log.after.unwrap_or(0) + 1..)
                        .all(|(position, n)| position == n)
                );
                read_in_mid_run.extend(log.items.iter().filter_map(|item| item.item));
            }
            Event::Read(log) => {
                assert!(log.complete);
                assert!(
                    log.items.iter().zip(1..).all(|(item, n)| item.position == n),
                    "without gaps"
                );
                read.extend(log.items.iter().map(|item| item.item.expect("whole bodies")));
            }
            Event::Observed(seen) => {
                for group in seen.status.iter().flat_map(|status| &status.groups) {
                    digests
                        .entry(group.group.clone())
                        .or_default()
                        .insert((group.applied, group.digest));
                }
            }
            _ => {}
        }
    }
    let sends = sends(events);
    let acknowledged: Vec<_> = sends.iter().filter(|op| op.outcome == Outcome::Ok).collect();
    assert!(acknowledged.len() >= 310);
    for op in acknowledged {
        let Subject::Item {
            item, owed, position, ..
        } = &op.subject
        else {
            panic!("a send is about an item");
        };
        assert!(position.is_some() && op.answered_by.is_some());
        assert!(read.contains(item), "lost: {op:?}");
        for device in &devices[&owed[0]] {
            assert_eq!(
                shown.get(&(owed[0], *device, *item)),
                Some(&1),
                "device {device} of {op:?}"
            );
        }
    }
    assert!(shown.values().all(|times| *times == 1), "shown twice");
    assert!(
        read_in_mid_run.len() > 20 && read_in_mid_run.is_subset(&read),
        "what was read while the load ran is there in the end: {} of {}",
        read_in_mid_run.len(),
        read.len()
    );
    let attempted: BTreeSet<u64> = sends.iter().map(|op| op.id).collect();
    assert!(
        read.iter().all(|item| attempted.contains(item)),
        "nothing out of nowhere"
    );
    for group in 0..3 {
        let group = group_of(group);
        assert!(
            sends.iter().any(|op| op.probe && op.needs == group),
            "no probe of {group}"
        );
        assert_eq!(digests[&group].len(), 1, "replicas of {group} differ: {digests:?}");
    }
}
