//! The sequence of a run. [`sequence`] reads like the list in the documentation; everything else serves it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    live::{Ended, Tick},
    runs::{Injected, RunError},
    stage::Stage,
    steady,
    steps::Play,
};
use crate::{
    backend::journal::StateDir,
    base::{Nanos, RunClock},
    fault::FaultSpec,
    history::{Event, HarnessEvent, HarnessKind, Phase, PhaseEvent, Recorder},
    plan::Plan,
    workload::Progress,
};

/// How often the load is looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// How often watchers are told of it.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// The piece in which the drain is awaited, so that its progress can be told.
const DRAIN_PIECE: Duration = Duration::from_millis(500);

/// What is asked of a run from outside.
#[derive(Debug)]
pub(super) enum Order {
    /// Inject a fault now.
    Inject {
        spec: Box<FaultSpec>,
        /// The system to break; none for the only one.
        system: Option<String>,
        lease: Duration,
        reply: oneshot::Sender<Result<Injected, RunError>>,
    },
    /// Heal one fault, or all.
    Heal {
        fault: Option<String>,
        reply: oneshot::Sender<Result<Vec<String>, RunError>>,
    },
}

/// All that a run needs to begin.
pub(super) struct Launch {
    pub(super) plan: Plan,
    pub(super) dir: PathBuf,
    /// Where the run leaves word of itself.
    pub(super) state: StateDir,
    pub(super) recorder: watch::Sender<Option<Recorder>>,
    pub(super) progress: watch::Sender<Tick>,
    pub(super) phase: watch::Sender<Option<Phase>>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// Why a run did not go through its whole sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It was asked to stop.
    Interrupted,
    /// The steady state was not reached; there is nothing to measure against.
    NotSteady,
    /// The harness, or the system before any fault, failed.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Halt {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        Self::Failed(text)
    }
}

/// A run under way.
pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) clock: RunClock,
    pub(super) recorder: Recorder,
    pub(super) stages: Vec<Stage>,
    pub(super) desk: Desk,
}

/// What goes in and out of a run while it goes on.
pub(super) struct Desk {
    pub(super) progress: watch::Sender<Tick>,
    pub(super) phase: watch::Sender<Option<Phase>>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) orders: mpsc::Receiver<Order>,
    pub(super) told: Nanos,
    /// Faults injected by hand so far.
    pub(super) injected: u32,
    /// Orders under way.
    pub(super) served: JoinSet<()>,
}

/// The sequence. Every way out of it is followed by healing, tearing down and judging.
pub(super) async fn sequence(run: &mut Run) -> Result<(), Halt> {
    run.enter(Phase::Prepare);
    run.start_systems().await?;
    run.prepare_load().await?;

    run.enter(Phase::WarmUp);
    run.start_load().await?;
    let steady = run.await_steady().await?;

    run.enter(Phase::Disturb);
    Play::new(run).through().await?;

    run.enter(Phase::Settle);
    run.settle(&steady).await?;

    run.enter(Phase::Drain);
    run.drain().await?;

    run.enter(Phase::Fence);
    run.fence().await?;

    run.enter(Phase::ReadBack);
    run.read_back().await
}

impl Run {
    pub(super) fn enter(&self, phase: Phase) {
        self.recorder.record(Event::Phase(PhaseEvent {
            at: self.clock.now(),
            phase,
        }));
        self.desk.phase.send_replace(Some(phase));
    }

    pub(super) fn note(&self, kind: HarnessKind, text: impl Into<String>) {
        self.recorder.record(Event::Harness(HarnessEvent {
            at: self.clock.now(),
            kind,
            text: text.into(),
        }));
    }

    async fn start_systems(&mut self) -> Result<(), Halt> {
        let Self { stages, desk, .. } = self;
        desk.unless_stopped(async {
            for stage in stages {
                stage.start().await?;
            }
            Ok(())
        })
        .await
    }

    async fn prepare_load(&mut self) -> Result<(), Halt> {
        let Self { stages, desk, .. } = self;
        desk.unless_stopped(async {
            for stage in stages {
                stage.workload.prepare().await?;
            }
            Ok(())
        })
        .await
    }

