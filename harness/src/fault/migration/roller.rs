//! The controller of a roll-out: the harness is the operator.
//!
//! One node at a time: it is asked to end, hands over what it leads, is started as what it is to be, catches up, and leads
//! again what it led, so that what it is now is put to use before the next one's turn. After each step a gate. Whatever is
//! about to be done is noted first; a controller that goes on from a note does that again, which does no harm: a node that
//! runs already needs no start, and one that has ended needs no end.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::gate;
use super::journey::{Chronicle, Outcome};
use super::notes::{Note, Notes};
use super::rollout::{OnRed, Rollout};
use super::seen::Seen;
use crate::backend::NodeSignal;
use crate::base::{Nanos, RunClock};
use crate::fault::evidence::Evidence;
use crate::fault::nodes::Nodes;
use crate::history::{Amounts, MigrationChange, MigrationEnd, NodeStatus};
use crate::target::{NodeName, leader_of};
use crate::workload::Pulse;

/// How long a node may take to have applied what the others had committed when it was ready.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(30);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How far a roll-out is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rolling {
    pub(super) rollout: Rollout,
    /// Who has had its turn, in order.
    pub(super) done: Vec<NodeName>,
    /// How many gates have opened.
    pub(super) gates: usize,
    /// Whose turn it is.
    pub(super) turn: Option<Turn>,
    /// Why it is red, once it is; who has been taken back since.
    pub(super) red: Option<String>,
    pub(super) back: Vec<NodeName>,
}

/// One node's turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) node: NodeName,
    /// The groups that it led, and those that it held.
    led: Vec<String>,
    held: Vec<String>,
    /// Whether it has ended and is to be started.
    starting: bool,
}

impl Rolling {
    pub(super) const fn new(rollout: Rollout) -> Self {
        Self {
            rollout,
            done: Vec::new(),
            gates: 0,
            turn: None,
            red: None,
            back: Vec::new(),
        }
    }
}

/// One controller. It knows what the note says, and nothing else of what was before it.
pub(super) struct Roller {
    pub(super) nodes: Nodes,
    pub(super) pulse: Option<Pulse>,
    pub(super) clock: RunClock,
    pub(super) notes: Arc<Notes>,
    pub(super) chronicle: Chronicle,
    pub(super) seen: watch::Sender<Seen>,
    pub(super) deadline: Nanos,
    pub(super) state: Rolling,
}

impl Roller {
    /// Rolls to the end, or back.
    ///
    /// # Errors
    /// In words, when what it is about to do could not be noted.
    pub(super) async fn run(mut self) -> Result<Outcome, String> {
        if self.state.red.is_none() {
            if let Err(red) = self.forward().await? {
                self.state.red = Some(red);
                self.save().await?;
            } else {
                let nodes = self.words();
                return Ok(self.ended(MigrationEnd::Completed, nodes));
            }
        }
        let red = self.state.red.clone().unwrap_or_default();
        match self.state.rollout.on_red {
            OnRed::Stop => Ok(self.ended(MigrationEnd::Stopped, red)),
            OnRed::Rollback => match self.backward().await? {
                Ok(()) => Ok(self.ended(MigrationEnd::Aborted, format!("{red}; taken back, {}", self.words()))),
                Err(why) => Ok(self.ended(MigrationEnd::Stopped, format!("{red}; not taken back: {why}"))),
            },
        }
    }

    /// All steps and gates; the inner error says why it is red.
    async fn forward(&mut self) -> Result<Result<(), String>, String> {
        let steps = self.state.rollout.steps.clone();
        for (number, step) in steps.iter().enumerate() {
            for node in step {
                if self.state.done.contains(node) {
                    continue;
                }
                let release = self.state.rollout.to.get(node).cloned();
                if let Err(red) = self.turn(node, release.as_deref()).await? {
                    return Ok(Err(red));
                }
                self.state.done.push(node.clone());
                self.state.turn = None;
                self.save().await?;
            }
            if number < self.state.gates {
                continue;
            }
            if let Some(health) = self.state.rollout.gate.clone() {
                self.enter(&format!("gate {}", number + 1));
                let Some(pulse) = self.pulse.clone() else {
                    return Ok(Err("there are no clients by which a gate could be judged".to_owned()));
                };
                if let Err(red) = gate::opens(&health, &pulse, self.clock, self.deadline).await {
                    return Ok(Err(format!("after step {}: {red}", number + 1)));
                }
            }
            self.state.gates = number + 1;
            self.save().await?;
        }
        Ok(Ok(()))
    }

