//! The backend itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::broadcast;

use super::child::{Life, Process};
use super::dialler::who_dials;
use super::disks::Disks;
use super::link::LinkNet;
use super::ports::Ports;
use super::spawner::Spawner;
use super::sweep::end_own;
use crate::backend::journal::{Journal, JournalError};
use crate::backend::{
    Backend, BackendError, Capability, Direction, LinkId, LinkRule, NodeSignal, NodeSpec, ProbeResult, SignalEvidence,
    Started, TearDownReport,
};
use crate::base::{Nanos, RunClock, Streams};
use crate::history::ProcessEvent;

/// How long the kernel may take to kill, stop or continue a process.
pub(super) const KERNEL_WITHIN: Duration = Duration::from_secs(5);
/// The same while tearing down, where it is killed after.
const TEAR_DOWN_WITHIN: Duration = Duration::from_secs(5);
/// Starts and ends that a slow listener may be behind by.
const EVENTS: usize = 1024;

/// What a process backend needs.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// The system whose nodes run here, for events.
    pub system: String,
    /// Where the nodes' logs go.
    pub logs: PathBuf,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's randomness.
    pub streams: Streams,
    /// The run's undo journal.
    pub journal: Journal,
}

/// Nodes as child processes.
#[derive(Debug)]
pub struct ProcessBackend {
    pub(super) config: ProcessConfig,
    pub(super) net: LinkNet,
    pub(super) spawner: Spawner,
    pub(super) ports: Mutex<Ports>,
    pub(super) nodes: Arc<Mutex<BTreeMap<String, Node>>>,
    pub(super) disks: Arc<Disks>,
    pub(super) events: broadcast::Sender<ProcessEvent>,
    pub(super) closed: AtomicBool,
}

/// A node, by what is known of its process.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Starting,
    Known {
        process: Arc<Process>,
        listens: Vec<SocketAddr>,
    },
}

impl ProcessBackend {
    /// A backend without nodes.
    ///
    /// # Errors
    /// When its threads or sockets are not to be had.
    pub async fn start(config: ProcessConfig) -> Result<Self, BackendError> {
        let spawner = Spawner::start().map_err(os("start the thread that starts nodes"))?;
        Ok(Self {
            net: LinkNet::start(config.clock, config.streams).await?,
            spawner,
            ports: Mutex::default(),
            nodes: Arc::default(),
            disks: Arc::default(),
            events: broadcast::Sender::new(EVENTS),
            closed: AtomicBool::new(false),
            config,
        })
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the node's place, so that it is started once.
    fn claim(&self, name: &str) -> Result<(), BackendError> {
        let mut nodes = self.nodes();
        let running = match nodes.get(name) {
            None => false,
            Some(Node::Starting) => true,
            Some(Node::Known { process, .. }) => !matches!(*process.life().borrow(), Life::Ended { .. }),
        };
        if running {
            return Err(BackendError::AlreadyRunning(name.to_owned()));
        }
        nodes.insert(name.to_owned(), Node::Starting);
        Ok(())
    }

    fn running(&self, name: &str) -> Result<(Arc<Process>, Vec<SocketAddr>), BackendError> {
        let nodes = self.nodes();
        match nodes.get(name) {
            None => Err(BackendError::UnknownNode(name.to_owned())),
            Some(Node::Starting) => Err(BackendError::NotRunning {
                node: name.to_owned(),
                how: "it is being started".to_owned(),
            }),
            Some(Node::Known { process, listens }) => match &*process.life().borrow() {
                Life::Ended { how, .. } => Err(BackendError::NotRunning {
                    node: name.to_owned(),
                    how: how.clone(),
                }),
                _ => Ok((Arc::clone(process), listens.clone())),
            },
        }
    }

    pub(super) async fn journal<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, BackendError> {
        let journal = self.config.journal.clone();
        let written = tokio::task::spawn_blocking(move || write(&journal)).await;
        written
            .map_err(|_| BackendError::Closed)?
            .map_err(|error| BackendError::Os {
                what: format!("{} {}", error.what, error.path.display()),
                source: error.source,
            })
    }

    /// Does something with the disks that blocks.
    pub(super) async fn disks<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Disks, &Journal) -> T + Send + 'static,
    ) -> Result<T, BackendError> {
        let (disks, journal) = (Arc::clone(&self.disks), self.config.journal.clone());
        let done = tokio::task::spawn_blocking(move || act(&disks, &journal)).await;
        done.map_err(|_| BackendError::Closed)
    }

    pub(super) fn run(&self) -> &str {
        self.config.journal.run()
    }

    /// Waits until those of `processes` that run have ended, or the bound; returns who has not.
    async fn wait_for_ends(&self, processes: &BTreeMap<String, Arc<Process>>, within: Duration) -> BTreeSet<String> {
        let deadline = self.config.clock.now().plus(within);
        let mut left = BTreeSet::new();
        for (name, process) in processes {
            let mut life = process.life();
            tokio::select! {
                biased;
                _ = life.wait_for(|life| matches!(life, Life::Ended { .. })) => {}
                () = self.config.clock.sleep_until(deadline) => {
                    left.insert(name.clone());
                }
            }
        }
        left
    }
}

