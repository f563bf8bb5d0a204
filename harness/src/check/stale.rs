//! Stale: absent from a read that began after the acknowledgement, present in a later one. (Linearizability's real-time
//! order: Herlihy and Wing, 1990.)

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::{
    base::millis,
    history::{History, ReadBack, SystemView},
};

pub(super) struct Stale;

impl Promise for Stale {
    fn name(&self) -> &'static str {
        "stale"
    }

    fn about(&self) -> &'static str {
        "a read that begins after an acknowledgement holds what was acknowledged"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no log was read more than once");
        let mut by_log: BTreeMap<&str, Vec<&ReadBack>> = BTreeMap::new();
        for read in system.reads.iter().filter(|r| r.complete && !r.log.starts_with("k:")) {
            by_log.entry(&read.log).or_default().push(read);
        }
        for reads in by_log.values().filter(|reads| reads.len() > 1) {
            let mut later: BTreeMap<u64, &ReadBack> = BTreeMap::new();
            // From the last to the first: `later` knows in which later read an item was found.
            for read in reads.iter().rev() {
                let held: BTreeSet<u64> = read.items.iter().filter_map(|i| i.item).collect();
                for (item, found) in &later {
                    let acked = system
                        .items
                        .get(item)
                        .and_then(|i| i.acked)
                        .filter(|a| *a <= read.began);
                    let Some(acked) = acked else { continue };
                    tally.oblige(1);
                    if !held.contains(item) {
                        tally.broken(acked, || {
                            let late = millis(found.began.since(acked));
                            let message = words::message_by_number(system, *item);
                            format!("{message} was missing from the read at {} and appeared {late:.0} ms after its acknowledgement", words::at(read.began))
                        });
                    }
                }
                later.extend(held.into_iter().map(|item| (item, *read)));
            }
        }
    }
}
