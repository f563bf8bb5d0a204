//! The runs of one controller: started, watched, stopped.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use super::{
    drive::{Launch, Order},
    live::{Ended, Feed, Tick},
    whole,
};
use crate::{
    backend::journal::StateDir,
    history::{Recorder, phase_name},
    plan::{self, Plan, PlanError},
    scenario::{self, Step},
    system,
};

/// Orders that wait for a run at most.
const ORDERS_MAX: usize = 16;
/// Runs that a controller remembers; the oldest ended ones are forgotten first.
const RUNS_MAX: usize = 64;

/// What is asked of a new run.
#[derive(Clone, Debug, Default)]
pub struct StartRequest {
    /// The scenario file's text.
    pub yaml: String,
    /// What to call the file in messages.
    pub path: String,
    /// Instead of the scenario's own seed.
    pub seed: Option<u64>,
    /// Empty: `process`.
    pub backend: String,
    /// The run's folder; none: `runs/<scenario>/<seed>`, numbered when it is there already.
    pub dir: Option<PathBuf>,
}

/// Why the controller does not do something.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RunError {
    /// The scenario or the order is not valid; with the report.
    #[error("{0}")]
    Invalid(String),
    /// This backend or build can't do it; says what by name.
    #[error("{0}")]
    CapabilityMissing(String),
    /// Another run goes on.
    #[error("{0}")]
    Busy(String),
    /// There is no such run.
    #[error("no run `{0}`; ListRuns names those there are")]
    NotFound(String),
    /// No such fault lasts in the run.
    #[error("no fault `{0}` lasts in this run; ListFaults names the verbs, and the run's events the faults")]
    NoSuchFault(String),
    /// The run is not in a phase in which this can be done.
    #[error("{0}")]
    NotNow(String),
    /// Something failed.
    #[error("{0}")]
    Failure(String),
}

/// What is known of a run.
#[derive(Clone, Debug)]
pub struct RunInfo {
    /// Its id.
    pub id: String,
    /// The scenario's name.
    pub scenario: String,
    /// `running`, `ended`, or `aborted` when it ended because it was asked to.
    pub state: &'static str,
    /// Its folder.
    pub dir: PathBuf,
    /// Empty while it runs.
    pub verdict: String,
    /// 0 while it runs.
    pub exit_code: i32,
    /// The phase it is in, or was in last.
    pub phase: String,
}

/// A fault that was injected by hand.
#[derive(Clone, Debug)]
pub struct Injected {
    /// Its id.
    pub id: String,
    /// `installed`, `skipped` or `indeterminate`.
    pub outcome: String,
    /// What it hit.
    pub targets: Vec<String>,
    /// What was seen.
    pub evidence: String,
}

/// Starts runs, one at a time, and knows those it started. Cheap to clone.
///
/// One at a time, because two would take the processor from each other and each would measure the other.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    runs: Arc<Mutex<BTreeMap<u64, Entry>>>,
}

#[derive(Debug)]
struct Entry {
    scenario: String,
    dir: PathBuf,
    feed: Feed,
    phase: watch::Receiver<Option<crate::history::Phase>>,
    orders: mpsc::Sender<Order>,
    stop: watch::Sender<bool>,
}

impl Controller {
    /// A controller without runs.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Checks, plans and starts a run. Returns when it is under way.
    ///
    /// # Errors
    /// When the scenario is not valid, asks for what is not there, another run goes on, or the folder can't be made.
    pub fn start(&self, request: StartRequest) -> Result<RunInfo, RunError> {
        let path = if request.path.is_empty() {
            "scenario.yaml"
        } else {
            &request.path
        };
        let scenario = scenario::read(path, &request.yaml).map_err(|error| RunError::Invalid(error.render(false)))?;
        let backend = if request.backend.is_empty() {
            "process"
        } else {
            &request.backend
        };
        let plan = plan::plan(&scenario, request.seed, backend).map_err(|error| match error {
            PlanError::Capability(_) => RunError::CapabilityMissing(error.to_string()),
            PlanError::Invalid(_) => RunError::Invalid(error.to_string()),
        })?;
        // A plan is the same on every machine; what this one lacks is named before anything starts.
        if let Some(missing) = plan.systems.iter().find_map(system::missing) {
            return Err(RunError::CapabilityMissing(missing));
        }
        self.launch(plan, request.dir)
    }

    fn launch(&self, plan: Plan, dir: Option<PathBuf>) -> Result<RunInfo, RunError> {
        let mut runs = self.lock();
        if let Some((id, entry)) = runs.iter().find(|(_, entry)| entry.feed.ended.borrow().is_none()) {
            let text = format!(
                "run `{id}` ({}) goes on, and two at a time would measure each other; wait for it or abort it",
                entry.scenario
            );
            return Err(RunError::Busy(text));
        }
        while runs.len() >= RUNS_MAX {
            runs.pop_first();
        }
        let state = StateDir::of_user().map_err(|error| RunError::Failure(error.to_string()))?;
        let dir = super::folder::make(dir, &plan.scenario, plan.seed).map_err(RunError::Failure)?;
        let (recorder_tx, recorder) = watch::channel(None::<Recorder>);
        let (progress_tx, progress) = watch::channel(Tick::default());
        let (ended_tx, ended) = watch::channel(None::<Ended>);
        let (phase_tx, phase) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let (orders, inbox) = mpsc::channel(ORDERS_MAX);
        let id = runs.last_key_value().map_or(1, |(id, _)| id + 1);
        let entry = Entry {
            scenario: plan.scenario.clone(),
            dir: dir.clone(),
            feed: Feed {
                dir: dir.clone(),
                recorder,
                progress,
                ended,
            },
            phase,
            orders,
            stop,
        };
        let info = entry.info(id);
        runs.insert(id, entry);
        whole::spawn(Launch {
            plan,
            dir,
            state,
            recorder: recorder_tx,
            progress: progress_tx,
            phase: phase_tx,
            ended: ended_tx,
            stopped,
            orders: inbox,
        });
        Ok(info)
    }

