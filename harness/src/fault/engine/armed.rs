//! A fault between the moment it is resolved and the moment it strikes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::lasting::Lasting;
use super::{Engine, FaultError, Injection};
use crate::base::Nanos;
use crate::fault::aim::{ASK_AGAIN, Words};
use crate::fault::spec::SpecError;
use crate::fault::verbs::FaultSpec;
use crate::history::FaultChange;

/// A fault that is resolved and journalled, and has not been applied.
#[must_use = "an armed fault does nothing until it is fired"]
pub struct Armed {
    pub(super) engine: Engine,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) lasts: bool,
    pub(super) ready: Result<Arc<Lasting>, SpecError>,
    /// What the nodes said when it was resolved.
    pub(super) words: Words,
    pub(super) fired: bool,
}

impl Armed {
    /// Asks once more whom it hits, until `at` or, when that has come, for a moment. What was resolved stays as it is when
    /// the nodes say the same as before, and is resolved anew when they don't.
    pub(super) async fn aim_again(mut self, spec: &FaultSpec, at: Nanos) -> Result<Self, FaultError> {
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
