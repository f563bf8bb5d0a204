//! How long nobody's write is acknowledged when the leader goes: killed, cut off, stopped or asked to hand over, at random
//! phases of its heartbeat, under a probe of a thousand writes a second on what it leads.
//!
//! Each row has a cluster of its own. etcd is measured by the same probe where it is installed, at its default timeouts
//! and at the messaging service's.

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/etcd.rs"]
mod etcd;
#[path = "../common/messaging.rs"]
mod messaging;
mod outage;
mod probes;
#[path = "../common/rig.rs"]
mod rig;
mod rows;

use std::process::ExitCode;

use common::{About, Bench, Distribution, Result, Table, show};
use outage::Outages;
use rows::ROWS;

const ABOUT: About = About {
    name: "failover",
    measures: "from the loss of a leader to the first write that is acknowledged again",
};

fn main() -> ExitCode {
    common::main(&ABOUT, measure)
}

async fn measure(bench: &Bench) -> Result<()> {
    let head = [&["row"][..], &Distribution::HEAD, &["probe ±", "not applied"]].concat();
    let mut first = Table::new(
        "From the fault to the first acknowledgement of a write that needed a new leader",
        &head,
    );
    let mut silence = Table::new("The longest time without any acknowledgement around it", &head);
    for row in ROWS.iter().filter(|row| bench.args.wants(row.name)) {
        let rounds = bench.args.rounds(row.rounds_quick, row.rounds);
        match row.system.make(bench.args.seed)? {
            Err(why) => {
                first.row(row.name, [why.clone()]);
                silence.row(row.name, [why]);
            }
            Ok(system) => {
                let outages: Outages = outage::measure(bench, row, system, rounds).await?;
                let last = [show(outages.bound), outages.not_applied.to_string()];
                let cells = |samples| Distribution::of(samples).cells().into_iter().chain(last.clone());
                first.row(row.name, cells(outages.first));
                silence.row(row.name, cells(outages.silence));
            }
        }
    }
    first.note(
        "`probe ±` is the probe's spacing and how late its 99th percentile was: nothing here is finer than that. A fault \
         counts from the moment before it is applied. One that was not seen to happen is no sample; it is counted in the \
         last column.",
    );
    bench.print(&first);
    bench.print(&silence);
    Ok(())
}
