//! A whole run against a scripted target in virtual time: hours of outages in seconds, and the same every time.

use std::time::Duration;

use super::{Scripted, client::Served, script::Script};
use crate::{
    base::{Nanos, RunClock, Streams},
    history::{Event, FORMAT, Header, Phase, PhaseEvent, Recorded, Recorder},
    system::{ScriptedSpec, Stage, SystemError},
    workload::{LoadSpec, Workload as _},
};

/// What to rehearse. The script begins when the load does, so that its first outage lies behind warm-up and steady.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The target and its outages.
    pub target: ScriptedSpec,
    /// The load, of class `put` or `request`.
    pub load: LoadSpec,
    /// The seed.
    pub seed: u64,
    /// How long the load warms up.
    pub warm_up: Duration,
    /// How long it then counts as steady; the disturbance begins behind it.
    pub steady: Duration,
    /// How long the load goes on after the last outage.
    pub settle: Duration,
    /// The plan that the header holds.
    pub plan: serde_json::Value,
    /// When the whole harness stands still and for how long, counted as the script's times are.
    pub stalls: Vec<(Duration, Duration)>,
}

/// What came of it, and the truth beside it.
#[derive(Debug)]
pub struct Rehearsed {
    /// The history.
    pub recorded: Recorded,
    /// The script as it was.
    pub script: Script,
    /// What the target itself saw, where its outages have a reaction.
    pub served: Vec<Served>,
}

/// Runs it, and gives the history beside the truth.
///
/// # Errors
/// When the script or the load can't be.
pub fn rehearse(rehearsal: &Rehearsal) -> Result<Rehearsed, SystemError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|e| SystemError(format!("failed to start a runtime: {e}")))?;
    runtime.block_on(run(rehearsal))
}

async fn run(rehearsal: &Rehearsal) -> Result<Rehearsed, SystemError> {
    let clock = RunClock::start_virtual();
    let recorder = Recorder::in_memory(Header {
        format: FORMAT.to_owned(),
        plan: rehearsal.plan.clone(),
        started: "1970-01-01T00:00:00Z".to_owned(),
        versions: std::collections::BTreeMap::new(),
    });
    let phase = |phase| {
        let at = clock.now();
        recorder.record(Event::Phase(PhaseEvent { at, phase }));
    };
    let system = Scripted::new(&rehearsal.load.system, &rehearsal.target)?;
    let stage = Stage {
        recorder: recorder.clone(),
        clock,
        streams: Streams::new(rehearsal.seed),
        number: 0,
    };
    let failed = |e: crate::workload::WorkloadError| SystemError(e.0);
    let mut workload = system.scripted_workload(std::slice::from_ref(&rehearsal.load), stage)?;
    let client = std::sync::Arc::clone(&workload.client);
    phase(Phase::Prepare);
    workload.prepare().await.map_err(failed)?;
    phase(Phase::WarmUp);
    let begin = clock.now();
    workload.start().await.map_err(failed)?;
    for (at, lasts) in rehearsal.stalls.iter().copied() {
        tokio::spawn(async move {
            clock.sleep_until(begin.plus(at)).await;
            clock.stand_still(lasts).await;
        });
    }
    clock.sleep(rehearsal.warm_up).await;
    phase(Phase::Steady);
    clock.sleep(rehearsal.steady).await;
    phase(Phase::Disturb);
    let script = Script::new(&rehearsal.target, begin);
    let last = script.windows().into_iter().map(|(_, to)| to).max();
    // The telling of the last outage's end comes first at that instant.
    clock
        .sleep_until(last.unwrap_or(Nanos(0)).plus(Duration::from_millis(1)))
        .await;
    phase(Phase::Settle);
    clock.sleep(rehearsal.settle).await;
    workload.stop_sending().await;
    phase(Phase::Drain);
    workload.drain(Duration::from_secs(1)).await;
    phase(Phase::Fence);
    workload.fence().await.map_err(failed)?;
    phase(Phase::ReadBack);
    workload.read_back().await;
    phase(Phase::TearDown);
    workload.shut_down().await;
    Ok(Rehearsed {
        recorded: recorder.recorded(),
        script,
        served: client.served(),
    })
}