#[async_trait]
impl Backend for ProcessBackend {
    fn name(&self) -> &'static str {
        "process"
    }

    fn capabilities(&self) -> BTreeSet<Capability> {
        CAPABILITIES.iter().copied().collect()
    }

    async fn reserve_ports(&self, count: usize) -> Result<Vec<u16>, BackendError> {
        self.ports().reserve(count)
    }

    async fn open_link(&self, link: LinkId, upstream: SocketAddr) -> Result<SocketAddr, BackendError> {
        self.net.open(link, upstream).await
    }

    async fn open_gate(&self, to: &str, upstream: SocketAddr) -> Result<SocketAddr, BackendError> {
        let nodes = Arc::clone(&self.nodes);
        let who = move |far, near| who_dials(&processes(&nodes), far, near);
        self.net.open_gate(to, upstream, Arc::new(who)).await
    }

    fn links(&self) -> Vec<LinkId> {
        self.net.names()
    }

    async fn start(&self, node: &NodeSpec) -> Result<Started, BackendError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(BackendError::Closed);
        }
        self.claim(&node.name)?;
        let launched = self.launch(node).await;
        let mut launched = match launched {
            Ok(launched) => launched,
            Err(error) => {
                let mut nodes = self.nodes();
                // A process that was made all the same is kept in sight, so that it is torn down.
                if matches!(nodes.get(&node.name), Some(Node::Starting)) {
                    nodes.remove(&node.name);
                }
                return Err(error);
            }
        };
        // Torn down meanwhile: whoever tore down did not see it.
        let ready = if self.closed.load(Ordering::Acquire) {
            Err("the backend was torn down meanwhile".to_owned())
        } else {
            self.ready(node, &mut launched).await
        };
        match ready {
            Ok((ready, line)) => Ok(Started {
                pid: launched.process.pid,
                at: launched.at,
                ready,
                line,
            }),
            Err(why) => {
                let _ = launched.process.signal(Signal::SIGKILL);
                let one = BTreeMap::from([(node.name.clone(), Arc::clone(&launched.process))]);
                self.wait_for_ends(&one, KERNEL_WITHIN).await;
                Err(BackendError::NotReady {
                    node: node.name.clone(),
                    why,
                    log: launched.log.tail(launched.log_from),
                })
            }
        }
    }

    fn running(&self) -> BTreeSet<String> {
        let alive = |node: &Node| match node {
            Node::Known { process, .. } => !matches!(*process.life().borrow(), Life::Ended { .. }),
            Node::Starting => false,
        };
        let nodes = self.nodes();
        let running = nodes.iter().filter(|(_, node)| alive(node));
        running.map(|(name, _)| name.clone()).collect()
    }

    async fn signal(&self, nodes: &[String], signal: NodeSignal) -> Result<Vec<SignalEvidence>, BackendError> {
        let found: Vec<_> = nodes.iter().map(|node| self.running(node)).collect::<Result<_, _>>()?;
        let number = match signal {
            NodeSignal::Kill | NodeSignal::PowerLoss => Signal::SIGKILL,
            NodeSignal::Term => Signal::SIGTERM,
            NodeSignal::Stop => Signal::SIGSTOP,
            NodeSignal::Cont => Signal::SIGCONT,
        };
        let sent = self.config.clock.now();
        let mut outage = (signal == NodeSignal::PowerLoss).then(|| self.disks.power_loss(nodes));
        let mut errors = Vec::new();
        for (node, (process, _)) in nodes.iter().zip(&found) {
            if let Err(source) = process.signal(number) {
                errors.push(os(&format!("send {number} to node `{node}`"))(source));
            }
        }
        if let Some(outage) = &mut outage {
            outage.killed();
        }
        if let Some(error) = errors.pop() {
            return Err(error);
        }
        let mut seen = Vec::with_capacity(nodes.len());
        for (node, (process, listens)) in nodes.iter().zip(&found) {
            seen.push(self.evidence(node, process, listens, signal, sent).await?);
        }
        if let Some(outage) = outage {
            for seen in &mut seen {
                let Some(told) = outage.told_of(&seen.node) else {
                    continue;
                };
                seen.text.push_str(&told);
                let node = seen.node.clone();
                self.disks(move |disks, journal| disks.unmount(&node, journal))
                    .await??;
            }
        }
        Ok(seen)
    }

    async fn set_rules(&self, rules: &[(LinkId, Direction, LinkRule)]) -> Result<Nanos, BackendError> {
        self.net.set_rules(rules).await
    }

    async fn reset_link(&self, link: &LinkId) -> Result<usize, BackendError> {
        self.net.reset(link).await
    }

    async fn probe_links(&self, links: &[LinkId], within: Duration) -> Result<Vec<ProbeResult>, BackendError> {
        self.net.probe(links, within).await
    }

    fn process_events(&self) -> broadcast::Receiver<ProcessEvent> {
        self.events.subscribe()
    }

    async fn tear_down(&self) -> Result<TearDownReport, BackendError> {
        self.closed.store(true, Ordering::Release);
        let running: BTreeMap<String, Arc<Process>> = self
            .nodes()
            .iter()
            .filter_map(|(name, node)| match node {
                Node::Known { process, .. } => Some((name.clone(), Arc::clone(process))),
                Node::Starting => None,
            })
            .filter(|(_, process)| !matches!(*process.life().borrow(), Life::Ended { .. }))
            .collect();
        for process in running.values() {
            // A frozen node must go on to be able to end. Who has ended already needs neither.
            let _ = process.signal(Signal::SIGTERM);
            let _ = process.signal(Signal::SIGCONT);
        }
        let killed = self.wait_for_ends(&running, TEAR_DOWN_WITHIN).await;
        for name in &killed {
            let _ = running[name].signal(Signal::SIGKILL);
        }
        let left = self.wait_for_ends(&running, KERNEL_WITHIN).await;
        // What nodes have made and left behind when they ended: a program behind a wrapper, a helper of its own.
        let (_, outlived) = end_own(self.run(), Some(&self.config.system), self.config.clock).await;
        let mounted = self.disks(Disks::unmount_all).await?;
        self.net.close().await;
        self.ports().release();
        let left_of = |name| format!("node `{name}` does not end");
        Ok(TearDownReport {
            stopped: running.keys().filter(|name| !killed.contains(*name)).cloned().collect(),
            killed: killed.difference(&left).cloned().collect(),
            left: left.iter().map(left_of).chain(outlived).chain(mounted).collect(),
        })
    }
}

/// What this backend can do, on Linux.
pub const CAPABILITIES: &[Capability] = &[
    Capability::Processes,
    Capability::Freeze,
    Capability::Links,
    Capability::ClientLinks,
    Capability::Delay,
];

/// The process numbers of the nodes that run, by name.
fn processes(nodes: &Mutex<BTreeMap<String, Node>>) -> BTreeMap<String, u32> {
    let nodes = nodes.lock().unwrap_or_else(PoisonError::into_inner);
    let running = nodes.iter().filter_map(|(name, node)| match node {
        Node::Known { process, .. } if !matches!(*process.life().borrow(), Life::Ended { .. }) => {
            Some((name.clone(), process.pid))
        }
        _ => None,
    });
    running.collect()
}

fn os(what: &str) -> impl FnOnce(io::Error) -> BackendError {
    let what = what.to_owned();
    move |source| BackendError::Os { what, source }
}
