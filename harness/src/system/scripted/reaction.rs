//! What becomes of the target's roles, sessions and deliveries in an outage: when exactly, and the telling of it.
//!
//! The nodes are asked as those of a real system are, with a pause between two questions, and what is no news is written
//! down only now and then. Sessions and showings are told when they come about, or as much later as the harness stood
//! still.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::{PART, script::Script};
use crate::{
    base::{Nanos, RunClock},
    history::{Event, GroupStatus, NodeStatus, Observed, Recorder, SessionChange, SessionEvent, Shown},
    system::ScriptedReaction,
    workload::{client::Put, payload},
};

/// The target's nodes; the first leads at first.
const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Between two questions to a node, as in a run.
pub const ASK_EVERY: Duration = Duration::from_millis(25);
/// How long a question is on its way, and how long its answer.
const QUESTION: Duration = Duration::from_millis(1);
const ANSWER: Duration = Duration::from_millis(2);
/// What is no news is written down this often, as in a run.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// The account, with one device, that is shown all that is put.
pub(super) const LISTENER: u64 = 9_000;
const LISTENER_SESSION: u64 = 5_000;
/// From acceptance to showing, when all is well.
const DELIVERY: Duration = Duration::from_millis(3);
/// Sessions that an outage takes. With the listener's, which it does not, 99 % are back when all but one are.
const SESSIONS: u64 = 100;
/// How long after all others the last session comes back.
const LAST_AFTER: Duration = Duration::from_millis(250);

/// One outage with what it does to roles, sessions and deliveries: from when to when it lasts.
#[derive(Clone, Copy)]
pub(super) struct Reacting {
    pub(super) from: Nanos,
    pub(super) to: Nanos,
    pub(super) reaction: ScriptedReaction,
}

impl Reacting {
    fn after_start(&self, ms: u64) -> Nanos {
        self.from.plus(Duration::from_millis(ms))
    }

    fn after_end(&self, ms: u64) -> Nanos {
        self.to.plus(Duration::from_millis(ms))
    }
}

/// When what is accepted at `at` is shown.
fn shown_at(reactions: &[Reacting], at: Nanos) -> Nanos {
    let held = reactions.iter().find(|it| {
        let shown = it.after_end(it.reaction.shown_ms);
        at >= it.from && at < shown
    });
    held.map_or(at.plus(DELIVERY), |it| it.after_end(it.reaction.shown_ms))
}

/// What node number `node` says of itself at `at`; nothing while it is silent.
fn status(reactions: &[Reacting], node: usize, at: Nanos) -> Option<NodeStatus> {
    let (mut term, mut leader, mut leads) = (1, 0, true);
    let mut applied = at;
    for it in reactions.iter().filter(|it| it.from <= at) {
        if node == leader {
            if at < it.to {
                return None;
            }
            if at < it.after_end(it.reaction.caught_up_ms) {
                applied = it.from;
            }
        }
        term += u64::from(at >= it.after_start(it.reaction.detected_ms));
        leads = at >= it.after_start(it.reaction.led_ms);
        if leads {
            leader = (leader + 1) % NODES.len();
        }
    }
    // Something is committed in each millisecond.
    let index = applied.0 / 1_000_000;
    Some(NodeStatus {
        groups: vec![GroupStatus {
            group: PART.to_owned(),
            leader: leads && node == leader,
            term,
            commit: index,
            applied: index,
            digest: 0,
        }],
        ..NodeStatus::default()
    })
}

/// Tells the history of roles, sessions and deliveries.
#[derive(Debug)]
pub(super) struct Telling {
    pub(super) system: String,
    pub(super) recorder: Recorder,
    pub(super) clock: RunClock,
    sequence: AtomicU64,
}

impl Telling {
    pub(super) const fn new(system: String, recorder: Recorder, clock: RunClock) -> Self {
        Self {
            system,
            recorder,
            clock,
            sequence: AtomicU64::new(0),
        }
    }

    /// Shows the listener what was put, once that comes about.
    pub(super) async fn show(&self, script: &Script, put: Put, position: u64) {
        let at = shown_at(&script.reactions(), self.clock.now());
        self.clock.sleep_until(at).await;
        self.recorder.record(Event::Shown(Shown {
            at: self.clock.now(),
            system: self.system.clone(),
            session: LISTENER_SESSION,
            user: LISTENER,
            device: 0,
            connection: 1,
            incarnation: 1,
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1,
            log: put.log,
            position,
            author: 0,
            item: Some(put.item),
            hash: payload::hash(&put.body),
            repeated_on_wire: false,
        }));
    }

