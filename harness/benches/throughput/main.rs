//! Acknowledged writes a second of three nodes that sync before they acknowledge: the messaging service, and etcd where
//! it is installed, with as many clients in flight as the row says.
//!
//! A number in flight can only be held by clients that wait for their answers, so this is the one place where a load is
//! closed-loop. Both systems are asked by the same loop, at the node that leads, with bodies of the same size, in turn.

#[path = "../common/accounts.rs"]
mod accounts;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/etcd.rs"]
mod etcd;
mod in_flight;
mod messages;
#[path = "../common/messaging.rs"]
mod messaging;
mod puts;
#[path = "../common/rig.rs"]
mod rig;

use std::{process::ExitCode, sync::Arc, time::Duration};

use common::{About, Bench, Distribution, Result, Table};
use firedrill::{system::clients::ETCD_GROUP, target::group_of};
use in_flight::{Attempts, Measured, hold};
use messages::Messages;
use puts::Puts;
use rig::Rig;

/// Bytes of a body.
pub(crate) const SIZE: usize = 256;
/// Shards of the messaging service, as in the scenarios.
const SHARDS: u32 = 4;
/// Clients in flight.
const LEVELS: [usize; 3] = [1, 16, 256];
const WARM_UP: Duration = Duration::from_secs(1);

const ABOUT: About = About {
    name: "throughput",
    measures: "acknowledged writes a second of three nodes that sync before they acknowledge",
};

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

async fn measure(bench: &Bench) -> Result<()> {
    let mut systems: Vec<(&str, Rig, Arc<dyn Attempts>)> = Vec::new();
    let mut absent = None;
    if bench.args.wants("messaging") {
        // As where nobody rehearses: what is not synced is the kernel's to keep.
        let settings = [("volatile_write_cache", false.into())];
        let system = messaging::messaging(bench.args.seed, SHARDS, &settings)?;
        let rig = Rig::start(bench, "messaging", system).await?;
        for shard in 0..SHARDS {
            rig.well(&group_of(shard)).await?;
        }
        let clients = LEVELS.iter().copied().max().unwrap_or_default();
        let messages = Messages::prepare(&rig, clients).await?;
        systems.push(("messaging", rig, Arc::new(messages)));
    }
    if bench.args.wants("etcd") {
        match etcd::etcd(&[])? {
            Ok(system) => {
                let rig = Rig::start(bench, "etcd", system).await?;
                let leader = rig.well(ETCD_GROUP).await?;
                let puts = Puts::at(&rig, &leader)?;
                systems.push(("etcd", rig, Arc::new(puts)));
            }
            Err(why) => absent = Some(why),
        }
    }
    let rounds = bench.args.rounds(1, 3);
    let (warm_up, lasts) = if bench.args.quick {
        (Duration::from_millis(100), Duration::from_millis(500))
    } else {
        (WARM_UP, Duration::from_secs(5))
    };
    let mut table = Table::new(
        format!("Acknowledged writes of {SIZE} bytes, {rounds} times {lasts:?} for each row, the systems in turn"),
        &[
            &["system, clients in flight", "per second"][..],
            &Distribution::HEAD,
            &["failed"],
        ]
        .concat(),
    );
    for clients in LEVELS {
        let mut measured: Vec<Measured> = systems.iter().map(|_| Measured::default()).collect();
        for _ in 0..rounds {
            for ((_, _, attempts), measured) in systems.iter().zip(&mut measured) {
                measured.add(hold(bench.clock, attempts, clients, warm_up, lasts).await?);
            }
        }
        let rates: Vec<f64> = measured.iter().map(Measured::per_second).collect();
        for ((name, ..), measured) in systems.iter().zip(measured) {
            let rate = format!("{:.0}", measured.per_second());
            let failed = measured.failed.to_string();
            let cells = Distribution::of(measured.took).cells();
            table.row(
                format!("{name}, {clients}"),
                [rate].into_iter().chain(cells).chain([failed]),
            );
        }
        if let Some(why) = &absent {
            table.row(format!("etcd, {clients}"), [why.clone()]);
        }
        if let [ours, theirs] = rates[..] {
            table.row(format!("ratio, {clients}"), [format!("{:.2}", ours / theirs)]);
        }
    }
    table.note(format!(
        "The messaging service has {SHARDS} shards; each message is committed twice, in the shard of its conversation and \
         in that of its recipient, of which the first is acknowledged. Nodes reach each other through links, clients \
         reach nodes directly."
    ));
    bench.print(&table);
    for (_, rig, _) in systems {
        rig.tear_down().await?;
    }
    Ok(())
}
