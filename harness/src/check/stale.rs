//! Stale: absent from a read that began after the acknowledgement, present in a later one. (Linearizability's real-time
//! order: Herlihy and Wing, 1990.) Reads while the load runs ask for what is new in a log; only that is demanded of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::{
    base::{Nanos, millis},
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
        tally.needs("nothing was read after its acknowledgement and once more later");
        let mut acked: BTreeMap<&str, Acked> = BTreeMap::new();
        for item in system.items.values() {
            if let (Some(at), Some(position)) = (item.acked, item.position) {
                let log = acked.entry(&item.log).or_default();
                log.by_position.insert((position, item.item), at);
                log.furthest.push((at, position));
            }
        }
        for log in acked.values_mut() {
            log.furthest.sort_unstable();
            let mut furthest = 0;
            for (_, position) in &mut log.furthest {
                furthest = furthest.max(*position);
                *position = furthest;
            }
        }
        // A key holds only its last value.
        let mut by_log: BTreeMap<&str, Vec<&ReadBack>> = BTreeMap::new();
        for read in system.reads.iter().filter(|r| r.complete && !r.log.starts_with("k:")) {
            by_log.entry(&read.log).or_default().push(read);
        }
        for (log, reads) in by_log {
            if let Some(acked) = acked.get(log) {
                judge_log(system, acked, &reads, tally);
            }
        }
    }
}

/// What was acknowledged of one log.
#[derive(Default)]
struct Acked {
    /// When, by position and item.
    by_position: BTreeMap<(u64, u64), Nanos>,
    /// In the order of acknowledgements: the furthest position by then.
    furthest: Vec<(Nanos, u64)>,
}

impl Acked {
    /// What was acknowledged at `at` and stands behind `after`.
    fn owed(&self, after: u64, at: Nanos) -> impl Iterator<Item = (u64, Nanos)> {
        let known = self.furthest.partition_point(|(acked, _)| *acked <= at);
        let last = known.checked_sub(1).map_or(0, |index| self.furthest[index].1);
        let from = after.saturating_add(1);
        let range = (last >= from).then(|| self.by_position.range((from, 0)..=(last, u64::MAX)));
        let owed = range.into_iter().flatten().map(|((_, item), acked)| (*item, *acked));
        owed.filter(move |(_, acked)| *acked <= at)
    }
}

/// `reads` are in the order of their beginning.
fn judge_log(system: &SystemView, acked: &Acked, reads: &[&ReadBack], tally: &mut Tally) {
    let mut last_in: BTreeMap<u64, Nanos> = BTreeMap::new();
    for read in reads {
        last_in.extend(read.items.iter().filter_map(|found| Some((found.item?, read.began))));
    }
    for read in reads {
        let held: BTreeSet<u64> = read.items.iter().filter_map(|found| found.item).collect();
        for (item, at) in acked.owed(read.after.unwrap_or(0), read.began) {
            // What no later read has either is lost or not known, and not late.
            if last_in.get(&item).is_none_or(|began| *began <= read.began) {
                continue;
            }
            tally.oblige(1);
            if !held.contains(&item) {
                tally.broken(at, || {
                    let has = |later: &&&ReadBack| later.items.iter().any(|found| found.item == Some(item));
                    let late = reads.iter().filter(|later| later.began > read.began).find(has);
                    let late = late.map_or(0.0, |later| millis(later.began.since(at)));
                    let message = words::message_by_number(system, item);
                    format!(
                        "{message} was missing from the read at {} and appeared {late:.0} ms after its acknowledgement",
                        words::at(read.began)
                    )
                });
            }
        }
    }
}
