//! Plays a plan's steps at their instants, heals each at its own, and serves orders in between.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use tokio::task::JoinSet;

use super::{
    drive::{Halt, Order, Run, TICK, stopped},
    runs::{Injected, RunError},
    steady,
};
use crate::{
    base::{Nanos, RunClock},
    fault::{Engine, FaultError, FaultSpec, Injection},
    history::HarnessKind,
    plan::{Start, StepPlan},
    scenario::WhenEvent,
};

/// A step is prepared this long before its instant: whom it hits is asked, and its undo is on disk, when it comes.
const AHEAD: Duration = Duration::from_millis(100);

/// The play of one run's steps.
pub(super) struct Play<'a> {
    run: &'a mut Run,
    began: Nanos,
    pending: VecDeque<StepPlan>,
    /// When the step before began, and the latest term of each group then.
    before: (Nanos, BTreeMap<String, u64>),
    /// When the step before was known to bite, or not to; none while that is open.
    known: Option<Nanos>,
    /// The step before.
    last: Option<String>,
    /// Faults that heal at an instant.
    heals: BTreeMap<(Nanos, String), usize>,
    under_way: JoinSet<Done>,
}

/// What a task of the play came to.
enum Done {
    Injected {
        id: String,
        stage: usize,
        heal_at: Option<Nanos>,
        result: Result<Injection, FaultError>,
    },
    Healed {
        id: String,
        result: Result<(), FaultError>,
    },
}

impl<'a> Play<'a> {
    pub(super) fn new(run: &'a mut Run) -> Self {
        let began = run.clock.now();
        let pending = run.plan.steps.iter().cloned().collect();
        let terms = run.terms();
        Self {
            run,
            began,
            pending,
            before: (began, terms),
            known: Some(began),
            last: None,
            heals: BTreeMap::new(),
            under_way: JoinSet::new(),
        }
    }

    /// Plays all steps, and returns when every one has ended and everything is healed.
    pub(super) async fn through(mut self) -> Result<(), Halt> {
        loop {
            self.begin_due()?;
            self.heal_due();
            if self.pending.is_empty() && self.heals.is_empty() && self.under_way.is_empty() {
                break;
            }
            let until = self.next_instant();
            tokio::select! {
                biased;
                () = stopped(&mut self.run.desk.stopped) => return Err(Halt::Interrupted),
                Some(done) = self.under_way.join_next() => self.on_done(done.map_err(Halt::from)?)?,
                Some(order) = self.run.desk.orders.recv() => self.run.serve(order),
                () = self.run.clock.sleep_until(until) => {}
            }
            self.run.tell_if_due();
        }
        // Faults without an end of their own last until here.
        self.run.heal_all().await
    }

