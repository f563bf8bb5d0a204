//! Applies faults to one system, proves that they bite, and undoes them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::aim::{ASK_AGAIN, Words};
use super::counted::Counted;
use super::evidence::Evidence;
use super::frozen::Frozen;
use super::network::Network;
use super::nodes::{Nodes, Unhealed};
use super::scene::{Action, Resolved, Rules, Scene};
use super::spec::SpecError;
use super::verbs::FaultSpec;
use crate::backend::journal::{Act, Journal, JournalError, Undo};
use crate::backend::{Backend, NodeSignal};
use crate::base::{Nanos, RunClock, Streams};
use crate::history::{Event, FaultChange, FaultEvent, HarnessEvent, HarnessKind, Recorder};
use crate::system::System;
use crate::target::Roster;
use crate::workload::Lever;

/// How long a fault lasts at most, unless said otherwise.
pub const LEASE: Duration = Duration::from_secs(3600);
/// How long after its planned end a burst lifts itself.
const BURST_MARGIN: Duration = Duration::from_secs(5);

/// What an engine needs.
pub struct EngineParts {
    /// Where the system's nodes run.
    pub backend: Arc<dyn Backend>,
    /// The system.
    pub system: Arc<dyn System>,
    /// Where what happens is recorded.
    pub recorder: Recorder,
    /// The run's undo journal.
    pub journal: Journal,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's randomness.
    pub streams: Streams,
}

/// The harness could not apply or undo a fault. Never a verdict on the system.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The fault makes no sense as written.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A fault of that name lasts already.
    #[error("fault `{0}` lasts already")]
    Repeated(String),
    /// It could not be written to the undo journal, so it was not applied.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It could not be undone: the host is dirty.
    #[error("{0}")]
    HealFailed(String),
    /// A node was started again and did not come to be ready: the system's doing, nothing is left to undo.
    #[error("{0}")]
    NotBack(String),
    /// The engine's own task ended early.
    #[error("the fault engine failed: {0}")]
    Engine(String),
}

/// What became of an injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// `installed`, `skipped` or `indeterminate`.
    pub outcome: &'static str,
    /// Whether it lasts until it is healed.
    pub lasts: bool,
    /// Nodes, or directed pairs such as `n1->n2/back_end`.
    pub targets: Vec<String>,
    /// When it was first seen to bite.
    pub effective: Option<Nanos>,
    /// What was seen, or why it was skipped.
    pub evidence: String,
}

/// Applies faults to one system. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    lease: Duration,
}

struct Shared {
    nodes: Nodes,
    network: Network,
    recorder: Recorder,
    journal: Journal,
    clock: RunClock,
    streams: Streams,
    active: Mutex<BTreeMap<String, Arc<Lasting>>>,
    frozen: Mutex<Frozen>,
    /// What can be done to the clients, where there are some.
    lever: OnceLock<Arc<Lever>>,
    /// Faults that are being written to the journal.
    enlisting: watch::Sender<u32>,
}

/// A fault that lasts, or is about to.
struct Lasting {
    id: String,
    kind: &'static str,
    resolved: Resolved,
    needs: Vec<String>,
    /// From when the oldest word is that it was resolved by, and that says what it takes away.
    aimed: AtomicU64,
    seq: u64,
    expires: Nanos,
    /// Becomes true when the flap's remaining bursts are not to come.
    cancel: watch::Sender<bool>,
    /// Held while it is applied and while it is undone.
    stage: tokio::sync::Mutex<Stage>,
    /// Becomes true when it has ended, by itself or by a heal.
    over: watch::Sender<bool>,
}

/// How far a fault has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Armed,
    Applied,
    Undone,
}

/// Whom a fault hits, and what that takes away.
type Aim = (Resolved, Vec<String>);

/// A fault that is resolved and journalled, and has not been applied.
#[must_use = "an armed fault does nothing until it is fired"]
pub struct Armed {
    engine: Engine,
    id: String,
    kind: &'static str,
    lasts: bool,
    ready: Result<Arc<Lasting>, SpecError>,
    /// What the nodes said when it was resolved.
    words: Words,
    fired: bool,
}

