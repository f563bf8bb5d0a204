//! What an action does to nodes, links and clients, and what takes it back.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::Shared;
use super::lasting::Lasting;
use crate::backend::NodeSignal;
use crate::base::Nanos;
use crate::fault::evidence::Evidence;
use crate::fault::frozen::Frozen;
use crate::fault::nodes::Unhealed;
use crate::fault::scene::{Action, Rules};
use crate::workload::Lever;

/// What came of applying an action.
pub(super) enum Bite {
    Bites(Evidence),
    /// It bit and is over: a restart, a transfer.
    Over {
        began: Evidence,
        ended: Evidence,
    },
    Unproven(String),
}

impl Shared {
    pub(super) async fn apply(&self, fault: &Lasting) -> Bite {
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

    pub(super) async fn impose(&self, id: &str, rules: &Rules, expires: Nanos) -> Result<Evidence, String> {
        let since = self.network.impose(id, rules, expires).await?;
        self.network.proof(rules, since).await
    }

    pub(super) async fn undo(&self, fault: &Lasting) -> Result<Evidence, Unhealed> {
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

    fn frozen(&self) -> MutexGuard<'_, Frozen> {
        self.frozen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lever(&self) -> Result<&Arc<Lever>, String> {
        let none = || "there are no clients that it could be done to".to_owned();
        self.lever.get().ok_or_else(none)
    }
}

fn told(seen: Result<(Nanos, String), String>) -> Result<Evidence, String> {
    seen.map(|(at, text)| Evidence { at, text })
}
