//! One system under test with everything around it: backend, fault engine, clients, observers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{broadcast::error::RecvError, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    drive::Halt,
    observer::{Seen, observe},
    reader,
};
use crate::{
    backend::{
        Backend, Direction, LinkRule,
        journal::Journal,
        process::{ProcessBackend, ProcessConfig},
    },
    base::{RunClock, Streams},
    fault::{Engine, EngineParts, LEASE, Rules},
    history::{Event, HarnessEvent, HarnessKind, Recorder},
    plan::Plan,
    system::{self, Stage as Clients, System, SystemSpec},
    target::Observations,
    workload::{LoadSpec, Workload},
};

/// What all systems of a run share.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) dir: PathBuf,
    pub(super) clock: RunClock,
    pub(super) streams: Streams,
    pub(super) recorder: Recorder,
    pub(super) journal: Journal,
}

/// A system with everything around it.
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) system: Arc<dyn System>,
    pub(super) backend: Arc<dyn Backend>,
    pub(super) engine: Engine,
    pub(super) workload: Box<dyn Workload>,
    common: Common,
    seen: Seen,
    /// Nodes that are being started.
    starting: JoinSet<Result<crate::backend::Started, crate::backend::BackendError>>,
    observers: JoinSet<()>,
    stop_observing: watch::Sender<bool>,
    processes: JoinHandle<()>,
}

impl Stage {
    /// Lays a system out: ports, links, configuration, clients. Nothing of it runs yet.
    pub(super) async fn build(number: usize, spec: &SystemSpec, plan: &Plan, common: Common) -> Result<Self, Halt> {
        let number = u16::try_from(number).map_err(|_| Halt::Failed("a run has at most 65536 systems".to_owned()))?;
        let dir = common.dir.join("systems").join(&spec.name);
        let logs = common.dir.join("logs").join(&spec.name);
        for folder in [&dir, &logs] {
            std::fs::create_dir_all(folder)
                .map_err(|error| Halt::Failed(format!("make {}: {error}", folder.display())))?;
        }
        let backend = backend(&plan.backend, &spec.name, logs, &common).await?;
        let processes = tokio::spawn(record_processes(Arc::clone(&backend), common.clone()));
        let mut system = system::build(spec, plan.seed)?;
        system.layout(backend.as_ref(), &dir).await?;
        let system: Arc<dyn System> = Arc::from(system);
        let loads: Vec<LoadSpec> = plan
            .loads
            .iter()
            .filter(|load| load.system == spec.name)
            .cloned()
            .collect();
        let clients = Clients {
            recorder: common.recorder.clone(),
            clock: common.clock,
            streams: common.streams,
            number,
        };
        let workload = system.workload(&loads, clients)?;
        let engine = Engine::new(EngineParts {
            backend: Arc::clone(&backend),
            system: Arc::clone(&system),
            recorder: common.recorder.clone(),
            journal: common.journal.clone(),
            clock: common.clock,
            streams: common.streams,
        })
        .with_lease(lease_of(plan))
        .with_lever(workload.lever());
        Ok(Self {
            name: spec.name.clone(),
            system,
            backend,
            engine,
            workload,
            common,
            seen: Seen::default(),
            starting: JoinSet::new(),
            observers: JoinSet::new(),
            stop_observing: watch::Sender::new(false),
            processes,
        })
    }

    /// Has links be as long as the system says, before anything runs on them.
    async fn lay_distances(&self) -> Result<(), Halt> {
        let mut rules = Rules::new();
        for link in self.backend.links() {
            let delay = self.system.distance(&link);
            if delay.is_zero() {
                continue;
            }
            for direction in [Direction::Forward, Direction::Backward] {
                let rule = LinkRule {
                    delay,
                    ..LinkRule::default()
                };
                rules.insert((link.clone(), direction), rule);
            }
        }
        if rules.is_empty() {
            return Ok(());
        }
        let laid = self.engine.lay_distance(&rules).await;
        laid.map_err(|error| Halt::Failed(format!("lay the links of `{}`: {error}", self.name)))
    }