    /// What a watcher follows.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn feed(&self, id: &str) -> Result<Feed, RunError> {
        self.with(id, |_, entry| entry.feed.clone())
    }

    /// What is known of a run.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn get(&self, id: &str) -> Result<RunInfo, RunError> {
        self.with(id, |id, entry| entry.info(id))
    }

    /// All runs, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<RunInfo> {
        self.lock().iter().map(|(id, entry)| entry.info(*id)).collect()
    }

    /// Heals and ends a run; one that has ended is left alone.
    ///
    /// # Errors
    /// When there is no such run.
    pub fn abort(&self, id: &str) -> Result<(), RunError> {
        self.with(id, |_, entry| {
            entry.stop.send_replace(true);
        })
    }

    /// Injects one step's fault into a run at once; it heals itself after `lease`, or earlier after the step's own
    /// `heal_after`.
    ///
    /// # Errors
    /// When the step is not valid, there is no such run, or it is not in a phase with a system to break.
    pub async fn inject(&self, id: &str, step_yaml: &str, lease: Duration) -> Result<Injected, RunError> {
        let step: Step = serde_saphyr::from_str(step_yaml).map_err(|error| RunError::Invalid(error.to_string()))?;
        let lease = lease_of(&step, lease)?;
        self.order(id, |reply| Order::Inject {
            spec: Box::new(step.fault),
            system: step.system,
            lease,
            reply,
        })
        .await
    }

    /// Heals one fault of a run, or all; returns the ids of those healed.
    ///
    /// # Errors
    /// When there is no such run or fault, or it could not be healed.
    pub async fn heal(&self, id: &str, fault: Option<&str>) -> Result<Vec<String>, RunError> {
        let fault = fault.map(str::to_owned);
        self.order(id, |reply| Order::Heal { fault, reply }).await
    }

    /// Aborts every run and waits until all have healed and ended.
    pub async fn shut_down(&self) {
        let feeds: Vec<Feed> = {
            let runs = self.lock();
            runs.values()
                .map(|entry| {
                    entry.stop.send_replace(true);
                    entry.feed.clone()
                })
                .collect()
        };
        for mut feed in feeds {
            // An error means that the driver is gone, and so is what it would have told.
            let _ = feed.ended.wait_for(Option::is_some).await;
        }
    }

    async fn order<T>(
        &self,
        id: &str,
        order: impl FnOnce(oneshot::Sender<Result<T, RunError>>) -> Order,
    ) -> Result<T, RunError> {
        let orders = self.with(id, |_, entry| entry.orders.clone())?;
        let (reply, answer) = oneshot::channel();
        let not_now = || RunError::NotNow(format!("run `{id}` takes no orders: it has ended, or too many wait"));
        orders.try_send(order(reply)).map_err(|_| not_now())?;
        answer.await.map_err(|_| not_now())?
    }

    fn with<T>(&self, id: &str, look: impl FnOnce(u64, &Entry) -> T) -> Result<T, RunError> {
        let missing = || RunError::NotFound(id.to_owned());
        let number: u64 = id.parse().map_err(|_| missing())?;
        self.lock()
            .get(&number)
            .map(|entry| look(number, entry))
            .ok_or_else(missing)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a step by hand lasts. What it says and can't be done is refused by name.
fn lease_of(step: &Step, lease: Duration) -> Result<Duration, RunError> {
    let refused = |what: &str| {
        Err(RunError::Invalid(format!(
            "`{what}`: a step that is injected by hand begins at once; leave it out, and inject when it is time"
        )))
    };
    match (&step.at, &step.when, step.heal_after) {
        (Some(_), ..) => refused("at"),
        (_, Some(_), _) => refused("when"),
        (_, _, Some(after)) if after.get() > lease => Err(RunError::Invalid(format!(
            "`heal_after: {after}` is longer than the lease of {} ms, which ends the fault first; ask for a longer lease",
            lease.as_millis()
        ))),
        (_, _, Some(after)) => Ok(after.get()),
        _ => Ok(lease),
    }
}

impl Entry {
    fn info(&self, id: u64) -> RunInfo {
        let ended = self.feed.ended.borrow().clone();
        RunInfo {
            id: id.to_string(),
            scenario: self.scenario.clone(),
            state: match &ended {
                None => "running",
                Some(ended) if ended.interrupted => "aborted",
                Some(_) => "ended",
            },
            dir: self.dir.clone(),
            phase: self.phase.borrow().map(phase_name).unwrap_or_default(),
            exit_code: ended.as_ref().map_or(0, |ended| ended.exit_code),
            verdict: ended.map(|ended| ended.verdict).unwrap_or_default(),
        }
    }
}