    async fn start_load(&mut self) -> Result<(), Halt> {
        for stage in &mut self.stages {
            stage.workload.start().await?;
        }
        Ok(())
    }

    /// Waits until the conditions have held for as long as the plan says. The phase `steady` begins when they first
    /// hold, and all of it fits into `within`; when they did not hold long enough the run goes back to its warm-up, and the
    /// history takes the stretch that broke off for that. Gives how the load went then.
    async fn await_steady(&mut self) -> Result<Vec<steady::Going>, Halt> {
        let steady = self.plan.steady.clone();
        let deadline = self.clock.now().plus(Duration::from_millis(steady.within_ms));
        let mut since: Option<Nanos> = None;
        loop {
            self.tick().await?;
            let now = self.clock.now();
            let going = self.going();
            let unmet = steady::unmet(&going, &steady.require);
            match (unmet.is_empty(), since) {
                (true, Some(began)) if now.since(began) >= Duration::from_millis(steady.for_ms) => return Ok(going),
                (true, Some(_)) => {}
                (true, None) => {
                    self.enter(Phase::Steady);
                    since = Some(now);
                }
                (false, Some(_)) => {
                    self.enter(Phase::WarmUp);
                    since = None;
                }
                (false, None) => {}
            }
            if now > deadline {
                let held = since.map(|since| format!("it had held for {} ms", now.since(since).as_millis()));
                let why = held.unwrap_or_else(|| unmet.join("; "));
                self.note(
                    HarnessKind::NotSteady,
                    format!("the steady state was not reached within {} ms: {why}", steady.within_ms),
                );
                return Err(Halt::NotSteady);
            }
        }
    }

    /// Lets the load go on after the last heal until it is steady again for as long as `hold`, with a bound. That replicas
    /// lag or sessions are still away counts as not steady, however well the load of those who are here goes.
    async fn settle(&mut self, before: &[steady::Going]) -> Result<(), Halt> {
        let settle = self.plan.settle;
        let hold = Duration::from_millis(settle.hold_ms);
        let deadline = self.clock.now().plus(Duration::from_millis(settle.within_ms));
        let began = self.clock.now();
        let mut since: Option<Nanos> = None;
        loop {
            self.tick().await?;
            let now = self.clock.now();
            let unsettled = steady::unsettled(before, &self.going(), &self.plan.steady.require, self.redundant());
            since = if unsettled.is_empty() {
                since.or(Some(now))
            } else {
                None
            };
            // Twice the hold: the figures need one whole stretch, and its first second is still the rolling window's.
            let held = since.is_some_and(|since| now.since(since) >= hold * 2);
            if held && now.since(began) >= hold * 2 {
                return Ok(());
            }
            if now > deadline {
                let why = match unsettled.is_empty() {
                    true => "it has not held for long enough yet".to_owned(),
                    false => unsettled.join("; "),
                };
                let text = format!("the load did not settle within {} ms: {why}", settle.within_ms);
                self.note(HarnessKind::Note, text);
                return Ok(());
            }
        }
    }

    async fn drain(&mut self) -> Result<(), Halt> {
        // A fault by hand may still last: what is owed can only come when nothing is broken any more.
        self.heal_all().await?;
        let Self { stages, desk, .. } = &mut *self;
        desk.unless_stopped(async {
            for stage in stages {
                stage.workload.stop_sending().await;
            }
            Ok(())
        })
        .await?;
        let within = Duration::from_millis(self.plan.drain_within_ms);
        let deadline = self.clock.now().plus(within);
        for index in 0..self.stages.len() {
            loop {
                let left = deadline.since(self.clock.now());
                let Self { stages, desk, .. } = &mut *self;
                let piece = stages[index].workload.drain(left.min(DRAIN_PIECE));
                let drained = desk.unless_stopped(async { Ok(piece.await) }).await?;
                self.tell();
                if drained {
                    break;
                }
                if left.is_zero() {
                    let owed = self.stages[index].workload.owed();
                    let text = format!("{owed} deliveries were still owed {within:?} after the load had ended");
                    self.note(HarnessKind::NotDrained, text);
                    break;
                }
            }
        }
        Ok(())
    }

