//! Has the leader of a group hand over, and sees to it from outside: by the new leader's own word.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::evidence::Evidence;
use crate::base::{Nanos, RunClock};
use crate::history::NodeStatus;
use crate::system::System;
use crate::target::{Observations, leader_of};

/// How long it may take until the new leader says that it leads.
const WITHIN: Duration = Duration::from_secs(10);
/// Asked again after this long: whoever was asked may have lost its lead before it could hand over, or given it up since
/// the other lagged.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often it is asked at most.
const ASKS_MAX: u32 = 4;
/// How long one asking may take; what comes of it later counts all the same, by the new leader's word.
const ASK_WITHIN: Duration = Duration::from_secs(1);
/// Between two questions to the new leader; the error bound of the instant.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One handing over.
pub(super) struct Handover<'a> {
    pub(super) system: &'a Arc<dyn System>,
    pub(super) clock: RunClock,
    pub(super) group: &'a str,
    pub(super) to: &'a str,
}

impl Handover<'_> {
    /// Asks for it, a few times where it takes long, and returns once `to` itself says that it leads in a later term than
    /// `before` knows of. What was answered to the asking proves nothing.
    ///
    /// # Errors
    /// In words, when that was not seen in time: it may or may not have happened.
    pub(super) async fn seen(&self, before: &Observations) -> Result<Evidence, String> {
        let term = term_of_leader(self.group, before);
        let began = self.clock.now();
        let (mut asked, mut refusals) = (0, Vec::new());
        let mut asking = JoinSet::new();
        while self.clock.now() < began.plus(WITHIN) {
            if asked < ASKS_MAX && self.clock.now() >= began.plus(AGAIN_AFTER * asked) {
                asked += 1;
                self.ask(&mut asking);
            }
            while let Some(answer) = asking.try_join_next() {
                match answer {
                    Ok(Ok(())) => {}
                    Ok(Err(refusal)) => refusals.push(refusal),
                    Err(error) => refusals.push(error.to_string()),
                }
            }
            let status = self.look(began).await;
            let at = self.clock.now();
            let leads = status.as_ref().and_then(|status| leads_in(self.group, status));
            if let Some(now) = leads.filter(|now| Some(*now) > term) {
                return Ok(Evidence {
                    at,
                    text: self.words(now, term, asked),
                });
            }
            self.clock.sleep(LOOK_EVERY).await;
        }
        refusals.dedup();
        let refused = if refusals.is_empty() {
            String::new()
        } else {
            format!("; refused: {}", refusals.join(", "))
        };
        Err(format!(
            "{} was not seen to lead {} within {WITHIN:?}, asked for {asked} times{refused}",
            self.to, self.group
        ))
    }

    /// What the new leader says of itself now; nothing when it says nothing while there is time.
    async fn look(&self, began: Nanos) -> Option<NodeStatus> {
        tokio::select! {
            biased;
            status = self.system.observe(self.to) => status,
            () = self.clock.sleep_until(began.plus(WITHIN)) => None,
        }
    }

    fn ask(&self, asking: &mut JoinSet<Result<(), String>>) {
        let (system, clock) = (Arc::clone(self.system), self.clock);
        let (group, to) = (self.group.to_owned(), self.to.to_owned());
        asking.spawn(async move {
            tokio::select! {
                biased;
                answer = system.transfer_leader(&group, &to) => answer,
                () = clock.sleep(ASK_WITHIN) => Err(format!("no answer within {ASK_WITHIN:?}")),
            }
        });
    }

    fn words(&self, now: u64, before: Option<u64>, asked: u32) -> String {
        let again = if asked > 1 {
            format!(", asked for {asked} times")
        } else {
            String::new()
        };
        format!(
            "{} says that it leads {} in term {now}, after term {}{again}",
            self.to,
            self.group,
            before.unwrap_or(0)
        )
    }
}

fn leads_in(group: &str, status: &NodeStatus) -> Option<u64> {
    let found = status
        .groups
        .iter()
        .find(|status| status.group == group && status.leader);
    found.map(|status| status.term)
}

