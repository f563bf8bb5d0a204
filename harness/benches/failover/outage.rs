//! One outage after another on one cluster.

use std::time::Duration;

use firedrill::{
    base::{Nanos, millis},
    system::{Stage, System},
    workload::{LoadSpec, ProbeSpec, RetrySpec, ScheduleSpec, Workload},
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    common::{Bench, Result},
    probes::{Probe, Probes, longest_gap},
    rig::Rig,
    rows::{Row, Shows},
};

/// Bytes of a write.
const SIZE: u32 = 256;
/// How a client repeats a write that it is told surely did not happen: soon, and never so often that it gives up on a
/// leadership that changes hands.
const RETRIES: RetrySpec = RetrySpec {
    attempts: 50,
    base_ms: 1,
    cap_ms: 5,
    budget_percent: 100,
    budget_per_s: 1000,
    back_off: true,
    budget: false,
};
/// All writes are acknowledged for this long before each fault.
const WELL_FOR: Duration = Duration::from_millis(500);
const WELL_WITHIN: Duration = Duration::from_secs(60);
/// How long a fault may last before there is an acknowledgement again.
const OVER_WITHIN: Duration = Duration::from_secs(60);
/// Relapses are looked for until this long after the first acknowledgement.
const AFTER: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Whom the fault hits is found out this long before its instant, as in a run.
const AHEAD_MS: u64 = 50;
/// The instant is drawn from this long behind it: many heartbeats of every row.
const PHASES_MS: u64 = 700;

/// How densely the probe writes, and how patiently.
#[derive(Clone, Copy)]
struct Pace {
    /// Between two writes.
    spacing: Duration,
    /// How long a client waits for one answer.
    within_ms: u64,
}

impl Pace {
    /// A thousand writes a second, each given up before any election timeout here has passed, so that a client that waits
    /// for a leader that is gone is not what is measured.
    const FULL: Self = Self {
        spacing: Duration::from_millis(1),
        within_ms: 250,
    };
    /// What an unoptimised build keeps up with on a busy machine.
    const QUICK: Self = Self {
        spacing: Duration::from_millis(10),
        within_ms: 1000,
    };

    /// So many writes a second, as patiently as [`Pace::FULL`]; in a quick round as [`Pace::QUICK`].
    fn of(bench: &Bench, per_s: u32) -> Self {
        if bench.args.quick {
            return Self::QUICK;
        }
        Self {
            spacing: Duration::from_secs(1) / per_s,
            ..Self::FULL
        }
    }

    fn per_s(self) -> f64 {
        1.0 / self.spacing.as_secs_f64()
    }

    /// Writes that a stretch of all being well has at least: half of those that were meant.
    fn expected(self, stretch: Duration) -> u128 {
        stretch.as_nanos() / self.spacing.as_nanos() / 2
    }
}

/// The outages of one row.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// From the fault to the first acknowledgement that shows a new leader.
    pub(crate) first: Vec<Duration>,
    /// The longest time without any acknowledgement.
    pub(crate) silence: Vec<Duration>,
    /// How long each write around a fault took, from when it was meant to be sent, all its attempts included.
    pub(crate) writes: Vec<Duration>,
    /// Writes around a fault that were not acknowledged in the end.
    pub(crate) failed: u64,
    /// Faults that were not seen to happen, such as a transfer that the leader gave up: no samples.
    pub(crate) not_applied: u32,
    /// Nothing above is finer than this.
    pub(crate) bound: Duration,
}

/// One of them.
struct Outage {
    /// Just before the fault was applied.
    asked: Nanos,
    /// The first acknowledgement that shows a new leader.
    first: Nanos,
    /// The longest stretch without any acknowledgement.
    silence: (Nanos, Nanos),
    /// How long each write around it took, if it was acknowledged.
    writes: Vec<Option<Duration>>,
}

/// Measures one row.
pub(crate) async fn measure(
    bench: &Bench,
    row: &Row,
    per_s: u32,
    system: Box<dyn System>,
    rounds: u32,
) -> Result<Outages> {
    let name = format!(
        "{}{per_s}",
        row.name.replace(|it: char| !it.is_ascii_alphanumeric(), "")
    );
    let rig = Rig::start(bench, &name, system).await?;
    rig.well(&row.system.group()).await?;
    let pace = Pace::of(bench, per_s);
    let mut workload = probe(bench, &rig, row, per_s)?;
    workload.prepare().await?;
    workload.start().await?;
    let mut probes = Probes::new(rig.recorder.clone());
    let mut rng = bench.streams.stream(&format!("phases of {}", row.name));
    let mut outages = Outages::default();
    for round in 1..=rounds {
        let outage = match outage(&rig, row, &mut probes, (&mut rng, pace), round).await? {
            Ok(outage) => outage,
            Err(why) => {
                eprintln!("{} {round}/{rounds}: {why}", row.name);
                outages.not_applied += 1;
                continue;
            }
        };
        let (from, to) = outage.silence;
        eprintln!(
            "{} {round}/{rounds}: first acknowledgement after {:.1} ms, none from {:.1} to {:.1} ms",
            row.name,
            millis(outage.first.since(outage.asked)),
            from.as_millis_f64() - outage.asked.as_millis_f64(),
            to.as_millis_f64() - outage.asked.as_millis_f64()
        );
        outages.first.push(outage.first.since(outage.asked));
        outages.silence.push(to.since(from));
        outages.failed += outage.writes.iter().filter(|took| took.is_none()).count() as u64;
        outages.writes.extend(outage.writes.into_iter().flatten());
    }
    outages.bound = pace.spacing + Duration::from_secs_f64(workload.progress().lag_p99_ms / 1e3);
    workload.stop_sending().await;
    workload.shut_down().await;
    rig.tear_down().await?;
    Ok(outages)
}

