//! False "up to date": a device is told that it is owed nothing while it is.
//!
//! A claim may be old when it arrives, so only what was certain before its connection was asked for counts against it: a
//! sequence that the device itself was shown before, or a message that another device of the account had been shown when
//! this device lost its connection before (all devices of an account get a message in one step) and this one was not.

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{DeviceEvent, History, SessionChange, SystemView},
};

pub(super) struct FalseCurrent;

/// When a message was first shown on any device of the account, its number, and when this device showed it.
type Known = (Nanos, u64, Option<Nanos>);

impl Promise for FalseCurrent {
    fn name(&self) -> &'static str {
        "false-current"
    }

    fn about(&self) -> &'static str {
        "a device that is told it is up to date is owed nothing"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no device was told that it is up to date");
        let mut owed: BTreeMap<(u64, u32), Vec<Known>> = BTreeMap::new();
        let mut elsewhere: BTreeMap<(u64, u64), Nanos> = BTreeMap::new();
        for delivery in &system.deliveries {
            if let Some(shown) = delivery.shown {
                let first = elsewhere.entry((delivery.item, delivery.user)).or_insert(shown);
                *first = (*first).min(shown);
            }
        }
        for delivery in &system.deliveries {
            if let Some(known) = elsewhere.get(&(delivery.item, delivery.user)) {
                let own = owed.entry((delivery.user, delivery.device)).or_default();
                own.push((*known, delivery.item, delivery.shown));
            }
        }
        for list in owed.values_mut() {
            list.sort_unstable();
        }
        for ((user, device), known) in &system.devices {
            // A connection is asked for after the one before it was lost.
            let mut asked = Nanos(0);
            let mut furthest: BTreeMap<u64, u64> = BTreeMap::new();
            let list = owed.get(&(*user, *device)).map_or(&[][..], Vec::as_slice);
            // Messages known elsewhere before then, of which some may still be missing here: looked at once.
            let mut settled = 0;
            for (at, event) in &known.timeline {
                let change = match event {
                    DeviceEvent::Shown(_) | DeviceEvent::Noticed(_) => {
                        let Some(entry) = system.entry(*event) else { continue };
                        let known = furthest.entry(entry.incarnation).or_default();
                        *known = (*known).max(entry.sequence);
                        continue;
                    }
                    DeviceEvent::Session(index) => &system.sessions[*index].change,
                };
                match change {
                    SessionChange::Current { sequence, incarnation } => {
                        tally.oblige(1);
                        let shown = furthest.get(incarnation).copied().unwrap_or(0);
                        if *sequence < shown {
                            tally.broken(*at, || {
                                format!(
                                    "{} was told at {} that {sequence} is the end, after it had been shown {shown}",
                                    words::device(*user, *device),
                                    words::at(*at)
                                )
                            });
                        }
                        while let Some((_, _, here)) = list.get(settled).filter(|(first, _, _)| *first < asked) {
                            if here.is_none_or(|here| here > *at) {
                                break;
                            }
                            settled += 1;
                        }
                        if let Some((first, item, _)) = list.get(settled).filter(|(first, _, _)| *first < asked) {
                            tally.broken(*at, || {
                                let message = words::message_by_number(system, *item);
                                format!("{} was told at {} that it is up to date, without {message}, which another device of the account was shown at {}", words::device(*user, *device), words::at(*at), words::at(*first))
                            });
                        }
                    }
                    SessionChange::Lost { .. } => asked = *at,
                    SessionChange::Connected { .. }
                    | SessionChange::Dozed
                    | SessionChange::Woke
                    | SessionChange::Fenced => {}
                }
            }
        }
    }
}