    /// Starts all nodes at once, then what stands around them, and returns when every one is ready; from then on the nodes
    /// are observed.
    pub(super) async fn start(&mut self) -> Result<(), Halt> {
        self.lay_distances().await?;
        for node in &self.system.roster().nodes {
            let (backend, spec) = (Arc::clone(&self.backend), self.system.node_spec(&node.name)?);
            self.starting.spawn(async move { backend.start(&spec).await });
        }
        while let Some(started) = self.starting.join_next().await {
            started??;
        }
        for name in self.system.surroundings() {
            let (backend, spec) = (Arc::clone(&self.backend), self.system.node_spec(&name)?);
            self.starting.spawn(async move { backend.start(&spec).await });
        }
        while let Some(started) = self.starting.join_next().await {
            started??;
        }
        let Common { recorder, clock, .. } = &self.common;
        let stop = self.stop_observing.subscribe();
        (self.seen, self.observers) = observe(&self.system, recorder, *clock, &stop);
        reader::read(&self.system, recorder, *clock, &stop, &mut self.observers);
        Ok(())
    }

    /// What the nodes said last.
    pub(super) fn seen(&self) -> Observations {
        self.seen.now()
    }

    /// Whether every replica of every group has applied what some replica knows to be committed.
    pub(super) fn redundant(&self) -> bool {
        let seen = self.seen();
        self.system.roster().groups.iter().all(|(group, holders)| {
            // Replicas move: the roster says how many there are, the nodes say where.
            let words = seen.values().flat_map(|status| &status.groups);
            let replicas: Vec<_> = words.filter(|status| status.group == *group).collect();
            let commit = replicas.iter().map(|status| status.commit).max().unwrap_or(0);
            // Nodes are asked at different instants of a load that goes on: a second's worth of entries is no lag.
            let caught_up = |applied: u64| applied.saturating_add(LAG_MAX) >= commit;
            replicas.len() >= holders.len() && replicas.iter().all(|status| caught_up(status.applied))
        })
    }

    /// Ends clients, observers and nodes, in that order, and says what could not be ended.
    pub(super) async fn close(&mut self) -> Result<(), String> {
        self.workload.shut_down().await;
        self.stop_observing.send_replace(true);
        while self.observers.join_next().await.is_some() {}
        let mut torn = self.backend.tear_down().await;
        // A start that was under way when the run was stopped finds the backend closed, and is awaited: what it wrote
        // down and what it made are undone by itself or by a second look.
        if !self.starting.is_empty() {
            let (starting, clock) = (&mut self.starting, self.common.clock);
            tokio::select! {
                biased;
                () = async { while starting.join_next().await.is_some() {} } => {}
                () = clock.sleep(STARTS_WITHIN) => {}
            }
            torn = self.backend.tear_down().await;
        }
        // The last ends are in the channel already; the task ends with the backend's sender or here.
        tokio::task::yield_now().await;
        self.processes.abort();
        match torn {
            Ok(report) if report.left.is_empty() => Ok(()),
            Ok(report) => Err(format!("left behind on `{}`: {}", self.name, report.left.join("; "))),
            Err(error) => Err(format!("tear `{}` down: {error}", self.name)),
        }
    }
}

/// How long a start that finds its backend closed may take to end.
const STARTS_WITHIN: Duration = Duration::from_secs(10);
/// Entries that a replica may be behind and still count as caught up.
const LAG_MAX: u64 = 512;

/// How long a fault of this plan lasts at most: no lease ends one that the plan has last longer.
pub(super) fn lease_of(plan: &Plan) -> Duration {
    LEASE + Duration::from_millis(plan.steps_end_ms())
}

async fn backend(name: &str, system: &str, logs: PathBuf, common: &Common) -> Result<Arc<dyn Backend>, Halt> {
    let config = ProcessConfig {
        system: system.to_owned(),
        logs,
        clock: common.clock,
        streams: common.streams,
        journal: common.journal.clone(),
    };
    match name {
        "process" => Ok(Arc::new(ProcessBackend::start(config).await?)),
        other => Err(Halt::Failed(format!(
            "the plan asks for the backend `{other}`, which this build does not carry"
        ))),
    }
}

async fn record_processes(backend: Arc<dyn Backend>, common: Common) {
    let mut events = backend.process_events();
    drop(backend);
    loop {
        match events.recv().await {
            Ok(event) => common.recorder.record(Event::Process(event)),
            Err(RecvError::Closed) => return,
            Err(RecvError::Lagged(missed)) => common.recorder.record(Event::Harness(HarnessEvent {
                at: common.clock.now(),
                kind: HarnessKind::Failure,
                text: format!("{missed} starts and ends of processes were missed"),
            })),
        }
    }
}
