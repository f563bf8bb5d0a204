//! Causal reorder: the reply before the question. Whoever was shown `m1` before sending `m2` into the same conversation
//! may have answered it, so `m1` comes first for everybody. (Lamport, Time, Clocks and the Ordering of Events, 1978.)

use std::collections::BTreeMap;

use super::{Promise, Tally, order, words};
use crate::{
    base::Nanos,
    history::{History, SystemView},
};

pub(super) struct CausalReorder;

impl Promise for CausalReorder {
    fn name(&self) -> &'static str {
        "causal-reorder"
    }

    fn about(&self) -> &'static str {
        "nobody sees a reply before what it may reply to"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody sent into a conversation after having been shown something of it, seen by one observer");
        let mut shown_to: BTreeMap<(u64, &str), Vec<(Nanos, u64)>> = BTreeMap::new();
        for shown in system.shown.iter().filter(|s| !s.repeated_on_wire) {
            if let Some(item) = shown.item {
                shown_to
                    .entry((shown.user, &shown.log))
                    .or_default()
                    .push((shown.at, item));
            }
        }
        for order in order::all(system) {
            let places: BTreeMap<u64, usize> = order.items.iter().zip(0..).map(|((item, _), n)| (*item, n)).collect();
            // For each sender, the furthest place of anything it had been shown, up to each showing.
            let mut furthest: BTreeMap<u64, Vec<(Nanos, usize, u64)>> = BTreeMap::new();
            for (place, (number, at)) in order.items.iter().enumerate() {
                let Some(reply) = system.items.get(number) else {
                    continue;
                };
                let seen = furthest.entry(reply.author).or_insert_with(|| {
                    let showings = shown_to.get(&(reply.author, order.log)).map_or(&[][..], Vec::as_slice);
                    running_furthest(showings, &places)
                });
                let before = seen.partition_point(|(shown, _, _)| *shown < reply.sent);
                let Some((shown, far, question)) = before.checked_sub(1).map(|i| seen[i]) else {
                    continue;
                };
                tally.oblige(1);
                if far > place {
                    tally.broken(*at, || {
                        let question = words::message_by_number(system, question);
                        format!(
                            "{} saw {} before {question}, which its sender had been shown at {}",
                            order.observer,
                            words::message(reply),
                            words::at(shown)
                        )
                    });
                }
            }
        }
    }
}

/// The showings in the order of time, each with the furthest place in the observer's order of any showing until then.
fn running_furthest(showings: &[(Nanos, u64)], places: &BTreeMap<u64, usize>) -> Vec<(Nanos, usize, u64)> {
    let mut furthest: Option<(usize, u64)> = None;
    let mut running = Vec::new();
    for (at, item) in showings {
        let Some(place) = places.get(item) else { continue };
        if furthest.is_none_or(|(far, _)| *place > far) {
            furthest = Some((*place, *item));
        }
        running.extend(furthest.map(|(far, item)| (*at, far, item)));
    }
    running
}
