//! A node's start: its process, its output, its lines in the journal, and the wait until it is ready.

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::backend::{Node, ProcessBackend};
use super::child::{Life, Process};
use super::connect::{Connect, connect};
use super::log::NodeLog;
use crate::backend::journal::{Act, Journal};
use crate::backend::procfs::{MARKER, ProcessId, SYSTEM};
use crate::backend::{BackendError, NodeSpec, Ready};
use crate::base::Nanos;
use crate::history::{ProcessChange, ProcessEvent};

/// Between two looks at a port that is to be ready.
const READY_EVERY: Duration = Duration::from_millis(5);

impl ProcessBackend {
    /// Starts the process and watches it; not yet ready.
    pub(super) async fn launch(&self, spec: &NodeSpec) -> Result<Launched, BackendError> {
        let what = format!("start node `{}` ({})", spec.name, spec.program.display());
        let failed = |source| BackendError::Os {
            what: what.clone(),
            source,
        };
        let with_disk = spec.clone();
        self.disks(move |disks, journal| disks.mount(&with_disk, journal))
            .await??;
        let node = spec.name.clone();
        let intent = self.journal(move |journal| journal.begin(Act::Start { node })).await?;
        let log = NodeLog::new(&self.config.logs, &spec.name).map_err(failed)?;
        std::fs::create_dir_all(&spec.dir).map_err(failed)?;
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.args)
            .envs(&spec.env)
            .env(MARKER, self.config.journal.run())
            .env(SYSTEM, &self.config.system)
            .current_dir(&spec.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.append().map_err(failed)?);
        let log_from = log.len();
        let at = self.config.clock.now();
        let spawned = self.spawner.spawn(command).await;
        if spawned.is_err() {
            self.journal(move |journal| journal.done(intent)).await?;
        }
        let mut child = spawned.map_err(failed)?;
        let pid = child.id();
        let event = {
            let (system, node) = (self.config.system.clone(), spec.name.clone());
            move |at, change| ProcessEvent {
                at,
                system: system.clone(),
                node: node.clone(),
                pid,
                change,
            }
        };
        // Nobody may listen.
        let _ = self.events.send(event(at, ProcessChange::Started));
        let undo = Arc::new(Undo {
            journal: self.config.journal.clone(),
            state: Mutex::new((vec![intent], false)),
        });
        let (events, ends) = (self.events.clone(), Arc::clone(&undo));
        let process = Process::watch(pid, self.config.clock, move |at, change| {
            let ended = matches!(change, ProcessChange::Ended { .. });
            let _ = events.send(event(at, change));
            if ended {
                ends.ended();
            }
        })
        .map_err(failed)?;
        self.nodes().insert(
            spec.name.clone(),
            Node::Known {
                process: Arc::clone(&process),
                listens: spec.listens.clone(),
            },
        );
        if let Some(id) = ProcessId::of(pid) {
            let act = Act::Started {
                node: spec.name.clone(),
                process: id,
            };
            undo.add(self.journal(move |journal| journal.begin(act)).await?);
        }
        let (ready, line) = oneshot::channel();
        if let Some(output) = child.stdout.take() {
            let prefix = match &spec.ready {
                Ready::Line(prefix) => Some(prefix.clone()),
                _ => None,
            };
            log.copy(output, prefix, ready).map_err(failed)?;
        }
        Ok(Launched {
            process,
            at,
            line,
            log,
            log_from,
        })
    }

    /// Waits until it is ready; says why when it is not.
    pub(super) async fn ready(
        &self,
        spec: &NodeSpec,
        launched: &mut Launched,
    ) -> Result<(Nanos, Option<String>), String> {
        let clock = self.config.clock;
        let mut life = launched.process.life();
        let ended = async {
            match life
                .wait_for(|life| matches!(life, Life::Ended { .. }))
                .await
                .as_deref()
            {
                Ok(Life::Ended { how, .. }) => how.clone(),
                _ => "out of sight".to_owned(),
            }
        };
        let line = &mut launched.line;
        let ready = async {
            match &spec.ready {
                Ready::Started => None,
                Ready::Line(_) => match line.await {
                    Ok(line) => Some(line),
                    // Its output ended without the line: its end is about to be seen, or the bound.
                    Err(_) => std::future::pending().await,
                },
                Ready::Check(check) => {
                    while !check.ask().await {
                        clock.sleep(READY_EVERY).await;
                    }
                    None
                }
                Ready::Tcp(address) => {
                    while !matches!(connect(*address, clock).await, Connect::Accepted) {
                        clock.sleep(READY_EVERY).await;
                    }
                    None
                }
            }
        };
        tokio::select! {
            biased;
            line = ready => Ok((clock.now(), line)),
            how = ended => Err(format!("it ended: {how}")),
            () = clock.sleep(spec.ready_within) => Err(format!("nothing within {:?}", spec.ready_within)),
        }
    }
}

pub(super) struct Launched {
    pub(super) process: Arc<Process>,
    pub(super) at: Nanos,
    pub(super) line: oneshot::Receiver<String>,
    pub(super) log: NodeLog,
    pub(super) log_from: u64,
}

/// The journal's entries for one start of a node: undone when the process has ended, whichever is known first.
#[derive(Debug)]
struct Undo {
    journal: Journal,
    /// Entries not yet undone, and whether the process has ended.
    state: Mutex<(Vec<u64>, bool)>,
}

impl Undo {
    fn add(&self, seq: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.push(seq);
        self.settle(&mut state);
    }

    fn ended(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = true;
        self.settle(&mut state);
    }

    fn settle(&self, state: &mut (Vec<u64>, bool)) {
        if state.1 {
            for seq in state.0.drain(..) {
                // A line lost here is undone once more by a sweep, which does no harm.
                let _ = self.journal.done(seq);
            }
        }
    }
}