/// A load that is almost nothing but the probe of a row, which has not begun.
pub(crate) fn probe(bench: &Bench, rig: &Rig, row: &Row, per_s: u32) -> Result<Box<dyn Workload>> {
    let stage = Stage {
        recorder: rig.recorder.clone(),
        clock: rig.clock,
        streams: bench.streams,
        number: 0,
    };
    Ok(rig.system.workload(&[load(row, Pace::of(bench, per_s))], stage)?)
}

fn load(row: &Row, pace: Pace) -> LoadSpec {
    let once = RetrySpec {
        attempts: 1,
        ..RetrySpec::default()
    };
    LoadSpec {
        system: "main".to_owned(),
        class: row.system.class(),
        users: 2,
        devices: 1,
        size_bytes: SIZE,
        schedule: ScheduleSpec::Constant { per_s: 1.0 },
        retry: if row.retried { RETRIES } else { once },
        op_timeout_ms: pace.within_ms,
        in_flight_max: 100,
        probe: Some(ProbeSpec { per_s: pace.per_s() }),
        request: None,
        group: None,
        life: None,
    }
}

/// One outage, from a cluster that is well to one that is well again. The reason when the fault was not seen to happen.
async fn outage(
    rig: &Rig,
    row: &Row,
    probes: &mut Probes,
    (rng, pace): (&mut ChaCha8Rng, Pace),
    round: u32,
) -> Result<std::result::Result<Outage, String>> {
    let leader = well(rig, row, probes, pace).await?;
    let id = format!("{round}");
    let phase = Duration::from_micros(rng.random_range(0..PHASES_MS * 1000));
    let at = rig.clock.now().plus(Duration::from_millis(AHEAD_MS) + phase);
    let injected = rig.engine.inject_at(&id, &(row.fault)(), at).await?;
    let Some(effective) = injected.effective else {
        rig.engine.heal(&id).await?;
        return Ok(Err(format!("the fault is {}: {}", injected.outcome, injected.evidence)));
    };
    if !injected.targets.iter().any(|target| target.contains(leader.as_str())) {
        return Err(format!("{}: {leader} led, and {:?} was hit", row.name, injected.targets).into());
    }
    let asked = probes.asked(&id).ok_or("the fault is not in the history")?;
    let shows = |probe: &Probe| match row.shows {
        Shows::SentLater => probe.ok && probe.sent >= effective,
        Shows::OtherNode => probe.ok && probe.done >= asked && probe.by.as_deref().is_some_and(|by| by != leader),
    };
    let first = first(rig, probes, shows).await?;
    rig.clock.sleep_until(first.plus(AFTER)).await;
    let around = |probe: &&Probe| probe.ok && probe.done >= asked.minus(AFTER) && probe.done <= first.plus(AFTER);
    let mut acknowledged: Vec<Nanos> = probes.all().iter().filter(around).map(|probe| probe.done).collect();
    acknowledged.sort_unstable();
    let meant = |probe: &&Probe| probe.intended >= asked.minus(AFTER) && probe.intended <= first;
    let writes = probes.all().iter().filter(meant);
    let writes = writes.map(|probe| probe.ok.then(|| probe.done.since(probe.intended)));
    let writes = writes.collect();
    rig.engine.heal(&id).await?;
    Ok(Ok(Outage {
        asked,
        first,
        silence: longest_gap(&acknowledged),
        writes,
    }))
}

/// Waits until the cluster is well and so is the probe; returns who leads.
async fn well(rig: &Rig, row: &Row, probes: &mut Probes, pace: Pace) -> Result<String> {
    let deadline = rig.clock.now().plus(WELL_WITHIN);
    loop {
        let leader = rig.well(&row.system.group()).await?;
        let now = rig.clock.now();
        probes.all();
        probes.forget(now.minus(WELL_FOR));
        if probes.well(now, WELL_FOR, pace.expected(WELL_FOR)) {
            return Ok(leader);
        }
        if now >= deadline {
            return Err(format!("{}: the probe is not well after {WELL_WITHIN:?}", row.name).into());
        }
        rig.clock.sleep(LOOK_EVERY).await;
    }
}

/// Waits for the first acknowledgement of those that `shows` takes.
async fn first(rig: &Rig, probes: &mut Probes, shows: impl Fn(&Probe) -> bool) -> Result<Nanos> {
    let deadline = rig.clock.now().plus(OVER_WITHIN);
    loop {
        let found = probes.all().iter().filter(|probe| shows(probe)).map(|probe| probe.done);
        if let Some(first) = found.min() {
            return Ok(first);
        }
        if rig.clock.now() >= deadline {
            return Err(format!("nothing was acknowledged for {OVER_WITHIN:?}").into());
        }
        rig.clock.sleep(LOOK_EVERY).await;
    }
}
