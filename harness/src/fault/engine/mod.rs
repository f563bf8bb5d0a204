//! Applies faults to one system, proves that they bite, and undoes them.

mod acts;
mod armed;
mod bursts;
mod lasting;
mod life;
mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::watch;

pub use armed::Armed;
use lasting::Lasting;

use super::aim::{ASK_AGAIN, Words};
use super::counted::Counted;
use super::frozen::Frozen;
use super::network::Network;
use super::nodes::Nodes;
use super::scene::{Action, Resolved, Rules, Scene};
use super::spec::SpecError;
use super::verbs::FaultSpec;
use crate::backend::Backend;
use crate::backend::journal::{Journal, JournalError};
use crate::base::{Nanos, RunClock, Streams};
use crate::history::Recorder;
use crate::system::System;
use crate::target::Roster;
use crate::workload::Lever;

/// How long a fault lasts at most, unless said otherwise.
pub const LEASE: Duration = Duration::from_secs(3600);

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

/// Whom a fault hits, and what that takes away.
type Aim = (Resolved, Vec<String>);
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