    fn begin_due(&mut self) -> Result<(), Halt> {
        while let Some(step) = self.pending.front() {
            let now = self.run.clock.now();
            match step.at {
                Start::At { ms } if self.began.plus(Duration::from_millis(ms)) > now.plus(AHEAD) => break,
                Start::At { .. } => {}
                Start::When { event, within_ms } => {
                    if !self.happened(event) {
                        if now.since(self.before.0) > Duration::from_millis(within_ms) {
                            let text = format!(
                                "step {}: `{event:?}` did not come within {within_ms} ms of the step before",
                                step.id
                            );
                            self.run.note(HarnessKind::NotTriggered, text);
                            self.pending.pop_front();
                            continue;
                        }
                        break;
                    }
                }
            }
            if let Some(step) = self.pending.pop_front() {
                self.begin(step)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, step: StepPlan) -> Result<(), Halt> {
        let now = self.run.clock.now();
        let planned = match step.at {
            Start::At { ms } => self.began.plus(Duration::from_millis(ms)),
            Start::When { .. } => now,
        };
        self.before = (now, self.run.terms());
        (self.known, self.last) = (None, Some(step.id.clone()));
        let stage = self
            .run
            .stages
            .iter()
            .position(|stage| stage.name == step.system)
            .ok_or_else(|| {
                Halt::Failed(format!(
                    "step {} names the system `{}`, which the plan does not hold",
                    step.id, step.system
                ))
            })?;
        let engine = self.run.stages[stage].engine.clone();
        let heal_at = step.heal_after_ms.map(|ms| planned.plus(Duration::from_millis(ms)));
        self.under_way.spawn(async move {
            let result = engine.inject_at(&step.id, &step.fault, planned).await;
            Done::Injected {
                id: step.id,
                stage,
                heal_at,
                result,
            }
        });
        Ok(())
    }

    fn heal_due(&mut self) {
        let now = self.run.clock.now();
        while let Some(entry) = self.heals.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let ((_, id), stage) = entry.remove_entry();
            let engine = self.run.stages[stage].engine.clone();
            self.under_way.spawn(async move {
                let result = engine.heal(&id).await;
                Done::Healed { id, result }
            });
        }
    }

    fn on_done(&mut self, done: Done) -> Result<(), Halt> {
        match done {
            Done::Injected {
                id,
                stage,
                heal_at,
                result,
            } => {
                if self.last.as_ref() == Some(&id) {
                    self.known = Some(self.run.clock.now());
                }
                let injection = result.map_err(|error| Halt::Failed(format!("inject {id}: {error}")))?;
                if let (true, Some(heal_at)) = (injection.lasts, heal_at) {
                    self.heals.insert((heal_at, id), stage);
                }
            }
            Done::Healed { id, result } => {
                // The history holds the evidence, and the verdict follows from it; the run goes on to what else it can tell.
                if let Err(error) = result {
                    self.run.note(HarnessKind::Note, format!("heal {id}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// The next instant at which something is due, at most a tick away.
    fn next_instant(&self) -> Nanos {
        let mut next = self.run.clock.now().plus(TICK);
        if let Some(StepPlan {
            at: Start::At { ms }, ..
        }) = self.pending.front()
        {
            next = next.min(self.began.plus(Duration::from_millis(*ms)).minus(AHEAD));
        }
        if let Some(((heal_at, _), _)) = self.heals.first_key_value() {
            next = next.min(*heal_at);
        }
        if matches!(
            self.pending.front(),
            Some(StepPlan {
                at: Start::When { .. },
                ..
            })
        ) {
            next = next.min(self.run.clock.now().plus(super::observer::ASK_EVERY));
        }
        next
    }

    fn happened(&self, event: WhenEvent) -> bool {
        match event {
            WhenEvent::LeaderElected => {
                let now = self.run.terms();
                now.iter()
                    .any(|(group, term)| self.before.1.get(group).is_none_or(|before| term > before))
            }
            // What is told is of the last second: it says something of the step before once that has lasted as long.
            WhenEvent::Steady => {
                let told = |known: Nanos| self.run.clock.now().since(known) >= steady::WINDOW;
                self.known.is_some_and(told)
                    && steady::unmet(&self.run.going(), &self.run.plan.steady.require).is_empty()
            }
        }
    }
}

impl Run {
    /// For each group with a leader, the latest term of one.
    fn terms(&self) -> BTreeMap<String, u64> {
        let mut terms = BTreeMap::new();
        for stage in &self.stages {
            for status in stage.seen().values() {
                for group in status.groups.iter().filter(|group| group.leader) {
                    let term = terms.entry(format!("{}/{}", stage.name, group.group)).or_insert(0);
                    *term = group.term.max(*term);
                }
            }
        }
        terms
    }

    /// Ends every fault that still lasts, those included that are being injected by hand.
    pub(super) async fn heal_all(&mut self) -> Result<(), Halt> {
        // Twice: an order under way ends with the first, since its flap is cut short by it, and may have armed another.
        for again in [true, false] {
            for stage in &self.stages {
                if let Err(error) = stage.engine.heal_all().await {
                    self.note(
                        HarnessKind::Note,
                        format!("heal what lasts on `{}`: {error}", stage.name),
                    );
                }
            }
            while again && self.desk.served.join_next().await.is_some() {}
        }
        Ok(())
    }

    /// Begins what is asked from outside, in a phase that has a system to do it to. It goes on by itself, so that no
    /// step waits for its evidence.
    pub(super) fn serve(&mut self, order: Order) {
        // What has ended makes room; there is at most one for each caller that waits for its answer.
        while self.desk.served.try_join_next().is_some() {}
        match order {
            Order::Inject {
                spec,
                system,
                lease,
                reply,
            } => match self.by_hand(&spec, system.as_deref()) {
                Ok((id, engine)) => {
                    let clock = self.clock;
                    self.desk.served.spawn(async move {
                        // Whoever asked may have gone; the fault has its lease.
                        let _ = reply.send(inject(clock, engine, id, &spec, lease).await);
                    });
                }
                Err(error) => {
                    let _ = reply.send(Err(error));
                }
            },
            Order::Heal { fault, reply } => {
                let engines: Vec<_> = self.stages.iter().map(|stage| stage.engine.clone()).collect();
                self.desk.served.spawn(async move {
                    let _ = reply.send(heal(&engines, fault.as_deref()).await);
                });
            }
        }
    }

    /// The engine for a fault that is asked for by hand, and the fault's name.
    fn by_hand(&mut self, spec: &FaultSpec, system: Option<&str>) -> Result<(String, Engine), RunError> {
        let names: Vec<&str> = self.stages.iter().map(|stage| stage.name.as_str()).collect();
        let found = match (system, names.len()) {
            (_, 0) => return Err(RunError::NotNow("the run has no system yet".to_owned())),
            (None, 1) => Some(0),
            (None, _) => None,
            (Some(system), _) => names.iter().position(|name| *name == system),
        };
        let stage = found.map(|index| &self.stages[index]).ok_or_else(|| {
            let asked = system.unwrap_or("(none named)");
            RunError::Invalid(format!("system `{asked}`: this run has {}", names.join(", ")))
        })?;
        spec.check(stage.system.roster())
            .map_err(|error| RunError::Invalid(error.to_string()))?;
        self.desk.injected += 1;
        Ok((
            format!("hand-{}-{}", self.desk.injected, spec.kind()),
            stage.engine.clone(),
        ))
    }
}

async fn inject(
    clock: RunClock,
    engine: Engine,
    id: String,
    spec: &FaultSpec,
    lease: Duration,
) -> Result<Injected, RunError> {
    let (leased, lapsed) = (engine.clone(), id.clone());
    // Ends with the lease, a flap in mid-burst too; by then the run may have healed it, which the engine knows.
    tokio::spawn(async move {
        clock.sleep(lease).await;
        let _ = leased.heal(&lapsed).await;
    });
    let injection = engine
        .inject(&id, spec)
        .await
        .map_err(|error| RunError::Failure(error.to_string()))?;
    Ok(Injected {
        id,
        outcome: injection.outcome.to_owned(),
        targets: injection.targets,
        evidence: injection.evidence,
    })
}

async fn heal(engines: &[Engine], fault: Option<&str>) -> Result<Vec<String>, RunError> {
    let mut healed = Vec::new();
    for engine in engines {
        for id in engine.active() {
            if fault.is_none_or(|fault| fault == id) {
                engine
                    .heal(&id)
                    .await
                    .map_err(|error| RunError::Failure(error.to_string()))?;
                healed.push(id);
            }
        }
    }
    match fault {
        Some(fault) if healed.is_empty() => Err(RunError::NoSuchFault(fault.to_owned())),
        _ => Ok(healed),
    }
}