fn term_of_leader(group: &str, seen: &Observations) -> Option<u64> {
    leads_in(group, seen.get(&leader_of(group, seen)?)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::backend::{Backend, NodeSpec};
    use crate::history::GroupStatus;
    use crate::system::{Stage, SystemError};
    use crate::target::Roster;
    use crate::workload::{LoadSpec, Workload};

    /// What is asked of the system and what it then does: one for each asking, the last for all that follow.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Does {
        /// Hands over, and says so.
        HandsOver,
        /// Hands over, and never answers.
        HandsOverInSilence,
        /// Says that it will, and does not.
        Forgets,
        /// Says that it will not.
        Refuses,
        /// Another than the one asked for comes to lead.
        HandsOverToAnother,
    }

    struct Scripted {
        roster: Roster,
        does: Vec<Does>,
        asked: Mutex<usize>,
        leader: Mutex<(&'static str, u64)>,
        /// Whether the new leader answers when it is looked at.
        answers: bool,
    }

    #[async_trait]
    impl System for Scripted {
        fn name(&self) -> &'static str {
            "main"
        }
        fn kind(&self) -> &'static str {
            "scripted"
        }
        fn roster(&self) -> &Roster {
            &self.roster
        }
        async fn layout(&mut self, _: &dyn Backend, _: &Path) -> Result<(), SystemError> {
            Ok(())
        }
        fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
            Err(SystemError(format!("no node {node}")))
        }
        async fn observe(&self, node: &str) -> Option<NodeStatus> {
            if !self.answers {
                return std::future::pending().await;
            }
            Some(status(node, *self.leader.lock().unwrap()))
        }
        async fn transfer_leader(&self, _: &str, to: &str) -> Result<(), String> {
            let does = {
                let mut asked = self.asked.lock().unwrap();
                *asked += 1;
                *self.does.get(*asked - 1).or(self.does.last()).unwrap()
            };
            assert_eq!(to, "n1");
            let now_leads = |who| {
                let mut leader = self.leader.lock().unwrap();
                *leader = (who, leader.1 + 1);
            };
            match does {
                Does::HandsOver => now_leads("n1"),
                Does::HandsOverToAnother => now_leads("n3"),
                Does::Forgets => {}
                Does::Refuses => return Err("not the leader".to_owned()),
                Does::HandsOverInSilence => {
                    now_leads("n1");
                    return std::future::pending().await;
                }
            }
            Ok(())
        }
        fn workload(&self, _: &[LoadSpec], _: Stage) -> Result<Box<dyn Workload>, SystemError> {
            Err(SystemError("it has no clients".to_owned()))
        }
    }

    fn status(node: &str, (leader, term): (&str, u64)) -> NodeStatus {
        NodeStatus {
            groups: vec![GroupStatus {
                group: "shard:0".to_owned(),
                leader: leader == node,
                term,
                ..GroupStatus::default()
            }],
            ..NodeStatus::default()
        }
    }

    /// What came of it, when, and how often it was asked for. n2 leads in term 4 before.
    async fn hand_over(does: &[Does], answers: bool) -> (Result<Evidence, String>, Nanos, usize) {
        let scripted = Arc::new(Scripted {
            roster: Roster::default(),
            does: does.to_vec(),
            asked: Mutex::new(0),
            leader: Mutex::new(("n2", 4)),
            answers,
        });
        let before = Observations::from([("n2".to_owned(), status("n2", ("n2", 4)))]);
        let system: Arc<dyn System> = Arc::clone(&scripted) as _;
        let clock = RunClock::start_virtual();
        let handover = Handover {
            system: &system,
            clock,
            group: "shard:0",
            to: "n1",
        };
        let seen = handover.seen(&before).await;
        let asked = *scripted.asked.lock().unwrap();
        (seen, clock.now(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_proven_by_the_word_of_the_new_leader() {
        let (seen, _, asked) = hand_over(&[Does::HandsOver], true).await;
        let seen = seen.expect("seen");
        assert_eq!(seen.text, "n1 says that it leads shard:0 in term 5, after term 4");
        assert!(seen.at <= Nanos::from_millis(4), "{seen:?}");
        assert_eq!(asked, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_never_answers_is_not_waited_for() {
        let (seen, at, _) = hand_over(&[Does::HandsOverInSilence], true).await;
        assert!(seen.is_ok(), "{seen:?}");
        assert!(at <= Nanos::from_millis(4), "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_refused_or_forgotten_is_asked_for_again() {
        for first in [Does::Refuses, Does::Forgets] {
            let (seen, at, asked) = hand_over(&[first, first, Does::HandsOver], true).await;
            let text = seen.expect("seen").text;
            assert!(text.ends_with("after term 4, asked for 3 times"), "{text}");
            assert!(
                at >= Nanos::from_millis(4000) && at <= Nanos::from_millis(4010),
                "{at:?}"
            );
            assert_eq!(asked, 3);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_agreed_to_and_not_done_has_not_happened() {
        let (seen, at, asked) = hand_over(&[Does::Forgets], true).await;
        let reason = seen.expect_err("nothing was seen");
        assert!(
            reason.contains("n1 was not seen to lead shard:0 within 10s, asked for 4 times"),
            "{reason}"
        );
        assert_eq!(asked, 4, "the asking is bounded");
        assert!(
            at >= Nanos::from_millis(10_000) && at <= Nanos::from_millis(10_010),
            "{at:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn another_leader_is_not_the_one_asked_for() {
        let does = [Does::HandsOverToAnother, Does::Refuses];
        let reason = hand_over(&does, true).await.0.expect_err("n3 leads");
        assert!(reason.ends_with("refused: not the leader"), "{reason}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_that_says_nothing_proves_nothing_and_holds_nobody_up() {
        let (seen, at, _) = hand_over(&[Does::HandsOver], false).await;
        assert!(seen.is_err());
        assert!(at <= Nanos::from_millis(10_010), "{at:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leads_in_the_same_term_as_before_was_handed_nothing() {
        let led: Arc<dyn System> = Arc::new(Scripted {
            roster: Roster::default(),
            does: vec![Does::Forgets],
            asked: Mutex::new(0),
            leader: Mutex::new(("n1", 4)),
            answers: true,
        });
        let handover = Handover {
            system: &led,
            clock: RunClock::start_virtual(),
            group: "shard:0",
            to: "n1",
        };
        let before = Observations::from([("n1".to_owned(), status("n1", ("n1", 4)))]);
        assert!(handover.seen(&before).await.is_err());
    }
}