    async fn fence(&mut self) -> Result<(), Halt> {
        for index in 0..self.stages.len() {
            let Self { stages, desk, .. } = &mut *self;
            let fenced = desk
                .unless_stopped(async { Ok(stages[index].workload.fence().await) })
                .await?;
            if let Err(error) = fenced {
                self.note(
                    HarnessKind::NotFenced,
                    format!("the fence was not confirmed, so what is absent may only be late: {error}"),
                );
            }
        }
        Ok(())
    }

    async fn read_back(&mut self) -> Result<(), Halt> {
        for index in 0..self.stages.len() {
            let Self { stages, desk, .. } = &mut *self;
            let read = desk
                .unless_stopped(async { Ok(stages[index].workload.read_back().await) })
                .await?;
            if read.incomplete > 0 {
                let text = format!(
                    "{} of {} logs could not be read to their end",
                    read.incomplete,
                    read.incomplete + read.complete
                );
                self.note(HarnessKind::Note, text);
            }
        }
        Ok(())
    }

    /// Whether every replica of every group has applied what its leader has committed, give or take what is under way.
    fn redundant(&self) -> bool {
        self.stages.iter().all(Stage::redundant)
    }

    /// One tick: waits, serves orders, tells watchers.
    pub(super) async fn tick(&mut self) -> Result<(), Halt> {
        let until = self.clock.now().plus(TICK);
        self.attend_until(until).await
    }

    /// Serves orders until `until`.
    pub(super) async fn attend_until(&mut self, until: Nanos) -> Result<(), Halt> {
        loop {
            let order = tokio::select! {
                biased;
                () = stopped(&mut self.desk.stopped) => return Err(Halt::Interrupted),
                Some(order) = self.desk.orders.recv() => order,
                () = self.clock.sleep_until(until) => break,
            };
            self.serve(order);
        }
        self.tell_if_due();
        Ok(())
    }

    pub(super) fn tell_if_due(&mut self) {
        if self.clock.now().since(self.desk.told) >= TELL_EVERY {
            self.tell();
        }
    }

    /// How all loads go together.
    /// How the load of each system goes.
    pub(super) fn going(&self) -> Vec<steady::Going> {
        let stages = self.stages.iter();
        stages
            .map(|stage| (stage.name.clone(), stage.workload.progress()))
            .collect()
    }

    /// All of it in one, for people.
    pub(super) fn progress(&self) -> Progress {
        let mut all = Progress::default();
        for stage in &self.stages {
            merge(&mut all, stage.workload.progress());
        }
        all
    }

    fn tell(&mut self) {
        let at = self.clock.now();
        self.desk.told = at;
        let faults_active = self
            .stages
            .iter()
            .map(|stage| stage.engine.active().len())
            .sum::<usize>();
        let faults_active = u32::try_from(faults_active).unwrap_or(u32::MAX);
        self.desk.progress.send_replace(Tick {
            at,
            progress: self.progress(),
            faults_active,
        });
    }
}

impl Desk {
    /// Runs `work` to its end unless the run is asked to stop. Orders wait.
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = Result<T, Halt>>) -> Result<T, Halt> {
        tokio::select! {
            biased;
            () = stopped(&mut self.stopped) => Err(Halt::Interrupted),
            done = work => done,
        }
    }
}

/// Ready once the run is asked to stop. A controller that has gone asks too: nobody is left to watch.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Adds one system's progress to another's. Rates of a class that both have are those with more traffic.
fn merge(all: &mut Progress, one: Progress) {
    let mut classes: BTreeMap<_, _> = std::mem::take(&mut all.classes);
    for (class, more) in one.classes {
        let sum = classes.entry(class).or_default();
        if more.recent > sum.recent {
            (sum.success, sum.p99_ms, sum.p50_ms) = (more.success, more.p99_ms, more.p50_ms);
        }
        sum.ok += more.ok;
        sum.failed += more.failed;
        sum.unknown += more.unknown;
        sum.shed += more.shed;
        sum.recent += more.recent;
    }
    all.classes = classes;
    all.owed += one.owed;
    all.sessions_connected += one.sessions_connected;
    all.sessions_total += one.sessions_total;
    all.lag_p99_ms = all.lag_p99_ms.max(one.lag_p99_ms);
}
