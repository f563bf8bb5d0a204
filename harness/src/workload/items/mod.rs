//! The load on a system that takes items under keys, or just answers requests, and tells nobody of them by itself.

mod sender;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinSet;

use super::{
    Lever, LoadSpec, Progress, ReadBackSummary, Workload, WorkloadError,
    client::OpClient,
    engine::Engine,
    release::{Executor, Release},
};
use crate::{
    base::{RunClock, Streams},
    history::{Class, Event, ReadBack, Recorder},
};

/// How long the fence, and the read of one log, may take.
const END_WITHIN: Duration = Duration::from_secs(15);
const CALL_WITHIN: Duration = Duration::from_secs(3);
/// Wait between two tries of either.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Logs read at one time.
const READS_AT_ONCE: usize = 8;

/// What a load of items is made of.
pub struct ItemSetting {
    /// The system's name.
    pub system: String,
    /// The system's number within the run: identities of two systems never meet.
    pub number: u16,
    /// Loads of class `put` or `request`, at least one.
    pub loads: Vec<LoadSpec>,
    /// The way to the system.
    pub client: Arc<dyn OpClient>,
    /// Labels of every operation.
    pub labels: BTreeMap<String, String>,
    /// Where everything is recorded.
    pub recorder: Recorder,
    /// The run's clock.
    pub clock: RunClock,
    /// The run's randomness.
    pub streams: Streams,
}

/// A load of items.
pub struct ItemWorkload {
    executor: Executor,
    shared: Arc<Shared>,
    release: Option<Release>,
}

struct Shared {
    engine: Arc<Engine>,
    client: Arc<dyn OpClient>,
    loads: Vec<LoadSpec>,
    labels: BTreeMap<String, String>,
    /// For each part that is probed: a log that it holds.
    probes: Vec<(String, String)>,
}

impl ItemWorkload {
    /// A load that has done nothing yet.
    ///
    /// # Errors
    /// When a load can't be sent: another class, no keys, no threads.
    pub fn new(setting: ItemSetting) -> Result<Self, WorkloadError> {
        if setting.loads.is_empty() {
            return Err(WorkloadError("there is no load".to_owned()));
        }
        for load in &setting.loads {
            check(load)?;
        }
        let executor = Executor::new(&setting.clock)?;
        let probes = sender::probes(&setting.loads, &*setting.client)?;
        let shared = Shared {
            engine: Engine::new(
                &setting.system,
                setting.number,
                setting.recorder,
                setting.clock,
                setting.streams,
            ),
            client: setting.client,
            loads: setting.loads,
            labels: setting.labels,
            probes,
        };
        Ok(Self {
            executor,
            shared: Arc::new(shared),
            release: None,
        })
    }
}

fn check(load: &LoadSpec) -> Result<(), WorkloadError> {
    let problem = if !matches!(load.class, Class::Put | Class::Request) {
        format!("this system takes loads of `put` or `request`, not of {:?}", load.class)
    } else if load.class == Class::Put && load.users == 0 {
        "a load of `put` needs at least one key".to_owned()
    } else if load.retry.attempts == 0 || load.op_timeout_ms == 0 || load.in_flight_max == 0 {
        "attempts, time-out and operations under way of a load are at least 1".to_owned()
    } else {
        return Ok(());
    };
    Err(WorkloadError(problem))
}

#[async_trait::async_trait]
impl Workload for ItemWorkload {
    async fn prepare(&mut self) -> Result<(), WorkloadError> {
        Ok(())
    }

    async fn start(&mut self) -> Result<(), WorkloadError> {
        self.release = Some(sender::start(&self.shared, &self.executor)?);
        Ok(())
    }

    fn progress(&self) -> Progress {
        let now = self.shared.engine.clock.now();
        let mut meter = self.shared.engine.meter();
        Progress {
            lag_p99_ms: meter.lag_p99_ms(),
            classes: meter.progress(now),
            ..Progress::default()
        }
    }

    fn lever(&self) -> Arc<Lever> {
        Arc::clone(&self.shared.engine.lever)
    }

    async fn stop_sending(&mut self) {
        if let Some(mut release) = self.release.take() {
            release.stop();
        }
        self.shared.engine.stop();
        self.shared.engine.idle().await;
    }

    fn owed(&self) -> u64 {
        0
    }

    async fn drain(&mut self, _within: Duration) -> bool {
        true
    }

    async fn fence(&mut self) -> Result<(), WorkloadError> {
        let shared = Arc::clone(&self.shared);
        self.executor.run(async move { shared.fence().await }).await?
    }

    async fn read_back(&mut self) -> ReadBackSummary {
        let shared = Arc::clone(&self.shared);
        // A task that ended early has recorded nothing as complete.
        self.executor.run(read_back(shared)).await.unwrap_or_default()
    }

    async fn shut_down(&mut self) {
        if let Some(mut release) = self.release.take() {
            release.stop();
        }
        self.shared.engine.stop();
        self.shared.engine.give_up();
    }
}

impl Shared {
    async fn fence(&self) -> Result<(), WorkloadError> {
        let clock = self.engine.clock;
        let deadline = clock.now().plus(END_WITHIN);
        loop {
            let answered = tokio::time::timeout(CALL_WITHIN, self.client.fence(CALL_WITHIN)).await;
            let why = match answered.map(|answered| answered.result) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) => failure.reason,
                Err(_) => "deadline".to_owned(),
            };
            if clock.now().plus(AGAIN_AFTER) >= deadline {
                return Err(WorkloadError(format!(
                    "it was not confirmed within {} s that earlier operations have ended: {why}",
                    END_WITHIN.as_secs()
                )));
            }
            clock.sleep(AGAIN_AFTER).await;
        }
    }

    async fn read(&self, log: String) -> ReadBack {
        let clock = self.engine.clock;
        let began = clock.now();
        let deadline = began.plus(END_WITHIN);
        let found = loop {
            let answered = tokio::time::timeout(CALL_WITHIN, self.client.read(&log, CALL_WITHIN)).await;
            if let Ok(Ok(items)) = answered.map(|answered| answered.result) {
                break Some(items);
            }
            if clock.now().plus(AGAIN_AFTER) >= deadline {
                break None;
            }
            clock.sleep(AGAIN_AFTER).await;
        };
        ReadBack {
            began,
            ended: clock.now(),
            system: self.engine.system.clone(),
            log,
            complete: found.is_some(),
            after: None,
            items: found.unwrap_or_default(),
            changes: Vec::new(),
        }
    }
}

async fn read_back(shared: Arc<Shared>) -> ReadBackSummary {
    let mut summary = ReadBackSummary::default();
    let mut waiting = sender::logs(&shared).into_iter();
    let mut tasks = JoinSet::new();
    loop {
        while tasks.len() < READS_AT_ONCE
            && let Some(log) = waiting.next()
        {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move { shared.read(log).await });
        }
        let Some(ended) = tasks.join_next().await else {
            return summary;
        };
        let Ok(read) = ended else {
            // It panicked, which has been reported; its log counts as not read.
            summary.incomplete += 1;
            continue;
        };
        summary.items += read.items.len() as u64;
        if read.complete {
            summary.complete += 1;
        } else {
            summary.incomplete += 1;
        }
        shared.engine.recorder.record(Event::Read(read));
    }
}
