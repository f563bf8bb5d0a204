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
    let mut writes = Table::new(
        "What became of the writes from 250 ms before it to the first acknowledgement, from when each was meant to be sent",
        &[&["row"][..], &Distribution::HEAD, &["not acknowledged"]].concat(),
    );
    for row in ROWS.iter().filter(|row| bench.args.wants(row.name)) {
        let rounds = bench.args.rounds(row.rounds_quick, row.rounds);
        // An unoptimised build has one pace.
        let rates = if bench.args.quick { &row.rates[..1] } else { row.rates };
        for &per_s in rates {
            let name = match bench.args.quick {
                true => row.name.to_owned(),
                false => format!("{}, {per_s}/s", row.name),
            };
            match row.system.make(bench.args.seed)? {
                Err(why) => {
                    first.row(name.as_str(), [why.clone()]);
                    silence.row(name.as_str(), [why.clone()]);
                    writes.row(name.as_str(), [why]);
                }
                Ok(system) => {
                    let outages: Outages = outage::measure(bench, row, per_s, system, rounds).await?;
                    let last = [show(outages.bound), outages.not_applied.to_string()];
                    let cells = |samples| Distribution::of(samples).cells().into_iter().chain(last.clone());
                    first.row(name.as_str(), cells(outages.first));
                    silence.row(name.as_str(), cells(outages.silence));
                    let took = Distribution::of(outages.writes).cells().into_iter();
                    writes.row(name.as_str(), took.chain([outages.failed.to_string()]));
                }
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
    writes.note(
        "A write is tried once and given up after 250 ms; where the row says that writes are repeated, one that surely did \
         not happen is tried again within milliseconds, and counts as one.",
    );
    bench.print(&writes);
    Ok(())
}