impl Engine {
    /// An engine for one system.
    #[must_use]
    pub fn new(parts: EngineParts) -> Self {
        Self {
            shared: Arc::new(Shared {
                network: Network::new(Arc::clone(&parts.backend), parts.clock),
                nodes: Nodes {
                    backend: parts.backend,
                    system: parts.system,
                    clock: parts.clock,
                },
                recorder: parts.recorder,
                journal: parts.journal,
                clock: parts.clock,
                streams: parts.streams,
                active: Mutex::default(),
                frozen: Mutex::default(),
                lever: OnceLock::new(),
                enlisting: watch::Sender::new(0),
            }),
            lease: LEASE,
        }
    }

    /// Has bytes be late on links, as distance has them, under whatever faults do: what a fault lifts leaves it as it is.
    ///
    /// # Errors
    /// In words, when a link can't.
    pub async fn lay_distance(&self, rules: &Rules) -> Result<(), String> {
        self.shared.network.lay(rules).await
    }

    /// With this way to the system's clients. The first one stays.
    #[must_use]
    pub fn with_lever(self, lever: Arc<Lever>) -> Self {
        let _first = self.shared.lever.set(lever);
        self
    }

    /// Has faults undo themselves after `lease`, whatever has become of who asked for them: the run's own length and
    /// some more. An hour unless said.
    #[must_use]
    pub const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Applies a fault now, and returns once it has been seen to bite; a flap, once its last burst is healed. `id`
    /// names it within the run.
    ///
    /// # Errors
    /// When it makes no sense, lasts already, or can't be journalled; then nothing was done.
    pub async fn inject(&self, id: &str, spec: &FaultSpec) -> Result<Injection, FaultError> {
        self.inject_at(id, spec, self.shared.clock.now()).await
    }

    /// Applies a fault at `at`: call it some 100 ms earlier, so that what takes time is done by then. Whom it hits is asked
    /// again at the instant.
    ///
    /// # Errors
    /// As [`Engine::inject`].
    pub async fn inject_at(&self, id: &str, spec: &FaultSpec, at: Nanos) -> Result<Injection, FaultError> {
        let armed = self.arm(id, spec).await?;
        self.shared.clock.sleep_until(at.minus(ASK_AGAIN)).await;
        let armed = armed.aim_again(spec, at).await?;
        self.shared.clock.sleep_until(at).await;
        armed.fire().await
    }

    /// Asks the system whom a fault hits now, and writes it to the journal; [`Armed::fire`] applies it.
    ///
    /// # Errors
    /// As [`Engine::inject`].
    pub async fn arm(&self, id: &str, spec: &FaultSpec) -> Result<Armed, FaultError> {
        let words = self.shared.nodes.words().await;
        self.arm_by(id, spec, words).await
    }

    /// Resolves a fault by these words of the nodes, and writes it to the journal.
    async fn arm_by(&self, id: &str, spec: &FaultSpec, words: Words) -> Result<Armed, FaultError> {
        let armed = |ready, words: Words| Armed {
            engine: self.clone(),
            id: id.to_owned(),
            kind: spec.kind(),
            lasts: spec.info().heals,
            ready,
            words,
            fired: false,
        };
        let (resolved, needs) = match self.resolve(id, spec, &words)? {
            Ok(aim) => aim,
            Err(error) => return Ok(armed(Err(error), words)),
        };
        if let Action::Rules(rules) | Action::Flap { rules, .. } = &resolved.action {
            self.shared.network.prepare(rules).await;
        }
        let lasting = self.enlist(id, spec.kind(), resolved, needs, words.since).await?;
        Ok(armed(Ok(lasting), words))
    }

    /// Whom a fault hits and what it takes away, by these words of the nodes. The same words always give the same answer.
    ///
    /// # Errors
    /// When it makes no sense, whatever the nodes say; the inner error when they don't say anything that it fits.
    fn resolve(&self, id: &str, spec: &FaultSpec, words: &Words) -> Result<Result<Aim, SpecError>, FaultError> {
        let nodes = &self.shared.nodes;
        let (running, links) = (nodes.backend.running(), nodes.backend.links());
        let mut rng = self.shared.streams.stream(&format!("fault:{id}"));
        let roster: &Roster = nodes.system.roster();
        spec.check(roster)?;
        let resolved = spec.resolve(&mut Scene {
            roster,
            seen: &words.seen,
            running: &running,
            links: &links,
            rng: &mut rng,
        });
        let aim = resolved.map(|resolved| {
            let mut needs = resolved.needs.clone();
            needs.extend(nodes.system.needs_of(&resolved.affected, &words.seen));
            (resolved, needs)
        });
        match aim {
            Err(error) if error.is_static() => Err(error.into()),
            aim => Ok(aim),
        }
    }

