//! The controller of what the system does by itself: asks for it, and writes down how far it is until it has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::journey::{Chronicle, Outcome};
use super::notes::{Note, Notes};
use super::seen::Seen;
use crate::base::{Nanos, RunClock};
use crate::fault::evidence::Evidence;
use crate::history::{MigrationChange, MigrationEnd};
use crate::system::{Relocation, Standing, System};

/// Between two looks: with the time of an answer the error bound of a phase's beginning.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often what is done is written down where nothing else has changed.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// One controller. It knows what the note says, and nothing else of what was before it.
pub(super) struct Watcher {
    pub(super) system: Arc<dyn System>,
    pub(super) clock: RunClock,
    pub(super) notes: Arc<Notes>,
    pub(super) chronicle: Chronicle,
    pub(super) seen: watch::Sender<Seen>,
    /// When it is given up.
    pub(super) deadline: Nanos,
}

impl Watcher {
    /// Asks for it where the note has no number, and watches it to its end.
    ///
    /// # Errors
    /// In words, when nobody took it.
    pub(super) async fn run(self, what: Relocation, operation: Option<u64>) -> Result<Outcome, String> {
        let asked_at = self.clock.now();
        let operation = match operation {
            Some(operation) => operation,
            None => self.ask(&what).await?,
        };
        let mut last: Option<Standing> = None;
        let (mut not_yet, mut told) = (asked_at, Nanos(0));
        loop {
            let asked = self.clock.now();
            let standing = self.system.standing(operation).await;
            let at = self.clock.now();
            if let Some(standing) = standing {
                self.note(&standing);
                let tell = |change| self.chronicle.tell((at, not_yet), Some(operation), change);
                if let Some((how, reason)) = standing.ended.clone() {
                    return Ok(Outcome {
                        how,
                        at,
                        since: not_yet,
                        operation: Some(operation),
                        done: standing.done,
                        text: reason,
                    });
                }
                if last.as_ref().is_none_or(|last| last.phase != standing.phase) {
                    tell(MigrationChange::Entered {
                        phase: standing.phase.clone(),
                        done: standing.done,
                    });
                    told = at;
                } else if at.since(told) >= TELL_EVERY && last.as_ref().is_none_or(|last| last.done != standing.done) {
                    tell(MigrationChange::Advanced { done: standing.done });
                    told = at;
                }
                (last, not_yet) = (Some(standing), asked);
            }
            if at >= self.deadline {
                let stands = last.as_ref().map_or_else(
                    || "no node knows of it".to_owned(),
                    |it| format!("it is in phase {}", it.phase),
                );
                return Ok(Outcome {
                    how: MigrationEnd::Unknown,
                    at,
                    since: not_yet,
                    operation: Some(operation),
                    done: last.map(|it| it.done).unwrap_or_default(),
                    text: format!("operation {operation} was not seen to end in time: {stands}"),
                });
            }
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    async fn ask(&self, what: &Relocation) -> Result<u64, String> {
        let taken = self.system.relocate(what).await?;
        let began = Evidence {
            at: self.clock.now(),
            text: taken.text,
        };
        let note = Note::Asked {
            what: what.clone(),
            operation: Some(taken.operation),
        };
        self.notes.write(&note).await?;
        self.seen.send_modify(|seen| seen.began = Some(began));
        Ok(taken.operation)
    }

    /// Tells whoever interrupts, when something has changed.
    fn note(&self, standing: &Standing) {
        self.seen.send_if_modified(|seen| {
            let new = seen.entered.last() != Some(&standing.phase);
            let changed = new || seen.done != standing.done || seen.coordinator != standing.coordinator;
            if new {
                seen.entered.push(standing.phase.clone());
            }
            seen.done = standing.done;
            seen.source.clone_from(&standing.source);
            seen.target.clone_from(&standing.target);
            seen.coordinator = standing.coordinator.clone().or(seen.coordinator.take());
            changed
        });
    }
}
