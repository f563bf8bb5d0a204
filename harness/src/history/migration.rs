//! What a history holds of operations that an operator began: a replica that moves, a roll-out. See docs/history-format.md.
//!
//! Whoever watches an operation asks again and again how far it is. So each record says between which two instants it came to
//! be so: the question before, whose answer did not say it yet, and the answer that did.

use serde::{Deserialize, Serialize};

use crate::base::Nanos;

/// An operation moved on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationEvent {
    /// When this was known.
    pub at: Nanos,
    /// When it was not so yet: what this says came to be so between the two. Their distance is the error bound.
    pub since: Nanos,
    /// The fault that asked for it, such as `1-move_replica`.
    pub id: String,
    /// Its verb.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The number that the system gave it, where it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// What it says.
    pub change: MigrationChange,
}

/// How an operation moved on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum MigrationChange {
    /// It entered a phase, in the words of whoever does it: `catch_up`, `step:2`, `gate:2`.
    Entered {
        /// The phase.
        phase: String,
        /// How far it was then.
        done: Amounts,
    },
    /// It is further in the same phase.
    Advanced {
        /// How far.
        done: Amounts,
    },
    /// Whoever watched it was killed, and another went on from what stands in the journal.
    TakenOver {
        /// What the new one found there.
        found: String,
    },
    /// It has ended.
    Ended {
        /// As what.
        how: MigrationEnd,
        /// How far it was then.
        done: Amounts,
        /// Why, or what was seen.
        reason: String,
    },
}

/// How far an operation is. All of it together, not of one phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// What it is made of and what is done: entries that the new replica has, replicas that have moved, nodes that were
    /// restarted.
    pub items: u64,
    /// How many there are to do; 0 when that is not known.
    pub items_total: u64,
    /// Bytes that were sent for it.
    pub bytes: u64,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MigrationEnd {
    /// All of it was done.
    Completed,
    /// It was given up and taken back: all is as before.
    Aborted,
    /// It stopped where it was, since going on would have done harm.
    Stopped,
    /// It was not seen to end while it was watched.
    Unknown,
}

impl MigrationEnd {
    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Aborted => "aborted",
            Self::Stopped => "stopped",
            Self::Unknown => "unknown",
        }
    }
}

/// One operation from its beginning to its end, put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Migration {
    /// The fault that asked for it.
    pub id: String,
    /// Its verb.
    pub kind: String,
    /// The system.
    pub system: String,
    /// The number that the system gave it.
    pub operation: Option<u64>,
    /// Its phases, in order.
    pub phases: Vec<MigrationPhase>,
    /// How it ended, when, and why; none when the history ends before it did.
    pub ended: Option<(MigrationEnd, Nanos, String)>,
    /// How often another went on for whoever watched it.
    pub taken_over: u32,
}

/// One stretch of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationPhase {
    /// Its name.
    pub name: String,
    /// When it was first seen.
    pub from: Nanos,
    /// When the next one, or the end, was first seen; none when neither was.
    pub to: Option<Nanos>,
    /// How much earlier than `from`, and than `to`, it may have been, in one.
    pub bound_ns: u64,
    /// What was done within it.
    pub done: Amounts,
}

impl MigrationPhase {
    /// How long it lasted, to the next phase or to `ended`.
    #[must_use]
    pub fn lasted(&self, ended: Nanos) -> std::time::Duration {
        self.to.unwrap_or(ended).since(self.from)
    }
}

impl Migration {
    /// When it was first seen to go on.
    #[must_use]
    pub fn began(&self) -> Option<Nanos> {
        self.phases.first().map(|phase| phase.from)
    }

    /// Until when it was seen to go on: its end, or else the last phase's beginning.
    #[must_use]
    pub fn until(&self) -> Option<Nanos> {
        let last = self.phases.last().map(|phase| phase.from);
        self.ended.as_ref().map(|(_, at, _)| *at).or(last)
    }

    /// What was done in all.
    #[must_use]
    pub fn done(&self) -> Amounts {
        self.phases.iter().fold(Amounts::default(), |sum, phase| Amounts {
            items: sum.items + phase.done.items,
            items_total: sum.items_total.max(phase.done.items_total),
            bytes: sum.bytes + phase.done.bytes,
        })
    }
}

/// Puts the operations of a history together, in the order of their beginning. Events in the order of time.
#[must_use]
pub fn migrations(events: &[MigrationEvent]) -> Vec<Migration> {
    let mut found: Vec<Building> = Vec::new();
    for event in events {
        let place = found
            .iter()
            .position(|it| it.it.id == event.id && it.it.system == event.system);
        let place = place.unwrap_or_else(|| {
            found.push(Building::new(event));
            found.len() - 1
        });
        found[place].take(event);
    }
    found.into_iter().map(|building| building.it).collect()
}

struct Building {
    it: Migration,
    /// How far it was when the phase began, and how far it was last.
    at_phase: Amounts,
    last: Amounts,
    /// When anything was last told of it.
    told: Nanos,
    /// Whether whoever watches it has seen nothing of it yet.
    blind: bool,
}

impl Building {
    fn new(event: &MigrationEvent) -> Self {
        Self {
            it: Migration {
                id: event.id.clone(),
                kind: event.kind.clone(),
                system: event.system.clone(),
                operation: event.operation,
                phases: Vec::new(),
                ended: None,
                taken_over: 0,
            },
            at_phase: Amounts::default(),
            last: Amounts::default(),
            told: event.since,
            blind: false,
        }
    }