    /// Takes back whoever has had a turn, or has begun one, the latest first.
    async fn backward(&mut self) -> Result<Result<(), String>, String> {
        let begun = self.state.turn.as_ref().map(|turn| turn.node.clone());
        let mut touched = self.state.done.clone();
        touched.extend(begun.filter(|node| !touched.contains(node)));
        for node in touched.iter().rev() {
            if self.state.back.contains(node) {
                continue;
            }
            self.enter(&format!("back {node}"));
            let release = self.state.rollout.from.get(node).cloned();
            if let Err(why) = self.turn(node, release.as_deref()).await? {
                return Ok(Err(why));
            }
            self.state.back.push(node.clone());
            self.state.turn = None;
            self.save().await?;
        }
        Ok(Ok(()))
    }

    /// One node: ended, started as `release`, caught up, leading again. The inner error says why it did not come back.
    async fn turn(&mut self, node: &str, release: Option<&str>) -> Result<Result<(), String>, String> {
        let back = self.state.red.is_some();
        let name = |phase: &str| {
            if back {
                format!("back {node}, {phase}")
            } else {
                format!("{phase} {node}")
            }
        };
        let turn = match self.state.turn.clone().filter(|turn| turn.node == node) {
            Some(turn) => turn,
            None => {
                let (led, held) = self.groups_of(node).await;
                let turn = Turn {
                    node: node.to_owned(),
                    led,
                    held,
                    starting: false,
                };
                self.state.turn = Some(turn.clone());
                self.save().await?;
                turn
            }
        };
        self.seen.send_modify(|seen| {
            seen.source = vec![node.to_owned()];
            seen.target = vec![node.to_owned()];
        });
        if !turn.starting {
            self.enter(&name("stop"));
            if let Err(why) = self.stop(node).await {
                return Ok(Err(why));
            }
            if let Some(turn) = &mut self.state.turn {
                turn.starting = true;
            }
            self.save().await?;
        }
        self.enter(&name("start"));
        if let Some(release) = release
            && let Err(error) = self.nodes.system.set_release(node, release)
        {
            return Ok(Err(format!("{node} could not be given release {release}: {error}")));
        }
        let started = self.in_its_own_task(
            |nodes, node| async move { nodes.start(&[node]).await.map_err(String::from) },
            node,
        );
        if let Err(why) = started.await {
            return Ok(Err(why));
        }
        self.enter(&name("catch_up"));
        if let Err(why) = self.caught_up(node, release, &turn.held).await {
            return Ok(Err(why));
        }
        self.enter(&name("lead"));
        for group in &turn.led {
            // Others lead it well: who does not get it back is told of by the roles in the history.
            if let Err(why) = self.nodes.transfer(group, node).await {
                tracing::warn!(node, group, "does not lead again what it led: {why}");
            }
        }
        Ok(Ok(()))
    }

    /// Asks a node to end, which hands over what it leads; one that does not run has ended.
    async fn stop(&self, node: &str) -> Result<(), String> {
        if !self.nodes.backend.running().contains(node) {
            return Ok(());
        }
        let stopped = self.in_its_own_task(
            |nodes, node| async move {
                nodes
                    .signal(&[node], NodeSignal::Term)
                    .await
                    .map_err(|error| error.to_string())
            },
            node,
        );
        let seen = stopped.await?;
        self.seen.send_modify(|all| {
            all.began.get_or_insert(seen);
        });
        Ok(())
    }

    /// What is under way with a process goes on, whatever becomes of the controller: a command that was given.
    async fn in_its_own_task<F, T>(&self, act: impl FnOnce(Nodes, String) -> F, node: &str) -> Result<T, String>
    where
        F: Future<Output = Result<T, String>> + Send + 'static,
        T: Send + 'static,
    {
        let acting = tokio::spawn(act(self.nodes.clone(), node.to_owned()));
        acting.await.map_err(|error| error.to_string())?
    }

