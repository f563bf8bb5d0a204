//! Vanished: read or shown once, absent from every later read. Whatever any observer saw has happened, acknowledged or
//! not. (Non-monotonic reads: Terry et al., Session Guarantees for Weakly Consistent Replicated Data, 1994.)

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{History, SystemView},
};

pub(super) struct Vanished;

impl Promise for Vanished {
    fn name(&self) -> &'static str {
        "vanished"
    }

    fn about(&self) -> &'static str {
        "what was read or shown once is in every later read"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was seen before a complete read");
        let held: BTreeMap<&str, BTreeSet<u64>> = system
            .final_reads()
            .into_iter()
            .map(|(log, read)| (log, read.items.iter().filter_map(|i| i.item).collect()))
            .collect();
        let reads = system.final_reads();
        let mut seen: BTreeMap<(&str, u64), (Nanos, String)> = BTreeMap::new();
        for shown in &system.shown {
            if let Some(item) = shown.item {
                seen.entry((&shown.log, item)).or_insert_with(|| {
                    (
                        shown.at,
                        format!("shown on {}", words::device(shown.user, shown.device)),
                    )
                });
            }
        }
        for read in &system.reads {
            for item in read.items.iter().filter_map(|i| i.item) {
                seen.entry((&read.log, item))
                    .or_insert_with(|| (read.ended, "read".to_owned()));
            }
        }
        for ((log, item), (at, how)) in seen {
            // A key holds only its last value.
            let Some(read) = reads.get(log).filter(|r| r.began >= at && !log.starts_with("k:")) else {
                continue;
            };
            tally.oblige(1);
            if !held.get(log).is_some_and(|held| held.contains(&item)) {
                tally.broken(at, || {
                    let message = words::message_by_number(system, item);
                    format!(
                        "{message} was {how} at {}, and is not in the complete read of {log} at {}",
                        words::at(at),
                        words::at(read.began)
                    )
                });
            }
        }
    }
}