    fn take(&mut self, event: &MigrationEvent) {
        self.it.operation = self.it.operation.or(event.operation);
        // What whoever took over sees first may be so since the last word of the one before.
        let since = if self.blind { self.told } else { event.since };
        let bound = event.at.0.saturating_sub(since.0);
        match &event.change {
            // Whoever took over finds it in a phase that it was in before.
            MigrationChange::Entered { phase, done } if self.is_in(phase) => self.note(*done),
            MigrationChange::Entered { phase, done } => {
                self.close(event.at, bound, *done);
                self.it.phases.push(MigrationPhase {
                    name: phase.clone(),
                    from: event.at,
                    to: None,
                    bound_ns: bound,
                    done: Amounts::default(),
                });
            }
            MigrationChange::Advanced { done } => self.note(*done),
            MigrationChange::TakenOver { .. } => self.it.taken_over += 1,
            MigrationChange::Ended { how, done, reason } => {
                self.close(event.at, bound, *done);
                self.it.ended = Some((*how, event.at, reason.clone()));
            }
        }
        self.blind = matches!(event.change, MigrationChange::TakenOver { .. });
        if !self.blind {
            self.told = event.at;
        }
    }

    fn is_in(&self, phase: &str) -> bool {
        self.blind && self.it.phases.last().is_some_and(|last| last.name == phase)
    }

    /// Counts never go back: whoever was asked last may know less than whoever was asked before.
    fn note(&mut self, done: Amounts) {
        self.last.items = self.last.items.max(done.items);
        self.last.bytes = self.last.bytes.max(done.bytes);
        self.last.items_total = self.last.items_total.max(done.items_total);
        if let Some(phase) = self.it.phases.last_mut() {
            phase.done = Amounts {
                items: self.last.items.saturating_sub(self.at_phase.items),
                items_total: self.last.items_total,
                bytes: self.last.bytes.saturating_sub(self.at_phase.bytes),
            };
        }
    }

    fn close(&mut self, at: Nanos, bound: u64, done: Amounts) {
        self.note(done);
        if let Some(phase) = self.it.phases.last_mut().filter(|phase| phase.to.is_none()) {
            phase.to = Some(at);
            phase.bound_ns = phase.bound_ns.saturating_add(bound);
        }
        self.at_phase = self.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, since: u64, change: MigrationChange) -> MigrationEvent {
        MigrationEvent {
            at: Nanos::from_millis(at),
            since: Nanos::from_millis(since),
            id: "1-move_replica".to_owned(),
            kind: "move_replica".to_owned(),
            system: "main".to_owned(),
            operation: Some(7),
            change,
        }
    }

    const fn amounts(items: u64, bytes: u64) -> Amounts {
        Amounts {
            items,
            items_total: 100,
            bytes,
        }
    }

    fn entered(phase: &str, done: Amounts) -> MigrationChange {
        MigrationChange::Entered {
            phase: phase.to_owned(),
            done,
        }
    }

    #[test]
    fn phases_follow_each_other_and_say_how_far_off_they_may_be() {
        let found = migrations(&[
            event(10, 8, entered("add_learner", amounts(0, 0))),
            event(30, 25, entered("catch_up", amounts(0, 0))),
            event(
                60,
                55,
                MigrationChange::Advanced {
                    done: amounts(40, 4000),
                },
            ),
            // Another node was asked, which knows less.
            event(70, 65, MigrationChange::Advanced { done: amounts(10, 0) }),
            event(
                90,
                80,
                MigrationChange::Ended {
                    how: MigrationEnd::Completed,
                    done: amounts(100, 9000),
                    reason: "the map says so".to_owned(),
                },
            ),
        ]);
        assert_eq!(found.len(), 1);
        let one = &found[0];
        let names: Vec<&str> = one.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["add_learner", "catch_up"]);
        assert_eq!(one.phases[0].to, Some(Nanos::from_millis(30)));
        assert_eq!(one.phases[0].bound_ns, 7_000_000);
        assert_eq!(one.phases[1].bound_ns, 15_000_000);
        assert_eq!(one.phases[1].lasted(Nanos(0)).as_millis(), 60);
        assert_eq!((one.phases[1].done.items, one.phases[1].done.bytes), (100, 9000));
        assert_eq!(one.done(), amounts(100, 9000));
        assert_eq!(one.ended.as_ref().unwrap().0, MigrationEnd::Completed);
        assert_eq!(
            (one.began(), one.until()),
            (Some(Nanos::from_millis(10)), Some(Nanos::from_millis(90)))
        );
    }

    #[test]
    fn one_that_never_ends_has_no_end() {
        let mut second = event(30, 29, entered("step:1", amounts(0, 0)));
        second.id = "2-upgrade".to_owned();
        let found = migrations(&[
            event(10, 8, entered("add_learner", amounts(0, 0))),
            second,
            event(
                50,
                50,
                MigrationChange::TakenOver {
                    found: "operation 7".to_owned(),
                },
            ),
        ]);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].taken_over, found[1].taken_over), (1, 0));
        assert!(found.iter().all(|it| it.ended.is_none() && it.phases[0].to.is_none()));
        assert_eq!(found[0].until(), Some(Nanos::from_millis(10)));
    }
}
