//! What became of what a device is owed: shown, missing for certain, or not yet to be told.
//!
//! A device that simply has not shown a message when the run ends has not lost it. It misses it when it was shown what
//! comes after it in the same log, or when every node says that it owes nothing any more.

use std::collections::BTreeMap;

use crate::history::{Delivery, History, Item, NodeStatus, SystemView};

/// What became of one message on one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owing {
    /// It was shown.
    Shown,
    /// It was not, though a later position of the log was: it is lost from the middle.
    Skipped {
        /// Its position.
        position: u64,
        /// The position that was shown.
        passed: u64,
    },
    /// It was not, and no node says that it still owes anything.
    Ended,
    /// It was not, and may still be on its way.
    Untold,
}

impl Owing {
    /// In words that fit after the device, for what is missing.
    pub(super) fn words(self) -> String {
        match self {
            Self::Skipped { position, passed } => {
                format!("lost from the middle, position {position} though {passed} was shown")
            }
            _ => "and no node says that it still owes anything: lost from the end".to_owned(),
        }
    }

    /// Whether it is missing for certain.
    pub(super) const fn is_missing(self) -> bool {
        matches!(self, Self::Skipped { .. } | Self::Ended)
    }
}

/// What devices were shown, for asking after many deliveries.
pub(super) struct Owed<'a> {
    /// The furthest position that each device was shown of each log.
    furthest: BTreeMap<(u64, u32, &'a str), u64>,
    nothing_owed: bool,
}

impl<'a> Owed<'a> {
    pub(super) fn of(history: &History, system: &'a SystemView) -> Self {
        let mut furthest: BTreeMap<(u64, u32, &str), u64> = BTreeMap::new();
        for shown in system.shown.iter().filter(|s| !s.repeated_on_wire) {
            let known = furthest.entry((shown.user, shown.device, &shown.log)).or_default();
            *known = (*known).max(shown.position);
        }
        Self {
            furthest,
            nothing_owed: owes_nothing(history, system),
        }
    }

    /// What became of `delivery`, which is of `item`.
    pub(super) fn of_delivery(&self, delivery: &Delivery, item: &'a Item) -> Owing {
        if delivery.shown.is_some() {
            return Owing::Shown;
        }
        let passed = self.furthest.get(&(delivery.user, delivery.device, item.log.as_str()));
        match passed.copied().zip(item.position) {
            Some((passed, position)) if passed > position => Owing::Skipped { position, passed },
            _ if self.nothing_owed => Owing::Ended,
            _ => Owing::Untold,
        }
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