    /// Names the fault among those that last, after it is in the journal. In a task of its own: whoever asked may go
    /// away while it is written, and [`Engine::heal_all`] must still find it.
    async fn enlist(
        &self,
        id: &str,
        kind: &'static str,
        resolved: Resolved,
        needs: Vec<String>,
        aimed: Nanos,
    ) -> Result<Arc<Lasting>, FaultError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let expires = shared.clock.now().plus(self.lease);
        let counted = Counted::one_more(&shared.enlisting);
        let enlisted = tokio::spawn(async move {
            let _counted = counted;
            shared.enlist(id, kind, (resolved, aimed), needs, expires).await
        });
        enlisted.await.map_err(|error| FaultError::Engine(error.to_string()))?
    }

    /// The faults that last.
    #[must_use]
    pub fn active(&self) -> Vec<String> {
        self.shared.active().keys().cloned().collect()
    }

    /// Undoes a fault, and returns once it has been seen to have ended. Nothing to do when it does not last.
    ///
    /// # Errors
    /// When it could not be undone: the host is dirty.
    pub async fn heal(&self, id: &str) -> Result<(), FaultError> {
        let found = self.shared.active().get(id).cloned();
        let Some(lasting) = found else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        // In a task of its own: whoever asked may go away, the heal goes on.
        let healed = tokio::spawn(async move { shared.heal(&lasting).await });
        healed.await.map_err(|error| FaultError::Engine(error.to_string()))?
    }

    /// Undoes every fault that lasts, the latest first.
    ///
    /// # Errors
    /// When one could not be undone; all are tried.
    pub async fn heal_all(&self) -> Result<(), FaultError> {
        // What is being written to the journal for somebody who has gone is found here too. The sender is ours.
        let mut enlisting = self.shared.enlisting.subscribe();
        let _none = enlisting.wait_for(|count| *count == 0).await;
        drop(_none);
        let mut lasting: Vec<Arc<Lasting>> = self.shared.active().values().cloned().collect();
        lasting.sort_by_key(|lasting| std::cmp::Reverse(lasting.seq));
        let mut failed = Vec::new();
        for fault in lasting {
            if let Err(error) = self.heal(&fault.id).await {
                failed.push(error.to_string());
            }
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(FaultError::HealFailed(failed.join("; ")))
        }
    }
}

impl Armed {
    /// Asks once more whom it hits, until `at` or, when that has come, for a moment. What was resolved stays as it is when
    /// the nodes say the same as before, and is resolved anew when they don't.
    async fn aim_again(mut self, spec: &FaultSpec, at: Nanos) -> Result<Self, FaultError> {
        let engine = self.engine.clone();
        let now = engine.shared.clock.now();
        if self.words.fresh_at(now.max(at)) {
            return Ok(self);
        }
        let by = if at > now { at } else { now.plus(ASK_AGAIN) };
        let words = engine.shared.nodes.words_again(&self.words, by).await;
        let aim = engine.resolve(&self.id, spec, &words)?;
        match (&self.ready, &aim) {
            (Ok(lasting), Ok((resolved, needs))) if lasting.resolved == *resolved && lasting.needs == *needs => {
                lasting.aimed.store(words.since.0, Ordering::Relaxed);
                self.words = words;
                Ok(self)
            }
            _ => {
                let id = self.id.clone();
                // It gives up its place in the journal and among those that last, for the one that takes it.
                drop(self);
                engine.arm_by(&id, spec, words).await
            }
        }
    }

