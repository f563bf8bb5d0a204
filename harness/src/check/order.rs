//! The orders in which observers saw a log, for the promises about order.

use std::collections::{BTreeMap, BTreeSet};

use super::words;
use crate::{
    base::Nanos,
    history::{ReadBack, SystemView},
};

/// One observer's order of one log: each item at its first sighting.
pub(super) struct Order<'a> {
    pub(super) log: &'a str,
    /// Who, in words.
    pub(super) observer: String,
    /// The items, with when each was seen; the read's own time for a read.
    pub(super) items: Vec<(u64, Nanos)>,
}

/// The items met so far, and each at its first sighting.
type Sightings = (BTreeSet<u64>, Vec<(u64, Nanos)>);

/// What each device was shown of each log.
pub(super) fn on_devices(system: &SystemView) -> Vec<Order<'_>> {
    let mut orders: BTreeMap<(&str, u64, u32), Sightings> = BTreeMap::new();
    for ((user, device), known) in &system.devices {
        for shown in system.shown_on(known) {
            let Some(item) = shown.item else { continue };
            let (seen, items) = orders.entry((&shown.log, *user, *device)).or_default();
            if seen.insert(item) {
                items.push((item, shown.at));
            }
        }
    }
    orders
        .into_iter()
        .map(|((log, user, device), (_, items))| Order {
            log,
            observer: words::device(user, device),
            items,
        })
        .collect()
}

/// The order of a complete read.
pub(super) fn of_read<'a>(log: &'a str, read: &ReadBack) -> Order<'a> {
    let mut seen = BTreeSet::new();
    Order {
        log,
        observer: format!("the read at {}", words::at(read.began)),
        items: read
            .items
            .iter()
            .filter_map(|i| i.item)
            .filter(|item| seen.insert(*item))
            .map(|item| (item, read.ended))
            .collect(),
    }
}

/// The orders of all devices and all final reads.
pub(super) fn all(system: &SystemView) -> Vec<Order<'_>> {
    let mut orders = on_devices(system);
    orders.extend(system.final_reads().into_iter().map(|(log, read)| of_read(log, read)));
    orders
}
