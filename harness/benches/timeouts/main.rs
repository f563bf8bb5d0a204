//! What a shorter election timeout costs and what it buys: elections that nobody needed while other programs want the
//! processors, against how long a leader that says nothing more is waited for.
//!
//! For each timeout there is a cluster. First threads that do nothing but count burn the processors, while a probe writes
//! and nothing fails: each term that is begun is a false election. Then, without them, the leader is frozen again and again.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/messaging.rs"]
mod messaging;
#[path = "../failover/outage.rs"]
mod outage;
#[path = "../failover/probes.rs"]
mod probes;
#[path = "../common/rig.rs"]
mod rig;
mod rows;

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use common::{About, Bench, Distribution, Result, Table};
use firedrill::{system::System, target::group_of};
use rig::Rig;

const ABOUT: About = About {
    name: "timeouts",
    measures: "false elections under load against the wait for a leader that is silent, for each election timeout",
};

/// Shortest election timeouts, milliseconds; the longest is twice as much, and six heartbeats fit into one.
const TIMEOUTS_MS: [u32; 5] = [100, 150, 300, 600, 1200];
/// Threads that burn, for each processor.
const BURNERS: usize = 4;
/// Writes a second that are to be acknowledged meanwhile.
const RATE: u32 = 300;

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

/// Threads that want the processors, until this is dropped.
struct Fire {
    burns: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Fire {
    fn light() -> Self {
        let burns = Arc::new(AtomicBool::new(true));
        let count = thread::available_parallelism().map_or(1, usize::from) * BURNERS;
        let burn = |burns: Arc<AtomicBool>| {
            let counted = AtomicU64::new(0);
            while burns.load(Ordering::Relaxed) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        };
        let threads = (0..count).map(|_| {
            let burns = Arc::clone(&burns);
            thread::spawn(move || burn(burns))
        });
        Self {
            threads: threads.collect(),
            burns,
        }
    }
}

impl Drop for Fire {
    fn drop(&mut self) {
        self.burns.store(false, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

async fn measure(bench: &Bench) -> Result<()> {
    let (burns_for, timeouts) = match bench.args.quick {
        true => (Duration::from_secs(1), &TIMEOUTS_MS[2..3]),
        false => (Duration::from_secs(30), &TIMEOUTS_MS[..]),
    };
    let rounds = bench.args.rounds(1, 20);
    let mut table = Table::new(
        format!(
            "Elections that nobody needed in {burns_for:?} of burning, and the wait for a frozen leader's successor"
        ),
        &[
            &["election timeout", "false elections", "not acknowledged"][..],
            &Distribution::HEAD,
        ]
        .concat(),
    );
    for &election_ms in timeouts {
        let name = format!("{election_ms} to {} ms", 2 * election_ms);
        if !bench.args.wants(&name) {
            continue;
        }
        let (elections, failed) = burn(bench, election_ms, burns_for).await?;
        let row = rows::frozen(election_ms);
        let system = rows::make(bench.args.seed, election_ms)?;
        let outages = outage::measure(bench, &row, RATE, system, rounds).await?;
        let cells = Distribution::of(outages.first).cells();
        table.row(
            name,
            [elections.to_string(), failed.to_string()].into_iter().chain(cells),
        );
    }
    table.note(format!(
        "{BURNERS} burning threads for each processor, and a probe of {RATE} writes a second, each tried once. The wait is \
         from the freeze to the first write that a successor acknowledged, on the machine as it was without the fire."
    ));
    bench.print(&table);
    Ok(())
}

/// Terms that began while everything burnt, and writes that were not acknowledged.
async fn burn(bench: &Bench, election_ms: u32, lasts: Duration) -> Result<(u64, usize)> {
    let rig = Rig::start(
        bench,
        &format!("burn{election_ms}"),
        rows::make(bench.args.seed, election_ms)?,
    )
    .await?;
    rig.well(&group_of(0)).await?;
    let mut workload = outage::probe(bench, &rig, &rows::frozen(election_ms), RATE)?;
    workload.prepare().await?;
    workload.start().await?;
    rig.well(&group_of(0)).await?;
    let before = term(&*rig.system).await;
    let fire = Fire::light();
    rig.clock.sleep(lasts).await;
    drop(fire);
    workload.stop_sending().await;
    rig.well(&group_of(0)).await?;
    let after = term(&*rig.system).await;
    let mut probes = probes::Probes::new(rig.recorder.clone());
    let failed = probes.all().iter().filter(|probe| !probe.ok).count();
    workload.shut_down().await;
    rig.tear_down().await?;
    Ok((after.saturating_sub(before), failed))
}

/// The highest term of the shard that any node knows.
async fn term(system: &dyn System) -> u64 {
    let mut highest = 0;
    for node in &system.roster().nodes {
        if let Some(status) = system.observe(&node.name).await {
            highest = status.groups.iter().map(|group| group.term).fold(highest, u64::max);
        }
    }
    highest
}
