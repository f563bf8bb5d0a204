//! One system on the process backend, with a fault engine: what a run has, without the run.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use firedrill::{
    backend::{
        Backend as _,
        journal::{Journal, StateDir, unique_run},
        process::{ProcessBackend, ProcessConfig},
    },
    base::RunClock,
    fault::{Engine, EngineParts},
    history::{FORMAT, Header, Recorder},
    system::System,
    target::{Observations, leader_of},
};

use crate::common::{Bench, Result};

/// How long a system may take to be well.
const WELL_WITHIN: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(20);
/// Entries that a replica may be behind its leader, as each of them said it at a slightly different moment.
const BEHIND_MAX: u64 = 500;

/// A system whose nodes run.
pub(crate) struct Rig {
    pub(crate) clock: RunClock,
    pub(crate) recorder: Recorder,
    pub(crate) system: Arc<dyn System>,
    pub(crate) engine: Engine,
    backend: Arc<ProcessBackend>,
}

impl Rig {
    /// Starts all nodes of `system`, in a folder called `name` of the benchmark's own.
    pub(crate) async fn start(bench: &Bench, name: &str, mut system: Box<dyn System>) -> Result<Self> {
        let (clock, streams) = (bench.clock, bench.streams);
        let dir: &Path = &bench.folder.path().join(name);
        std::fs::create_dir_all(dir)?;
        let journal = Journal::create(
            dir,
            &unique_run(&format!("bench-{name}")),
            &StateDir::at(&dir.join("state")),
        )?;
        let config = ProcessConfig {
            system: "main".to_owned(),
            logs: dir.join("logs"),
            clock,
            streams,
            journal: journal.clone(),
        };
        let backend = Arc::new(ProcessBackend::start(config).await?);
        system.layout(&*backend, &dir.join("main")).await?;
        let system: Arc<dyn System> = Arc::from(system);
        for node in &system.roster().nodes {
            backend.start(&system.node_spec(&node.name)?).await?;
        }
        let recorder = Recorder::in_memory(Header {
            format: FORMAT.to_owned(),
            plan: serde_json::Value::Null,
            started: String::new(),
            versions: BTreeMap::new(),
        });
        let engine = Engine::new(EngineParts {
            backend: Arc::clone(&backend) as _,
            system: Arc::clone(&system),
            recorder: recorder.clone(),
            journal,
            clock,
            streams,
        });
        Ok(Self {
            clock,
            recorder,
            system,
            engine,
            backend,
        })
    }

    /// Waits until every node answers, one of them leads `group`, and nobody is far behind it. Returns who leads.
    pub(crate) async fn well(&self, group: &str) -> Result<String> {
        let deadline = self.clock.now().plus(WELL_WITHIN);
        loop {
            let seen = self.look().await;
            if let Some(leader) = self.is_well(group, &seen) {
                return Ok(leader);
            }
            if self.clock.now() >= deadline {
                return Err(format!("{group} is not well after {WELL_WITHIN:?}: {seen:?}").into());
            }
            self.clock.sleep(ASK_EVERY).await;
        }
    }

    async fn look(&self) -> Observations {
        let mut seen = Observations::new();
        for node in &self.system.roster().nodes {
            if let Some(status) = self.system.observe(&node.name).await {
                seen.insert(node.name.clone(), status);
            }
        }
        seen
    }

    fn is_well(&self, group: &str, seen: &Observations) -> Option<String> {
        if seen.len() < self.system.roster().nodes.len() {
            return None;
        }
        let leader = leader_of(group, seen)?;
        let replicas = || {
            let all = seen.values().flat_map(|status| &status.groups);
            all.filter(|status| status.group == group)
        };
        let furthest = replicas().map(|replica| replica.commit).max()?;
        let last = replicas().map(|replica| replica.applied).min()?;
        (furthest <= last + BEHIND_MAX).then_some(leader)
    }

    /// Undoes what lasts and ends all nodes. What the history lost would make figures wrong, so that is an error.
    pub(crate) async fn tear_down(self) -> Result<()> {
        self.engine.heal_all().await?;
        let report = self.backend.tear_down().await?;
        if let Some(trouble) = self.recorder.trouble() {
            return Err(trouble.into());
        }
        if report.left.is_empty() {
            Ok(())
        } else {
            Err(format!("left behind: {}", report.left.join("; ")).into())
        }
    }
}
