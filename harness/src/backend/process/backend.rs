//! The backend itself.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, oneshot};

use super::child::{Life, Process};
use super::dialler::who_dials;
use super::disks::Disks;
use super::link::LinkNet;
use super::log::NodeLog;
use super::ports::Ports;
use super::spawner::Spawner;
use super::sweep::end_own;
use crate::backend::journal::{Act, Journal, JournalError};
use crate::backend::procfs::{self, MARKER, ProcessId, SYSTEM};
use crate::backend::{
    Backend, BackendError, Capability, Direction, LinkId, LinkRule, NodeSignal, NodeSpec, ProbeResult, Ready,
    SignalEvidence, Started, TearDownReport,
};
use crate::base::{Nanos, RunClock, Streams};
use crate::history::{ProcessChange, ProcessEvent};

/// How long the kernel may take to kill, stop or continue a process.
const KERNEL_WITHIN: Duration = Duration::from_secs(5);
/// How long a node that is asked to end may take.
const END_WITHIN: Duration = Duration::from_secs(15);
/// The same while tearing down, where it is killed after.
const TEAR_DOWN_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection attempt on loopback may take to be accepted or refused.
const CONNECT_WITHIN: Duration = Duration::from_millis(200);
/// Between two looks at a port that is to be ready.
const READY_EVERY: Duration = Duration::from_millis(5);
/// How long what a dead wrapper had made may take to let go of a node's ports.
const REFUSE_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks at the ports of a node that ended, or the threads of a node that is to stop or go on.
const STATES_EVERY: Duration = Duration::from_millis(1);
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
    config: ProcessConfig,
    net: LinkNet,
    spawner: Spawner,
    ports: Mutex<Ports>,
    nodes: Arc<Mutex<BTreeMap<String, Node>>>,
    disks: Arc<Disks>,
    events: broadcast::Sender<ProcessEvent>,
    closed: AtomicBool,
}

#[derive(Clone, Debug)]
enum Node {
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

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
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

