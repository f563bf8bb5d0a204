//! A fault from the moment it is written down to its end: applied once, undone once.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::acts::Bite;
use super::bursts::Flapping;
use super::lasting::{Lasting, Stage};
use super::{FaultError, Injection, Shared};
use crate::backend::journal::{Act, Undo};
use crate::base::Nanos;
use crate::fault::nodes::Unhealed;
use crate::fault::scene::{Action, Resolved};
use crate::history::FaultChange;

impl Shared {
    pub(super) fn active(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Lasting>>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn enlist(
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

    pub(super) async fn fire(self: &Arc<Self>, fault: &Arc<Lasting>, lasts: bool) -> Injection {
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

    pub(super) async fn heal(&self, fault: &Lasting) -> Result<(), FaultError> {
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

    /// It has ended, or never began.
    pub(super) fn forget(&self, fault: &Lasting) {
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
}
