//! One outage after another on one cluster.

use std::time::Duration;

use firedrill::{
    base::{Nanos, millis},
    history::Class,
    system::{Stage, System},
    workload::{LoadSpec, ProbeSpec, RetrySpec, ScheduleSpec},
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use crate::{
    common::{Bench, Result},
    probes::{Probe, Probes, longest_gap},
    rig::Rig,
    rows::{Row, Shows},
};

/// Writes of the probe a second.
const PROBES_PER_S: f64 = 1000.0;
const SPACING: Duration = Duration::from_millis(1);
/// Bytes of a write.
const SIZE: u32 = 256;
/// How long a client waits for one answer: shorter than any election timeout here, so that a client that waits for a
/// leader that is gone is not what is measured.
const WITHIN_MS: u64 = 250;
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

/// The outages of one row.
#[derive(Debug, Default)]
pub(crate) struct Outages {
    /// From the fault to the first acknowledgement that shows a new leader.
    pub(crate) first: Vec<Duration>,
    /// The longest time without any acknowledgement.
    pub(crate) silence: Vec<Duration>,
    /// Nothing above is finer than this.
    pub(crate) bound: Duration,
}

/// Measures one row.
pub(crate) async fn measure(bench: &Bench, row: &Row, system: Box<dyn System>, rounds: u32) -> Result<Outages> {
    let name: String = row.name.chars().filter(char::is_ascii_alphanumeric).collect();
    let rig = Rig::start(bench, &name, system).await?;
    rig.well(&row.system.group()).await?;
    let stage = Stage {
        recorder: rig.recorder.clone(),
        clock: rig.clock,
        streams: bench.streams,
        number: 0,
    };
    let mut workload = rig.system.workload(&[load(row.system.class())], stage)?;
    workload.prepare().await?;
    workload.start().await?;
    let mut probes = Probes::new(rig.recorder.clone());
    let mut rng = bench.streams.stream(&format!("phases of {}", row.name));
    let mut outages = Outages::default();
    for round in 1..=rounds {
        let (first, silence) = outage(&rig, row, &mut probes, &mut rng, round).await?;
        eprintln!(
            "{} {round}/{rounds}: {:.1} ms to the first acknowledgement, {:.1} ms without any",
            row.name,
            millis(first),
            millis(silence)
        );
        outages.first.push(first);
        outages.silence.push(silence);
    }
    outages.bound = SPACING + Duration::from_secs_f64(workload.progress().lag_p99_ms / 1e3);
    workload.stop_sending().await;
    workload.shut_down().await;
    rig.tear_down().await?;
    Ok(outages)
}

/// Almost nothing but the probe.
fn load(class: Class) -> LoadSpec {
    LoadSpec {
        system: "main".to_owned(),
        class,
        users: 2,
        devices: 1,
        size_bytes: SIZE,
        schedule: ScheduleSpec::Constant { per_s: 1.0 },
        retry: RetrySpec {
            attempts: 1,
            ..RetrySpec::default()
        },
        op_timeout_ms: WITHIN_MS,
        in_flight_max: 100,
        probe: Some(ProbeSpec { per_s: PROBES_PER_S }),
        request: None,
    }
}

/// One outage, from a cluster that is well to one that is well again.
async fn outage(
    rig: &Rig,
    row: &Row,
    probes: &mut Probes,
    rng: &mut ChaCha8Rng,
    round: u32,
) -> Result<(Duration, Duration)> {
    let leader = well(rig, row, probes).await?;
    let id = format!("{round}");
    let phase = Duration::from_micros(rng.random_range(0..PHASES_MS * 1000));
    let at = rig.clock.now().plus(Duration::from_millis(AHEAD_MS) + phase);
    let injected = rig.engine.inject_at(&id, &(row.fault)(), at).await?;
    let effective = injected
        .effective
        .ok_or_else(|| format!("{}: the fault is {}: {}", row.name, injected.outcome, injected.evidence))?;
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
    rig.engine.heal(&id).await?;
    Ok((first.since(asked), longest_gap(&acknowledged)))
}

/// Waits until the cluster is well and so is the probe; returns who leads.
async fn well(rig: &Rig, row: &Row, probes: &mut Probes) -> Result<String> {
    let deadline = rig.clock.now().plus(WELL_WITHIN);
    loop {
        let leader = rig.well(&row.system.group()).await?;
        let now = rig.clock.now();
        probes.all();
        probes.forget(now.minus(WELL_FOR));
        if probes.well(now, WELL_FOR, 100) {
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
