//! An operation from its beginning to its end: a controller that sees to it, and the interrupt that may hit either.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::course::{Course, Work};
use super::interrupt::{Interrupt, interrupt_id};
use super::notes::{Note, Notes};
use super::roller::{Roller, Rolling};
use super::seen::Seen;
use super::watcher::Watcher;
use crate::backend::journal::Journal;
use crate::base::{Nanos, RunClock};
use crate::fault::engine::Engine;
use crate::fault::evidence::Evidence;
use crate::fault::nodes::Nodes;
use crate::history::{
    Amounts, Event, FaultChange, FaultEvent, HarnessEvent, HarnessKind, MigrationChange, MigrationEnd, MigrationEvent,
    Recorder,
};
use crate::workload::Pulse;

/// What an operation needs around it.
pub(in crate::fault) struct Site {
    /// The engine that it is part of, for faults in the middle of it.
    pub(in crate::fault) engine: Engine,
    pub(in crate::fault) nodes: Nodes,
    pub(in crate::fault) recorder: Recorder,
    pub(in crate::fault) journal: Journal,
    pub(in crate::fault) clock: RunClock,
    /// How the system's load goes, where it has one.
    pub(in crate::fault) pulse: Option<Pulse>,
}

/// One operation.
pub(in crate::fault) struct Journey<'a> {
    pub(in crate::fault) site: &'a Site,
    pub(in crate::fault) id: &'a str,
    pub(in crate::fault) kind: &'static str,
    pub(in crate::fault) course: &'a Course,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(in crate::fault) struct Outcome {
    pub(super) how: MigrationEnd,
    /// When that was known, and when it was not so yet.
    pub(super) at: Nanos,
    pub(super) since: Nanos,
    pub(super) operation: Option<u64>,
    pub(super) done: Amounts,
    pub(super) text: String,
}

impl Outcome {
    /// That it has ended, where it was seen to.
    pub(in crate::fault) fn evidence(&self) -> Result<Evidence, String> {
        match self.how {
            MigrationEnd::Unknown => Err(self.text.clone()),
            how => Ok(Evidence {
                at: self.at,
                text: format!("{}: {}", how.as_str(), self.text),
            }),
        }
    }
}

/// Writes the history of one operation.
#[derive(Clone)]
pub(super) struct Chronicle {
    recorder: Recorder,
    id: String,
    kind: &'static str,
    system: String,
}

impl Chronicle {
    /// Tells that something is so at `at`, and was not yet at `since`.
    pub(super) fn tell(&self, (at, since): (Nanos, Nanos), operation: Option<u64>, change: MigrationChange) {
        self.recorder.record(Event::Migration(MigrationEvent {
            at,
            since,
            id: self.id.clone(),
            kind: self.kind.to_owned(),
            system: self.system.clone(),
            operation,
            change,
        }));
    }
}

type Controller = JoinHandle<Result<Outcome, String>>;

