//! Ghost online: a device is said to be online long after it fell silent. Whoever trusts that holds for delivered what a dead
//! connection swallows. (Failure detectors have to be complete, if not accurate: Chandra and Toueg, 1996.)
//!
//! Only devices that the run itself had fall silent count, since of those it is known: between [`SessionChange::Dozed`] and
//! [`SessionChange::Woke`] they took and acknowledged nothing. A service may believe in them for [`BELIEVED_MAX`].

use std::{collections::BTreeMap, time::Duration};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Answer, Delivery, History, SessionChange, SystemView},
};

/// How long somebody who says nothing may be said to be online.
const BELIEVED_MAX: Duration = Duration::from_secs(12);

pub(super) struct GhostOnline;

impl Promise for GhostOnline {
    fn name(&self) -> &'static str {
        "ghost-online"
    }

    fn about(&self) -> &'static str {
        "a device whose connection is dead is not online for long"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody asked after a device that had been silent for 12 s");
        let silent = silences(system);
        if silent.is_empty() {
            return;
        }
        let mut owed: BTreeMap<(u64, u32), Vec<&Delivery>> = BTreeMap::new();
        for delivery in &system.deliveries {
            let key = (delivery.user, delivery.device);
            if silent.contains_key(&key) {
                owed.entry(key).or_default().push(delivery);
            }
        }
        for told in &system.told {
            let Answer::Presence { whose: of, devices } = &told.answer else {
                continue;
            };
            for device in devices {
                let key = (*of, device.device);
                let windows = silent.get(&key).map_or(&[][..], Vec::as_slice);
                let within = |(from, to): &&(Nanos, Nanos)| from.plus(BELIEVED_MAX) <= told.began && told.ended <= *to;
                let Some((from, _)) = windows.iter().find(within) else {
                    continue;
                };
                tally.oblige(1);
                if !device.online {
                    continue;
                }
                tally.broken(told.ended, || {
                    let list = owed.get(&key).map_or(&[][..], Vec::as_slice);
                    let swallowed = list.iter().find(|delivery| {
                        let due = delivery.acked.is_some_and(|acked| acked > *from && acked < told.began);
                        due && delivery.shown.is_none_or(|shown| shown > told.ended)
                    });
                    let lost = swallowed.map_or_else(String::new, |delivery| {
                        format!(
                            ", while {} had not come there",
                            words::message_by_number(system, delivery.item)
                        )
                    });
                    format!(
                        "{} was said to be online at {}, and had been silent since {}{lost}",
                        words::device(*of, device.device),
                        words::at(told.ended),
                        words::at(*from)
                    )
                });
            }
        }
    }
}

/// From when to when each device was silent.
fn silences(system: &SystemView) -> BTreeMap<(u64, u32), Vec<(Nanos, Nanos)>> {
    let mut silent: BTreeMap<(u64, u32), Vec<(Nanos, Nanos)>> = BTreeMap::new();
    for event in &system.sessions {
        let key = (event.user, event.device);
        match event.change {
            SessionChange::Dozed => silent.entry(key).or_default().push((event.at, Nanos(u64::MAX))),
            SessionChange::Woke => {
                if let Some((_, until)) = silent.get_mut(&key).and_then(|windows| windows.last_mut()) {
                    *until = (*until).min(event.at);
                }
            }
            _ => {}
        }
    }
    silent
}