    async fn journal<T: Send + 'static>(
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
    async fn disks<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Disks, &Journal) -> T + Send + 'static,
    ) -> Result<T, BackendError> {
        let (disks, journal) = (Arc::clone(&self.disks), self.config.journal.clone());
        let done = tokio::task::spawn_blocking(move || act(&disks, &journal)).await;
        done.map_err(|_| BackendError::Closed)
    }

    /// Starts the process and watches it; not yet ready.
    async fn launch(&self, spec: &NodeSpec) -> Result<Launched, BackendError> {
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
    async fn ready(&self, spec: &NodeSpec, launched: &mut Launched) -> Result<(Nanos, Option<String>), String> {
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

    async fn evidence(
        &self,
        node: &str,
        process: &Process,
        listens: &[SocketAddr],
        signal: NodeSignal,
        sent: Nanos,
    ) -> Result<SignalEvidence, BackendError> {
        let (within, what) = match signal {
            NodeSignal::Kill | NodeSignal::PowerLoss => (KERNEL_WITHIN, "end by SIGKILL"),
            NodeSignal::Term => (END_WITHIN, "end after SIGTERM"),
            NodeSignal::Stop => (KERNEL_WITHIN, "stop of every thread"),
            NodeSignal::Cont => (KERNEL_WITHIN, "going on"),
        };
        let mut lives = process.life();
        let wanted = |life: &Life| match signal {
            NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term => matches!(life, Life::Ended { .. }),
            NodeSignal::Stop => matches!(life, Life::Stopped(_) | Life::Ended { .. }),
            NodeSignal::Cont => matches!(life, Life::Running(_) | Life::Ended { .. }),
        };
        let life = tokio::select! {
            biased;
            life = lives.wait_for(wanted) => life.map(|life| life.clone()).ok(),
            () = self.config.clock.sleep(within) => None,
        };
        let (states, settled) = self.states(process, signal, sent.plus(within)).await;
        let nothing = |seen: String| BackendError::NoEvidence {
            what: format!("node `{node}`: {what}"),
            within,
            seen,
        };
        // What the wrapper's program came to later than the wrapper is true since then.
        let life = life.map(|life| match life {
            Life::Stopped(at) => Life::Stopped(at.max(settled)),
            Life::Running(at) => Life::Running(at.max(settled)),
            ended @ Life::Ended { .. } => ended,
        });
        let (at, text) = match (signal, life) {
            (NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term, Some(Life::Ended { at, how })) => {
                if ProcessId::of(process.pid).is_some_and(|id| procfs::marker_of(id.pid).as_deref() == Some(self.run()))
                {
                    return Err(nothing(format!(
                        "the kernel reports {how}, and /proc/{} is there",
                        process.pid
                    )));
                }
                let (ports, since) = self.refused(node, listens).await?;
                (at.max(since), format!("process {} is gone ({how}){ports}", process.pid))
            }
            (NodeSignal::Stop, Some(Life::Stopped(at))) if !states.is_empty() && states.chars().all(is_stopped) => {
                let count = states.len();
                (
                    at,
                    format!(
                        "all {count} threads of process {} and what it made are in state T",
                        process.pid
                    ),
                )
            }
            (NodeSignal::Cont, Some(Life::Running(at))) if !states.is_empty() && !states.contains(is_stopped) => {
                let count = states.len();
                (
                    at,
                    format!("none of {count} threads of process {} is in state T", process.pid),
                )
            }
            (_, Some(life)) => return Err(nothing(format!("{life:?}, threads `{states}`"))),
            (_, None) => return Err(nothing(format!("threads `{states}`"))),
        };
        Ok(SignalEvidence {
            node: node.to_owned(),
            sent,
            // What was true before it was asked for was true when it was asked for.
            effective: at.max(sent),
            text,
        })
    }

    /// The states of the threads of a node's whole process group, once they are as `signal` wants them or `until` has
    /// come; and since when at the latest that is so, 0 when it was so at the first look.
    async fn states(&self, process: &Process, signal: NodeSignal, until: Nanos) -> (String, Nanos) {
        let clock = self.config.clock;
        let mut settled = Nanos(0);
        loop {
            let states = procfs::group_states(process.pid);
            let as_wanted = match signal {
                NodeSignal::Kill | NodeSignal::PowerLoss | NodeSignal::Term => true,
                NodeSignal::Stop => states.chars().all(is_stopped),
                NodeSignal::Cont => !states.contains(is_stopped),
            };
            if as_wanted || clock.now() >= until {
                return (states, settled);
            }
            clock.sleep(STATES_EVERY).await;
            settled = clock.now();
        }
    }

    /// Asks every port that the node listened on until all refuse; fails when one goes on to answer. The ports in words,
    /// and since when at the latest that is so, 0 when it was so at the first look.
    async fn refused(&self, node: &str, listens: &[SocketAddr]) -> Result<(String, Nanos), BackendError> {
        let clock = self.config.clock;
        let until = clock.now().plus(REFUSE_WITHIN);
        let (mut text, mut settled) = (String::new(), Nanos(0));
        for address in listens {
            loop {
                let seen = connect(*address, clock).await;
                if matches!(seen, Connect::Refused) {
                    text.push_str(&format!(", {address} refuses"));
                    break;
                }
                if clock.now() >= until {
                    return Err(BackendError::NoEvidence {
                        what: format!("node `{node}` is dead: a refusal at {address}"),
                        within: REFUSE_WITHIN,
                        seen: format!("{seen:?}"),
                    });
                }
                clock.sleep(STATES_EVERY).await;
                settled = clock.now();
            }
        }
        Ok((text, settled))
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

struct Launched {
    process: Arc<Process>,
    at: Nanos,
    line: oneshot::Receiver<String>,
    log: NodeLog,
    log_from: u64,
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

const fn is_stopped(state: char) -> bool {
    matches!(state, 'T' | 't')
}

#[derive(Debug)]
enum Connect {
    Accepted,
    Refused,
    Nothing,
}

async fn connect(address: SocketAddr, clock: RunClock) -> Connect {
    tokio::select! {
        biased;
        connected = TcpStream::connect(address) => match connected {
            Ok(_) => Connect::Accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Connect::Refused,
            Err(_) => Connect::Nothing,
        },
        () = clock.sleep(CONNECT_WITHIN) => Connect::Nothing,
    }
}

fn os(what: &str) -> impl FnOnce(io::Error) -> BackendError {
    let what = what.to_owned();
    move |source| BackendError::Os { what, source }
}