    /// The groups that a node leads, and those that it holds.
    async fn groups_of(&self, node: &str) -> (Vec<String>, Vec<String>) {
        let words = self.nodes.observe().await;
        let own = words.get(node).map(|status| status.groups.clone()).unwrap_or_default();
        let held: Vec<String> = own.into_iter().map(|group| group.group).collect();
        let leads = |group: &&String| leader_of(group, &words).as_deref() == Some(node);
        (held.iter().filter(leads).cloned().collect(), held)
    }

    /// Waits until a node itself says that it is what it is to be, and has applied what the others had committed when it first
    /// said anything.
    async fn caught_up(&self, node: &str, release: Option<&str>, held: &[String]) -> Result<(), String> {
        let deadline = self.clock.now().plus(CAUGHT_UP_WITHIN).min(self.deadline);
        let mut goals: Option<Vec<u64>> = None;
        loop {
            let words = self.nodes.observe().await;
            let commit = |group: &String| {
                let all = words
                    .values()
                    .flat_map(|status| &status.groups)
                    .filter(|it| it.group == *group);
                all.map(|it| it.commit).max().unwrap_or(0)
            };
            let lacking = match words.get(node) {
                None => "says nothing".to_owned(),
                Some(own) => {
                    if let Some(release) = release.filter(|release| own.release != **release) {
                        return Err(format!(
                            "{node} was started as {release} and says that it runs {}",
                            own.release
                        ));
                    }
                    let goals = goals.get_or_insert_with(|| held.iter().map(commit).collect());
                    match behind(own, held, goals) {
                        None => return Ok(()),
                        Some(group) => format!("is behind in {group}"),
                    }
                }
            };
            if self.clock.now() >= deadline {
                return Err(format!(
                    "{node} has not caught up within {CAUGHT_UP_WITHIN:?}: it {lacking}"
                ));
            }
            self.clock.sleep(LOOK_EVERY).await;
        }
    }

    async fn save(&self) -> Result<(), String> {
        self.notes.write(&Note::Rolling(Box::new(self.state.clone()))).await
    }

    /// What the harness does itself begins when it says so.
    fn enter(&self, phase: &str) {
        let (at, done) = (self.clock.now(), self.amounts());
        let change = MigrationChange::Entered {
            phase: phase.to_owned(),
            done,
        };
        self.chronicle.tell((at, at), None, change);
        self.seen.send_modify(|seen| {
            seen.entered.push(phase.to_owned());
            seen.done = done;
        });
    }

    fn amounts(&self) -> Amounts {
        Amounts {
            items: self.state.done.len() as u64,
            items_total: self.state.rollout.nodes() as u64,
            bytes: 0,
        }
    }

    fn words(&self) -> String {
        let runs = |node: &NodeName| {
            let back = self.state.back.contains(node);
            let now = if back {
                &self.state.rollout.from
            } else {
                &self.state.rollout.to
            };
            now.get(node)
                .map_or_else(|| node.clone(), |release| format!("{node} says that it runs {release}"))
        };
        let said: Vec<String> = self.state.done.iter().map(runs).collect();
        format!(
            "{} of {} nodes had their turn: {}",
            said.len(),
            self.state.rollout.nodes(),
            said.join(", ")
        )
    }

    fn ended(&self, how: MigrationEnd, text: String) -> Outcome {
        let at = self.clock.now();
        // A roll-out that found everything done began with that.
        let began = Evidence {
            at,
            text: "every node had had its turn".to_owned(),
        };
        self.seen.send_modify(|seen| {
            seen.began.get_or_insert(began);
        });
        Outcome {
            how,
            at,
            since: at,
            operation: None,
            done: self.amounts(),
            text,
        }
    }
}

/// The first of these groups that a node has not applied up to its goal.
fn behind<'a>(own: &NodeStatus, held: &'a [String], goals: &[u64]) -> Option<&'a str> {
    let applied = |group: &String| own.groups.iter().find(|it| it.group == *group).map(|it| it.applied);
    let mut all = held.iter().zip(goals);
    all.find(|(group, goal)| applied(group).is_none_or(|applied| applied < **goal))
        .map(|(group, _)| group.as_str())
}