impl Journey<'_> {
    /// Goes all the way. `began` is told once, as soon as the operation has begun.
    ///
    /// # Errors
    /// In words, when it never began.
    pub(in crate::fault) async fn go(
        &self,
        mut cancel: watch::Receiver<bool>,
        began: &(dyn Fn(&Evidence) + Send + Sync),
    ) -> Result<Outcome, String> {
        let clock = self.site.clock;
        let deadline = clock.now().plus(self.course.within);
        let notes = Arc::new(Notes::new(self.site.journal.clone(), self.id.to_owned()));
        let first = self.course.work.first_note();
        notes.write(&first).await?;
        let seen = watch::Sender::new(Seen::default());
        let mut looks = seen.subscribe();
        let mut controller = self.controller(first, &notes, &seen, deadline);
        let mut interrupt = self.course.interrupt.as_ref();
        let mut told = false;
        let mut striking: Option<JoinHandle<()>> = None;
        let ended = loop {
            let ended = tokio::select! {
                biased;
                // In a block of its own, so that nothing of the channel is held across what follows.
                () = async { let _sender_is_ours = cancel.wait_for(|cancelled| *cancelled).await.is_ok(); } => {
                    controller.abort();
                    self.leave_nobody_down(&notes).await;
                    break Ok(self.given_up(&looks.borrow()));
                }
                ended = &mut controller => Some(ended),
                _ = looks.changed() => None,
            };
            let now = looks.borrow_and_update().clone();
            if let (false, Some(evidence)) = (told, &now.began) {
                told = true;
                began(evidence);
            }
            if let Some(ended) = ended {
                break ended.unwrap_or_else(|error| Err(format!("the operation's controller failed: {error}")));
            }
            let Some(due) = interrupt.filter(|it| it.is_due(&now, self.course.work.order())) else {
                continue;
            };
            interrupt = None;
            match due.fault(&now) {
                Ok(Some(fault)) => striking = Some(self.strike(due, fault)),
                Ok(None) => match self.replace(controller, &notes, &seen, deadline).await {
                    Ok(next) => controller = next,
                    Err(error) => break Err(format!("nobody could take over: {error}")),
                },
                Err(reason) => self.skipped(&reason),
            }
        };
        if let (Some(missed), Ok(_)) = (interrupt, &ended) {
            self.doubt(format!(
                "the interrupt of {} never came: it ended before it was at {}",
                self.id, missed.at
            ));
        }
        if let Some(striking) = striking {
            // What it takes away it gives back, within its own time; a run that ends heals it before that.
            let _ = striking.await;
        }
        notes.close();
        let ended = ended?;
        let change = MigrationChange::Ended {
            how: ended.how,
            done: ended.done,
            reason: ended.text.clone(),
        };
        self.chronicle().tell((ended.at, ended.since), ended.operation, change);
        if ended.how != MigrationEnd::Unknown && !self.course.ends.allows(ended.how) {
            self.doubt(format!(
                "{} was to end {} and ended {}: {}",
                self.id,
                self.course.ends.as_str(),
                ended.how.as_str(),
                ended.text
            ));
        }
        Ok(ended)
    }

    fn chronicle(&self) -> Chronicle {
        Chronicle {
            recorder: self.site.recorder.clone(),
            id: self.id.to_owned(),
            kind: self.kind,
            system: self.site.nodes.system.name().to_owned(),
        }
    }

    /// A controller that knows what the note says.
    fn controller(&self, note: Note, notes: &Arc<Notes>, seen: &watch::Sender<Seen>, deadline: Nanos) -> Controller {
        match note {
            Note::Asked { what, operation } => {
                let watcher = Watcher {
                    system: Arc::clone(&self.site.nodes.system),
                    clock: self.site.clock,
                    notes: Arc::clone(notes),
                    chronicle: self.chronicle(),
                    seen: seen.clone(),
                    deadline,
                };
                tokio::spawn(watcher.run(what, operation))
            }
            Note::Rolling(state) => {
                let roller = Roller {
                    nodes: self.site.nodes.clone(),
                    pulse: self.site.pulse.clone(),
                    clock: self.site.clock,
                    notes: Arc::clone(notes),
                    chronicle: self.chronicle(),
                    seen: seen.clone(),
                    deadline,
                    state: *state,
                };
                tokio::spawn(roller.run())
            }
        }
    }

    /// Kills the controller wherever it stands, and has another take over from the journal.
    async fn replace(
        &self,
        controller: Controller,
        notes: &Arc<Notes>,
        seen: &watch::Sender<Seen>,
        deadline: Nanos,
    ) -> Result<Controller, String> {
        let tell = |change| self.tell_of_controller(change);
        tell(FaultChange::Requested);
        controller.abort();
        if let Ok(ended) = controller.await {
            // It was done in that very moment: then there is nothing to take over, and nothing was killed.
            tell(FaultChange::Skipped {
                reason: "the controller had ended by itself".to_owned(),
            });
            return Ok(tokio::spawn(async move { ended }));
        }
        let killed = self.site.clock.now();
        tell(FaultChange::Installed {
            effective: killed,
            evidence: "its task was dropped before it had ended".to_owned(),
        });
        let note = notes.read().await?;
        let found = serde_json::to_string(&note).unwrap_or_default();
        let at = self.site.clock.now();
        let change = MigrationChange::TakenOver { found: found.clone() };
        self.chronicle().tell((at, killed), None, change);
        let next = self.controller(note, notes, seen, deadline);
        tell(FaultChange::HealRequested);
        tell(FaultChange::Healed {
            healed: at,
            evidence: format!("another took over, which found in the journal {found}"),
        });
        Ok(next)
    }

    fn tell_of_controller(&self, change: FaultChange) {
        self.tell_of_interrupt("kill", "controller", change);
    }

    fn skipped(&self, reason: &str) {
        self.tell_of_interrupt("kill", "nobody", FaultChange::Requested);
        let reason = reason.to_owned();
        self.tell_of_interrupt("kill", "nobody", FaultChange::Skipped { reason });
    }

    /// Tells of an interrupt that is no fault of the engine's.
    fn tell_of_interrupt(&self, kind: &str, target: &str, change: FaultChange) {
        self.site.recorder.record(Event::Fault(FaultEvent {
            at: self.site.clock.now(),
            id: interrupt_id(self.id),
            kind: kind.to_owned(),
            system: self.site.nodes.system.name().to_owned(),
            targets: vec![target.to_owned()],
            needs: Vec::new(),
            resolved: None,
            change,
        }));
    }

    /// Applies the interrupt as a fault of its own, and heals it when its time is over.
    fn strike(&self, interrupt: &Interrupt, fault: crate::fault::FaultSpec) -> JoinHandle<()> {
        let (engine, clock, lasts) = (self.site.engine.clone(), self.site.clock, interrupt.lasts());
        let (id, recorder) = (interrupt_id(self.id), self.site.recorder.clone());
        tokio::spawn(async move {
            let struck = engine.inject(&id, &fault).await;
            let healed = match struck {
                Ok(injection) if injection.lasts => {
                    clock.sleep(lasts).await;
                    engine.heal(&id).await
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = healed {
                // What became of the fault is in the history; this says so of what could not even be tried.
                recorder.record(Event::Harness(HarnessEvent {
                    at: clock.now(),
                    kind: HarnessKind::NotTriggered,
                    text: format!("interrupt {id}: {error}"),
                }));
            }
        })
    }

    /// A roll-out that is given up starts whomever it has ended.
    async fn leave_nobody_down(&self, notes: &Notes) {
        let Ok(Note::Rolling(state)) = notes.read().await else {
            return;
        };
        let Some(node) = state.turn.map(|turn| turn.node) else {
            return;
        };
        if let Err(why) = self.site.nodes.start(&[node]).await {
            self.doubt(format!("{} was given up, and {}", self.id, String::from(why)));
        }
    }

    fn given_up(&self, seen: &Seen) -> Outcome {
        let at = self.site.clock.now();
        let phase = seen.entered.last().map_or("no phase", String::as_str);
        Outcome {
            how: MigrationEnd::Unknown,
            at,
            since: at,
            operation: None,
            done: seen.done,
            text: format!("it was given up, in {phase}"),
        }
    }

    fn doubt(&self, text: String) {
        self.site.recorder.record(Event::Harness(HarnessEvent {
            at: self.site.clock.now(),
            kind: HarnessKind::NotTriggered,
            text,
        }));
    }
}

impl Work {
    fn first_note(&self) -> Note {
        match self {
            Self::Asked(what) => Note::Asked {
                what: what.clone(),
                operation: None,
            },
            Self::Rolled(rollout) => Note::Rolling(Box::new(Rolling::new(rollout.clone()))),
        }
    }

    /// The phases in the order in which they come; none where they come again and again.
    fn order(&self) -> Option<&'static [&'static str]> {
        match self {
            Self::Asked(what) => Some(what.phases()),
            Self::Rolled(_) => None,
        }
    }
}