    /// Applies it, and returns once it has been seen to bite.
    ///
    /// # Errors
    /// Only when the engine itself failed.
    pub async fn fire(mut self) -> Result<Injection, FaultError> {
        self.fired = true;
        let shared = Arc::clone(&self.engine.shared);
        match &self.ready {
            Err(error) => {
                let tell = |change| shared.tell_of_none(&self.id, self.kind, self.words.since, change);
                tell(FaultChange::Requested);
                let reason = error.to_string();
                tell(FaultChange::Skipped { reason: reason.clone() });
                Ok(Injection {
                    outcome: "skipped",
                    lasts: false,
                    targets: Vec::new(),
                    effective: None,
                    evidence: reason,
                })
            }
            Ok(lasting) => {
                let (lasting, lasts) = (Arc::clone(lasting), self.lasts);
                // In a task of its own: whoever asked may go away, and it must still be known what was done.
                let fired = tokio::spawn(async move { shared.fire(&lasting, lasts).await });
                fired.await.map_err(|error| FaultError::Engine(error.to_string()))
            }
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        if let (false, Ok(lasting)) = (self.fired, &self.ready) {
            self.engine.shared.forget(lasting);
        }
    }
}

/// What came of applying an action.
enum Bite {
    Bites(Evidence),
    /// It bit and is over: a restart, a transfer.
    Over {
        began: Evidence,
        ended: Evidence,
    },
    Unproven(String),
}

impl Shared {
    fn active(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Lasting>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn enlist(
        &self,
        id: String,
        kind: &'static str,
        (resolved, aimed): (Resolved, Nanos),
        needs: Vec<String>,
        expires: Nanos,
    ) -> Result<Arc<Lasting>, FaultError> {
        if self.active().contains_key(&id) {
            return Err(FaultError::Repeated(id));
        }
        let act = Act::Fault {
            id: id.clone(),
            kind: kind.to_owned(),
            targets: resolved.targets.clone(),
            undo: match resolved.action {
                Action::Rules(_)
                | Action::Flap { .. }
                | Action::Load { .. }
                | Action::Doze { .. }
                | Action::Relaunch { .. } => Undo::EndsWithHarness,
                _ => Undo::EndProcesses,
            },
        };
        let journal = self.journal.clone();
        let seq = tokio::task::spawn_blocking(move || journal.begin(act))
            .await
            .map_err(|error| FaultError::Engine(error.to_string()))??;
        let lasting = Arc::new(Lasting {
            id: id.clone(),
            kind,
            resolved,
            needs,
            aimed: AtomicU64::new(aimed.0),
            seq,
            expires,
            cancel: watch::Sender::new(false),
            stage: tokio::sync::Mutex::new(Stage::Armed),
            over: watch::Sender::new(false),
        });
        let mut active = self.active();
        if active.contains_key(&id) {
            drop(active);
            self.forget(&lasting);
            return Err(FaultError::Repeated(id));
        }
        active.insert(id, Arc::clone(&lasting));
        Ok(lasting)
    }

    fn frozen(&self) -> MutexGuard<'_, Frozen> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of a fault that hits nobody.
    fn tell_of_none(&self, id: &str, kind: &str, asked: Nanos, change: FaultChange) {
        self.tell((id, kind), (&[], &[]), asked, change);
    }

    fn tell_of(&self, fault: &Lasting, id: &str, change: FaultChange) {
        let aimed = Nanos(fault.aimed.load(Ordering::Relaxed));
        self.tell((id, fault.kind), (&fault.resolved.targets, &fault.needs), aimed, change);
    }

    fn tell(
        &self,
        (id, kind): (&str, &str),
        (targets, needs): (&[String], &[String]),
        resolved: Nanos,
        change: FaultChange,
    ) {
        self.recorder.record(Event::Fault(FaultEvent {
            at: self.clock.now(),
            id: id.to_owned(),
            kind: kind.to_owned(),
            system: self.nodes.system.name().to_owned(),
            targets: targets.to_vec(),
            needs: needs.to_vec(),
            resolved: Some(resolved),
            change,
        }));
    }

    /// It has ended, or never began.
    fn forget(&self, fault: &Lasting) {
        {
            let mut active = self.active();
            if active.get(&fault.id).is_some_and(|active| active.seq == fault.seq) {
                active.remove(&fault.id);
            }
        }
        // A line lost here is undone once more by a sweep, which does no harm.
        let _ = self.journal.done(fault.seq);
        fault.over.send_replace(true);
    }

    async fn fire(self: &Arc<Self>, fault: &Arc<Lasting>, lasts: bool) -> Injection {
        let mut stage = fault.stage.lock().await;
        let injection = |outcome, lasts, effective, evidence| Injection {
            outcome,
            lasts,
            targets: fault.resolved.targets.clone(),
            effective,
            evidence,
        };
        if *stage != Stage::Armed {
            let reason = "it was healed before it was applied".to_owned();
            return injection("skipped", false, None, reason);
        }
        if let Action::Flap { rules, on, off, times } = &fault.resolved.action {
            *stage = Stage::Applied;
            let flap = Flapping {
                rules,
                on: *on,
                off: *off,
                times: *times,
            };
            let bursts = self.flap(fault, flap).await;
            if bursts.failed {
                // It stays among those that last, so that it is tried once more.
                return injection("indeterminate", true, bursts.effective, bursts.text);
            }
            *stage = Stage::Undone;
            self.forget(fault);
            let outcome = if bursts.unproven { "indeterminate" } else { "installed" };
            return injection(outcome, false, bursts.effective, bursts.text);
        }
        self.tell_of(fault, &fault.id, FaultChange::Requested);
        *stage = Stage::Applied;
        let bite = self.apply(fault).await;
        drop(stage);
        self.tell_left_out(fault);
        let done = match bite {
            Bite::Bites(seen) => {
                self.tell_installed(fault, &fault.id, &seen);
                injection("installed", lasts, Some(seen.at), seen.text)
            }
            Bite::Over { began, ended } => {
                self.tell_installed(fault, &fault.id, &began);
                self.tell_healed(fault, &fault.id, ended);
                self.forget(fault);
                return injection("installed", false, Some(began.at), began.text);
            }
            Bite::Unproven(reason) => {
                self.tell_of(fault, &fault.id, FaultChange::Indeterminate { reason: reason.clone() });
                injection("indeterminate", lasts, None, reason)
            }
        };
        if lasts {
            self.lease(fault);
        } else {
            self.forget(fault);
        }
        done
    }

    /// A fault that hits some of those it names is not the fault that was planned: the run says so, and is no pass.
    fn tell_left_out(&self, fault: &Lasting) {
        let left_out = &fault.resolved.left_out;
        if left_out.is_empty() {
            return;
        }
        self.recorder.record(Event::Harness(HarnessEvent {
            at: self.clock.now(),
            kind: HarnessKind::NotTriggered,
            text: format!(
                "fault {} hit {} and not {}, which did not run",
                fault.id,
                fault.resolved.targets.join(", "),
                left_out.join(", ")
            ),
        }));
    }

    fn tell_installed(&self, fault: &Lasting, id: &str, seen: &Evidence) {
        let change = FaultChange::Installed {
            effective: seen.at,
            evidence: seen.text.clone(),
        };
        self.tell_of(fault, id, change);
    }

    /// Undoes it when its lease runs out, whatever has become of who asked for it.
    fn lease(self: &Arc<Self>, fault: &Arc<Lasting>) {
        let (shared, fault) = (Arc::clone(self), Arc::clone(fault));
        tokio::spawn(async move {
            let mut over = fault.over.subscribe();
            tokio::select! {
                biased;
                _ = over.wait_for(|over| *over) => return,
                () = shared.clock.sleep_until(fault.expires) => {}
            }
            // What becomes of it is in the history; nothing when it was undone before.
            let _ = shared.heal(&fault).await;
        });
    }

    async fn apply(&self, fault: &Lasting) -> Bite {
        let unproven = |error: crate::backend::BackendError| Bite::Unproven(error.to_string());
        match &fault.resolved.action {
            Action::Kill(nodes) => self
                .nodes
                .signal(nodes, NodeSignal::Kill)
                .await
                .map_or_else(unproven, Bite::Bites),
            Action::PowerLoss(nodes) => self
                .nodes
                .signal(nodes, NodeSignal::PowerLoss)
                .await
                .map_or_else(unproven, Bite::Bites),
            Action::Stop(nodes) => self
                .nodes
                .signal(nodes, NodeSignal::Term)
                .await
                .map_or_else(unproven, Bite::Bites),
            Action::Freeze(nodes) => {
                self.frozen().hold(&fault.id, nodes);
                self.nodes
                    .signal(nodes, NodeSignal::Stop)
                    .await
                    .map_or_else(unproven, Bite::Bites)
            }
            Action::Restart(nodes) => match self.nodes.signal(nodes, NodeSignal::Term).await {
                Err(error) => unproven(error),
                Ok(began) => match self.nodes.start(nodes).await {
                    Ok(ended) => Bite::Over { began, ended },
                    Err(error) => Bite::Unproven(format!("{}; then: {}", began.text, String::from(error))),
                },
            },
            Action::Rules(rules) => match self.impose(&fault.id, rules, fault.expires).await {
                Ok(seen) => Bite::Bites(seen),
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Transfer { group, to } => match self.nodes.transfer(group, to).await {
                Ok(began) => Bite::Over {
                    ended: self.nodes.nothing_to_undo(began.at),
                    began,
                },
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Load { factor } => match self.lever() {
                Ok(lever) => {
                    told(lever.hold(&fault.id, *factor, self.clock).await).map_or_else(Bite::Unproven, Bite::Bites)
                }
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Errand(errand) if errand.ends_by_itself() => match self.nodes.errand_to_its_end(errand).await {
                Ok((began, ended)) => Bite::Over { began, ended },
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Errand(errand) => match self.nodes.errand(errand, true).await {
                Ok(seen) => Bite::Bites(seen),
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Doze { share } => match self.lever() {
                Ok(lever) => told(lever.doze().hold(&fault.id, *share, self.clock).await)
                    .map_or_else(Bite::Unproven, Bite::Bites),
                Err(reason) => Bite::Unproven(reason),
            },
            Action::Relaunch { share } => match self.lever() {
                Ok(lever) => match told(lever.relaunch(*share, self.clock).await) {
                    Ok(began) => Bite::Over {
                        ended: self.nodes.nothing_to_undo(began.at),
                        began,
                    },
                    Err(reason) => Bite::Unproven(reason),
                },
                Err(reason) => Bite::Unproven(reason),
            },
            // Fired on its own path.
            Action::Flap { .. } => Bite::Unproven("a flap is applied burst by burst".to_owned()),
        }
    }

    async fn impose(&self, id: &str, rules: &Rules, expires: Nanos) -> Result<Evidence, String> {
        let since = self.network.impose(id, rules, expires).await?;
        self.network.proof(rules, since).await
    }

    async fn undo(&self, fault: &Lasting) -> Result<Evidence, Unhealed> {
        match &fault.resolved.action {
            Action::Kill(nodes) | Action::PowerLoss(nodes) | Action::Stop(nodes) | Action::Restart(nodes) => {
                self.nodes.start(nodes).await
            }
            Action::Freeze(nodes) => {
                let (free, held) = self.frozen().release(&fault.id, nodes);
                let mut seen = self.nodes.resume(&free).await.map_err(Unhealed::Dirty)?;
                if !held.is_empty() {
                    seen.text = format!("{}; {} still frozen by another fault", seen.text, held.join(", "));
                }
                Ok(seen)
            }
            Action::Rules(rules) | Action::Flap { rules, .. } => {
                self.network.lift(&fault.id, rules).await.map_err(Unhealed::Dirty)
            }
            // A load that has ended by now needs no other pace, and nobody is left to prove it.
            Action::Load { .. } => {
                let lever = self.lever().map_err(Unhealed::Dirty)?;
                let seen = told(lever.release(&fault.id, self.clock).await);
                Ok(seen.unwrap_or_else(|_| self.nodes.nothing_to_undo(self.clock.now())))
            }
            Action::Errand(errand) if errand.ends_by_itself() => Ok(self.nodes.nothing_to_undo(self.clock.now())),
            Action::Errand(errand) => self.nodes.errand(errand, false).await.map_err(Unhealed::Dirty),
            Action::Doze { .. } => {
                let lever = self.lever().map_err(Unhealed::Dirty)?;
                let (at, text) = lever.doze().release(&fault.id, self.clock).await;
                Ok(Evidence { at, text })
            }
            Action::Transfer { .. } | Action::Relaunch { .. } => Ok(self.nodes.nothing_to_undo(self.clock.now())),
        }
    }

    fn lever(&self) -> Result<&Arc<Lever>, String> {
        let none = || "there are no clients that it could be done to".to_owned();
        self.lever.get().ok_or_else(none)
    }

    async fn heal(&self, fault: &Lasting) -> Result<(), FaultError> {
        fault.cancel.send_replace(true);
        let is_flap = matches!(fault.resolved.action, Action::Flap { .. });
        let mut stage = fault.stage.lock().await;
        match *stage {
            Stage::Undone => return Ok(()),
            Stage::Armed => {
                *stage = Stage::Undone;
                self.forget(fault);
                return Ok(());
            }
            Stage::Applied => {}
        }
        if !is_flap {
            self.tell_of(fault, &fault.id, FaultChange::HealRequested);
        }
        // A flap has lifted its own burst by now, unless it failed to.
        let healed = self.undo(fault).await;
        match healed {
            Ok(seen) => {
                *stage = Stage::Undone;
                if !is_flap {
                    self.tell_healed(fault, &fault.id, seen);
                }
                self.forget(fault);
                Ok(())
            }
            // There is nothing left to undo: what the harness took away it gave back, and the system made nothing of it.
            // The fault is never told healed, which leaves the run without a green verdict.
            Err(Unhealed::NotBack(reason)) => {
                *stage = Stage::Undone;
                self.forget(fault);
                Err(FaultError::NotBack(format!("after fault `{}`: {reason}", fault.id)))
            }
            Err(Unhealed::Dirty(reason)) => {
                self.tell_of(fault, &fault.id, FaultChange::HealFailed { reason: reason.clone() });
                Err(FaultError::HealFailed(format!(
                    "fault `{}` could not be undone: {reason}",
                    fault.id
                )))
            }
        }
    }
}

fn told(seen: Result<(Nanos, String), String>) -> Result<Evidence, String> {
    seen.map(|(at, text)| Evidence { at, text })
}

/// A flap under way.
struct Flapping<'a> {
    rules: &'a Rules,
    on: Duration,
    off: Duration,
    times: u32,
}

/// What came of a flap's bursts.
#[derive(Default)]
struct Bursts {
    effective: Option<Nanos>,
    text: String,
    unproven: bool,
    failed: bool,
}

impl Shared {
    /// Plays the bursts at instants that are fixed when the first begins. A cancelled flap lifts its burst and ends.
    async fn flap(&self, fault: &Lasting, flap: Flapping<'_>) -> Bursts {
        let mut cancel = fault.cancel.subscribe();
        let began = self.clock.now();
        let mut bursts = Bursts::default();
        let mut played = 0;
        for burst in 0..flap.times {
            let from = began.plus((flap.on + flap.off) * burst);
            if self.cancelled(&mut cancel, from).await {
                break;
            }
            played += 1;
            let id = format!("{}.{played}", fault.id);
            self.tell_of(fault, &id, FaultChange::Requested);
            let until = from.plus(flap.on);
            // Should this very task be gone by then, the links lift the burst themselves.
            match self.impose(&fault.id, flap.rules, until.plus(BURST_MARGIN)).await {
                Ok(seen) => {
                    bursts.effective = bursts.effective.or(Some(seen.at));
                    self.tell_installed(fault, &id, &seen);
                }
                Err(reason) => {
                    bursts.unproven = true;
                    self.tell_of(fault, &id, FaultChange::Indeterminate { reason });
                }
            }
            let cancelled = self.cancelled(&mut cancel, until).await;
            self.tell_of(fault, &id, FaultChange::HealRequested);
            match self.network.lift(&fault.id, flap.rules).await {
                Ok(seen) => self.tell_healed(fault, &id, seen),
                Err(reason) => {
                    bursts.failed = true;
                    self.tell_of(fault, &id, FaultChange::HealFailed { reason });
                }
            }
            if cancelled {
                break;
            }
        }
        bursts.text = format!(
            "{played} of {} bursts on {} halves of links",
            flap.times,
            flap.rules.len()
        );
        bursts
    }

    /// Waits until `at`; true when the flap is cancelled first.
    async fn cancelled(&self, cancel: &mut watch::Receiver<bool>, at: Nanos) -> bool {
        tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => true,
            () = self.clock.sleep_until(at) => false,
        }
    }

    fn tell_healed(&self, fault: &Lasting, id: &str, seen: Evidence) {
        let change = FaultChange::Healed {
            healed: seen.at,
            evidence: seen.text,
        };
        self.tell_of(fault, id, change);
    }
}
