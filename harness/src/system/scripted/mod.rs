//! A target of ours whose outages are scripted, to calibrate the measuring: truth beside reading.
//!
//! It has no processes and no network. It keeps items in memory, answers after a stated time, and is dead, silent,
//! failing, slow or flapping exactly when its script says so. It tells the history of each outage as of a fault, with
//! the scripted instants as evidence.

mod client;
mod reaction;
mod rehearse;
mod script;
#[cfg(test)]
mod tests;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use tokio::task::JoinSet;

pub use client::Served;
pub use reaction::ASK_EVERY;
pub use rehearse::{Rehearsal, Rehearsed, rehearse};
pub use script::Script;

use self::{client::ScriptedClient, reaction::Telling};
use super::{ScriptedSpec, Stage, System, SystemError};
use crate::{
    backend::{Backend, NodeSpec},
    history::NodeStatus,
    target::Roster,
    workload::{
        Lever, LoadSpec, Progress, ReadBackSummary, Workload, WorkloadError,
        items::{ItemSetting, ItemWorkload},
    },
};

/// The one part that the target consists of.
pub const PART: &str = "target";

/// A scripted target.
pub struct Scripted {
    name: String,
    spec: ScriptedSpec,
    roster: Roster,
}

impl Scripted {
    /// The target that `spec` describes.
    ///
    /// # Errors
    /// When an outage can't be: overlapping, without length, a share or factor out of range.
    pub fn new(name: &str, spec: &ScriptedSpec) -> Result<Self, SystemError> {
        script::check(spec)?;
        Ok(Self {
            name: name.to_owned(),
            spec: spec.clone(),
            roster: Roster::default(),
        })
    }
}

#[async_trait]
impl System for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "scripted"
    }

    fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn layout(&mut self, _backend: &dyn Backend, _dir: &Path) -> Result<(), SystemError> {
        Ok(())
    }

    fn node_spec(&self, node: &str) -> Result<NodeSpec, SystemError> {
        Err(SystemError(format!(
            "there is no node {node}: the scripted system {} has none",
            self.name
        )))
    }

    async fn observe(&self, _node: &str) -> Option<NodeStatus> {
        None
    }

    async fn transfer_leader(&self, group: &str, to: &str) -> Result<(), String> {
        Err(format!("{group} can't go to {to}: a scripted system has no leaders"))
    }

    fn workload(&self, loads: &[LoadSpec], stage: Stage) -> Result<Box<dyn Workload>, SystemError> {
        Ok(Box::new(self.scripted_workload(loads, stage)?))
    }
}

impl Scripted {
    fn scripted_workload(&self, loads: &[LoadSpec], stage: Stage) -> Result<ScriptedWorkload, SystemError> {
        let telling = Arc::new(Telling::new(self.name.clone(), stage.recorder.clone(), stage.clock));
        let client = Arc::new(ScriptedClient::new(&self.spec, Arc::clone(&telling), &stage.streams));
        let teller = script::Teller {
            system: self.name.clone(),
            recorder: stage.recorder.clone(),
            clock: stage.clock,
        };
        let inner = ItemWorkload::new(ItemSetting {
            system: self.name.clone(),
            number: stage.number,
            loads: loads.to_vec(),
            client: Arc::clone(&client) as _,
            labels: std::collections::BTreeMap::new(),
            recorder: stage.recorder,
            clock: stage.clock,
            streams: stage.streams,
        });
        Ok(ScriptedWorkload {
            inner: inner.map_err(|e| SystemError(e.0))?,
            client,
            teller,
            telling,
            told: JoinSet::new(),
        })
    }
}

/// The load on a scripted target, which also lets the script begin.
struct ScriptedWorkload {
    inner: ItemWorkload,
    client: Arc<ScriptedClient>,
    teller: script::Teller,
    telling: Arc<Telling>,
    /// Whatever tells the history something; it ends with the workload.
    told: JoinSet<()>,
}

#[async_trait]
impl Workload for ScriptedWorkload {
    async fn prepare(&mut self) -> Result<(), WorkloadError> {
        self.inner.prepare().await
    }

    async fn start(&mut self) -> Result<(), WorkloadError> {
        let script = self.client.begin();
        self.told.spawn(self.teller.clone().tell(script.clone()));
        if !script.reactions().is_empty() {
            let (telling, of) = (Arc::clone(&self.telling), script.clone());
            self.told.spawn(async move { telling.sessions(&of).await });
            let telling = Arc::clone(&self.telling);
            self.told.spawn(async move { telling.roles(&script).await });
        }
        self.inner.start().await
    }

    fn progress(&self) -> Progress {
        self.inner.progress()
    }

    fn lever(&self) -> Arc<Lever> {
        self.inner.lever()
    }

    async fn stop_sending(&mut self) {
        self.inner.stop_sending().await;
    }

    fn owed(&self) -> u64 {
        self.inner.owed()
    }

    async fn drain(&mut self, within: std::time::Duration) -> bool {
        self.inner.drain(within).await
    }

    async fn fence(&mut self) -> Result<(), WorkloadError> {
        self.inner.fence().await
    }

    async fn read_back(&mut self) -> ReadBackSummary {
        self.inner.read_back().await
    }

    async fn shut_down(&mut self) {
        self.told.abort_all();
        self.inner.shut_down().await;
    }
}
