//! Stream regress: a device's stream goes back, or has another message at a position that it had before. A new
//! incarnation is a new stream. (Reading one's own past: Terry et al., 1994, monotonic reads.) A new connection may begin
//! with what the device had, which it drops; within one connection nothing comes twice, dropped or not.

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::history::{History, SystemView};

pub(super) struct StreamRegress;

impl Promise for StreamRegress {
    fn name(&self) -> &'static str {
        "stream-regress"
    }

    fn about(&self) -> &'static str {
        "a device's stream never goes back and never changes what it had"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nothing was shown");
        for ((user, device), known) in &system.devices {
            let mut last: BTreeMap<u64, u64> = BTreeMap::new();
            let mut held: BTreeMap<(u64, u64), Option<u64>> = BTreeMap::new();
            // What the connection brought last: its number, the incarnation, the sequence.
            let mut wire: Option<(u32, u64, u64)> = None;
            for (at, event) in &known.timeline {
                let Some(shown) = system.entry(*event) else { continue };
                tally.oblige(1);
                let last = last.entry(shown.incarnation).or_default();
                let before = wire
                    .filter(|(connection, incarnation, _)| {
                        (*connection, *incarnation) == (shown.connection, shown.incarnation)
                    })
                    .map(|(_, _, sequence)| sequence);
                wire = Some((shown.connection, shown.incarnation, shown.sequence));
                if let Some(before) = before.filter(|before| shown.sequence <= *before) {
                    tally.broken(*at, || {
                        format!(
                            "{} was sent sequence {} at {} after {before} on the same connection",
                            words::device(*user, *device),
                            shown.sequence,
                            words::at(*at)
                        )
                    });
                } else if !shown.repeated_on_wire && shown.sequence <= *last {
                    tally.broken(*at, || {
                        format!(
                            "{} was shown sequence {} at {} after {last}",
                            words::device(*user, *device),
                            shown.sequence,
                            words::at(*at)
                        )
                    });
                }
                *last = (*last).max(shown.sequence);
                let before = *held.entry((shown.incarnation, shown.sequence)).or_insert(shown.item);
                if before != shown.item {
                    tally.broken(*at, || {
                        let name = |item: Option<u64>| {
                            item.map_or_else(|| "no readable message".to_owned(), |i| format!("message {i}"))
                        };
                        format!(
                            "sequence {} of {} was {} and is {} at {}",
                            shown.sequence,
                            words::device(*user, *device),
                            name(before),
                            name(shown.item),
                            words::at(*at)
                        )
                    });
                }
            }
        }
    }
}
