//! Lost after the acknowledgement: sent, acknowledged, drained, and then not in the log, or never shown to a device that
//! is owed it. (Jepsen's "lost write"; Kleppmann, Designing Data-Intensive Applications, chapter 5 and 9.) What nobody
//! acknowledged and somebody saw, in a read or on a device, has happened and is owed like what was acknowledged.
//!
//! A device that simply has not shown a message when the run ends has not lost it: that is `unseen`. It is lost when
//! the device was shown what comes after it in the same log, or when every node says that it owes nothing any more.
//! When neither can be said, whether it is lost is not known.
//! Under a key (`k:`) a later write may replace an earlier one: there an acknowledged value is lost only when what is
//! read was over before it began.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, words};
use crate::history::{Fate, History, Item, NodeStatus, ReadBack, SystemView};

pub(super) struct LostAcked;

impl Promise for LostAcked {
    fn name(&self) -> &'static str {
        "lost-acked"
    }

    fn about(&self) -> &'static str {
        "what was acknowledged is in the final read, and is shown to every device that is owed it"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was acknowledged");
        in_the_log(system, tally);
        on_the_devices(history, system, tally);
    }
}

fn in_the_log(system: &SystemView, tally: &mut Tally) {
    let reads = system.final_reads();
    let held: BTreeMap<&str, BTreeSet<u64>> = reads
        .iter()
        .map(|(log, read)| (*log, read.items.iter().filter_map(|i| i.item).collect()))
        .collect();
    let mut unread = BTreeSet::new();
    for item in system.items.values().filter(|i| i.fate == Fate::Must) {
        let (Some(read), Some(held)) = (reads.get(item.log.as_str()), held.get(item.log.as_str())) else {
            unread.insert(item.log.as_str());
            continue;
        };
        tally.oblige(1);
        if !held.contains(&item.item) && !replaced(system, item, read) {
            tally.broken(item.certain(), || {
                let place = place(item, read);
                let read_at = words::at(read.began);
                format!(
                    "{} is not in the complete read of {} at {read_at}: lost {place}",
                    words::message(item),
                    item.log
                )
            });
        }
    }
    if !unread.is_empty() {
        tally.unsure(|| {
            let first = unread.first().copied().unwrap_or_default();
            format!(
                "{} logs with acknowledged items have no complete final read, such as {first}",
                unread.len()
            )
        });
    }
}

/// Under a key, whether something read may have been written after `item`.
fn replaced(system: &SystemView, item: &Item, read: &ReadBack) -> bool {
    item.log.starts_with("k:")
        && read
            .items
            .iter()
            .filter_map(|found| system.items.get(&found.item?))
            // What was acknowledged before this one was sent came before it; anything else may have come after.
            .any(|other| other.acked.is_none_or(|acked| acked >= item.sent))
}

/// Where in the log it is missing.
fn place(item: &Item, read: &ReadBack) -> &'static str {
    let Some(position) = item.position else {
        return "at an unknown position";
    };
    let before = read.items.iter().any(|i| i.position < position);
    let after = read.items.iter().any(|i| i.position >= position);
    match (before, after) {
        (true, true) => "from the middle",
        (false, true) => "from the beginning",
        (true, false) => "from the end",
        (false, false) => "with its whole log",
    }
}

fn on_the_devices(history: &History, system: &SystemView, tally: &mut Tally) {
    // The furthest position that each device was shown of each log.
    let mut furthest: BTreeMap<(u64, u32, &str), u64> = BTreeMap::new();
    for shown in system.shown.iter().filter(|s| !s.repeated_on_wire) {
        let known = furthest.entry((shown.user, shown.device, &shown.log)).or_default();
        *known = (*known).max(shown.position);
    }
    let owes_nothing = owes_nothing(history, system);
    let mut untold = 0;
    let mut example = None;
    for delivery in system.deliveries.iter().filter(|d| d.fate == Fate::Must) {
        tally.oblige(1);
        let (None, Some(item)) = (delivery.shown, system.items.get(&delivery.item)) else {
            continue;
        };
        let passed = furthest.get(&(delivery.user, delivery.device, item.log.as_str()));
        let skipped = passed
            .zip(item.position)
            .filter(|(passed, position)| *passed > position);
        let device = words::device(delivery.user, delivery.device);
        let at = item.certain();
        if let Some((passed, position)) = skipped {
            tally.broken(at, || {
                let message = words::message(item);
                format!("{message} was never shown on {device}: lost from the middle, position {position} though {passed} was shown")
            });
        } else if owes_nothing {
            tally.broken(at, || {
                let message = words::message(item);
                format!("{message} was never shown on {device}, and no node says that it still owes anything: lost from the end")
            });
        } else {
            untold += 1;
            example = example.or(Some((item, device)));
        }
    }
    if let Some((item, device)) = example {
        tally.unsure(|| {
            let message = words::message(item);
            format!("{untold} deliveries were never shown, such as {message} to {device}, and not every node says that it owes nothing")
        });
    }
}

/// Whether every node's last word before the end, after the drain began, is that it owes nothing. A group that nobody
/// leads has nobody who counts for it.
fn owes_nothing(history: &History, system: &SystemView) -> bool {
    let (load_end, tear_down) = (history.load_end(), history.tear_down());
    let mut last: BTreeMap<&str, Option<&NodeStatus>> = BTreeMap::new();
    for observed in system.observed.iter().filter(|o| o.at < tear_down) {
        let told = observed.status.as_ref().filter(|_| observed.at > load_end);
        last.insert(&observed.node, told);
    }
    let mut led: BTreeMap<&str, bool> = BTreeMap::new();
    for group in last.values().flatten().flat_map(|status| &status.groups) {
        *led.entry(&group.group).or_default() |= group.leader;
    }
    !last.is_empty()
        && last.values().all(|told| told.is_some_and(|status| status.backlog == 0))
        && led.values().all(|led| *led)
}
