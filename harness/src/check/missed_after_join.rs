//! Missed after join: somebody came to a group, and the first message after that was never shown to it. Joining and
//! speaking meet in the group's log, so whoever stands before a message there is owed it, however short a while before.

use std::collections::BTreeMap;

use super::{
    Promise, Tally,
    membership_leak::stays,
    owing::{Owed, Owing},
    words,
};
use crate::history::{Fate, History, SystemView};

pub(super) struct MissedAfterJoin;

impl Promise for MissedAfterJoin {
    fn name(&self) -> &'static str {
        "missed-after-join"
    }

    fn about(&self) -> &'static str {
        "whoever comes to a group is given the first message after that"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was said in a group after somebody had come to it");
        let mut said: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for item in system
            .items
            .values()
            .filter(|item| item.group && item.fate == Fate::Must)
        {
            said.entry(&item.log).or_default().extend(item.position);
        }
        for positions in said.values_mut() {
            positions.sort_unstable();
        }
        let owed = Owed::of(history, system);
        for delivery in system.deliveries.iter().filter(|it| it.fate == Fate::Must) {
            let item = system.items.get(&delivery.item).filter(|item| item.group);
            let (Some(item), Some(group)) = (item, item.and_then(|item| system.groups.get(&item.log))) else {
                continue;
            };
            let Some(position) = item.position else { continue };
            let Some(stay) = group.stay(delivery.user, position) else {
                continue;
            };
            let positions = said.get(item.log.as_str()).map_or(&[][..], Vec::as_slice);
            let first = positions.partition_point(|at| *at <= stay.joined);
            if positions.get(first) != Some(&position) {
                continue;
            }
            tally.oblige(1);
            let owing = owed.of_delivery(delivery, item);
            let words = || {
                format!(
                    "{}, the first at position {position} after user {}, who belonged to the group {}, was never shown on {}",
                    words::message(item),
                    delivery.user,
                    stays(group, delivery.user),
                    words::device(delivery.user, delivery.device)
                )
            };
            if owing.is_missing() {
                tally.broken(item.certain(), || format!("{}: {}", words(), owing.words()));
            } else if owing == Owing::Untold {
                tally.unsure(|| format!("{}, and not every node says that it owes nothing", words()));
            }
        }
    }
}