    /// Opens all sessions, and loses and opens them again as the script says.
    pub(super) async fn sessions(&self, script: &Script) {
        self.session(LISTENER_SESSION, LISTENER, connected());
        for session in 0..SESSIONS {
            self.session(session + 1 + LISTENER_SESSION, session + 1 + LISTENER, connected());
        }
        for it in script.reactions() {
            self.clock.sleep_until(it.from).await;
            for session in 1..=SESSIONS {
                let lost = SessionChange::Lost {
                    reason: "scripted".to_owned(),
                };
                self.session(session + LISTENER_SESSION, session + LISTENER, lost);
            }
            let back = Duration::from_millis(it.reaction.sessions_back_ms);
            for session in 1..=SESSIONS {
                let after = if session == SESSIONS {
                    back + LAST_AFTER
                } else {
                    back.mul_f64(share(session, SESSIONS - 1))
                };
                self.clock.sleep_until(it.to.plus(after)).await;
                self.session(session + LISTENER_SESSION, session + LISTENER, connected());
            }
        }
    }

    fn session(&self, session: u64, user: u64, change: SessionChange) {
        self.recorder.record(Event::Session(SessionEvent {
            at: self.clock.now(),
            system: self.system.clone(),
            session,
            user,
            device: 0,
            change,
        }));
    }

    /// Asks every node what it says of itself, for as long as it is let.
    pub(super) async fn roles(&self, script: &Script) {
        let reactions = script.reactions();
        tokio::join!(
            self.asked(&reactions, 0),
            self.asked(&reactions, 1),
            self.asked(&reactions, 2)
        );
    }

    async fn asked(&self, reactions: &[Reacting], node: usize) {
        let mut written: Option<(Nanos, Option<NodeStatus>)> = None;
        loop {
            let asked = self.clock.now();
            self.clock.sleep(QUESTION).await;
            let said = status(reactions, node, self.clock.now());
            self.clock.sleep(ANSWER).await;
            let at = self.clock.now();
            let news = written
                .as_ref()
                .is_none_or(|(last, before)| at.since(*last) >= WRITE_EVERY || role(before) != role(&said));
            if news {
                written = Some((at, said.clone()));
                self.recorder.record(Event::Observed(Observed {
                    at,
                    asked: Some(asked),
                    system: self.system.clone(),
                    node: NODES[node].to_owned(),
                    status: said,
                }));
            }
            self.clock.sleep(ASK_EVERY).await;
        }
    }
}

const fn connected() -> SessionChange {
    SessionChange::Connected {
        connection: 1,
        after: 0,
    }
}

fn role(status: &Option<NodeStatus>) -> Option<(bool, u64)> {
    let group = status.as_ref()?.groups.first()?;
    Some((group.leader, group.term))
}

#[expect(clippy::cast_precision_loss, reason = "at most a hundred")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Vec<Reacting> {
        vec![Reacting {
            from: Nanos::from_millis(1000),
            to: Nanos::from_millis(2000),
            reaction: ScriptedReaction {
                detected_ms: 100,
                led_ms: 300,
                sessions_back_ms: 50,
                shown_ms: 400,
                caught_up_ms: 600,
            },
        }]
    }

    /// Whether it leads, in which term, and what it has applied.
    fn says(node: usize, ms: u64) -> Option<(bool, u64, u64)> {
        let said = status(&one(), node, Nanos::from_millis(ms))?;
        let group = &said.groups[0];
        Some((group.leader, group.term, group.applied))
    }

    #[test]
    fn roles_change_at_exactly_the_scripted_instants() {
        assert_eq!(says(0, 999), Some((true, 1, 999)));
        assert_eq!(says(0, 1000), None, "the leader falls silent");
        assert_eq!(says(1, 1099), Some((false, 1, 1099)));
        assert_eq!(says(1, 1100), Some((false, 2, 1100)), "a new term");
        assert_eq!(says(1, 1299), Some((false, 2, 1299)));
        assert_eq!(says(1, 1300), Some((true, 2, 1300)), "a new leader");
        assert_eq!(says(2, 1300), Some((false, 2, 1300)));
        assert_eq!(says(0, 1999), None);
        assert_eq!(says(0, 2000), Some((false, 2, 1000)), "back, and behind");
        assert_eq!(says(0, 2599), Some((false, 2, 1000)));
        assert_eq!(says(0, 2600), Some((false, 2, 2600)), "caught up");
    }

    #[test]
    fn what_is_accepted_meanwhile_is_shown_at_one_instant() {
        let shown = |ms| shown_at(&one(), Nanos::from_millis(ms)).as_millis_f64();
        assert!((shown(999) - 1002.0).abs() < 1e-9);
        for held in [1000, 1500, 2399] {
            assert!((shown(held) - 2400.0).abs() < 1e-9, "{held}");
        }
        assert!((shown(2400) - 2403.0).abs() < 1e-9);
    }
}
