//! Asks every node what it says of itself, all through a run, and writes down what it answered or that it did not.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use crate::{
    base::{Nanos, RunClock},
    history::{Event, NodeStatus, Observed, Recorder},
    system::System,
    target::Observations,
};

/// The pause between two questions to a node: the error bound of whatever is read from the answers.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(25);
/// An answer that says nothing new is written down this often.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// What the nodes of one system said last.
#[derive(Clone, Default)]
pub(super) struct Seen {
    last: Arc<Mutex<BTreeMap<String, NodeStatus>>>,
}

impl Seen {
    /// The last answers of the nodes that answered when last asked.
    pub(super) fn now(&self) -> Observations {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, node: &str, status: Option<NodeStatus>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            Some(status) => {
                last.insert(node.to_owned(), status);
            }
            None => {
                last.remove(node);
            }
        }
    }
}

/// Observes a system until `stop` says so. Each node is asked by a task of its own, so that a silent one delays no other.
pub(super) fn observe(
    system: &Arc<dyn System>,
    recorder: &Recorder,
    clock: RunClock,
    stop: &watch::Receiver<bool>,
) -> (Seen, JoinSet<()>) {
    let seen = Seen::default();
    let mut tasks = JoinSet::new();
    for node in &system.roster().nodes {
        let asking = Asking {
            system: Arc::clone(system),
            node: node.name.clone(),
            recorder: recorder.clone(),
            clock,
            seen: seen.clone(),
            written: None,
        };
        tasks.spawn(asking.run(stop.clone()));
    }
    (seen, tasks)
}

struct Asking {
    system: Arc<dyn System>,
    node: String,
    recorder: Recorder,
    clock: RunClock,
    seen: Seen,
    written: Option<(Nanos, Option<NodeStatus>)>,
}

impl Asking {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = self.ask() => {}
            }
        }
    }

    async fn ask(&mut self) {
        let asked = self.clock.now();
        let status = self.system.observe(&self.node).await;
        let at = self.clock.now();
        self.seen.set(&self.node, status.clone());
        let due = self.written.as_ref().is_none_or(|(last, before)| {
            at.since(*last) >= WRITE_EVERY || roles(before.as_ref()) != roles(status.as_ref())
        });
        if due {
            self.written = Some((at, status.clone()));
            self.recorder.record(Event::Observed(Observed {
                at,
                asked: Some(asked),
                system: self.system.name().to_owned(),
                node: self.node.clone(),
                status,
            }));
        }
        self.clock.sleep(ASK_EVERY).await;
    }
}

/// What makes an answer news: whether there is one, who leads, and in which term.
fn roles(status: Option<&NodeStatus>) -> Option<Vec<(&str, bool, u64)>> {
    status.map(|status| {
        status
            .groups
            .iter()
            .map(|group| (group.group.as_str(), group.leader, group.term))
            .collect()
    })
}
