//! Sender reorder: what one device sent after the acknowledgement of another message of its own is seen before that one.
//! (FIFO order: Hadzilacos and Toueg, 1994.) Sends that overlap have no order to keep.

use std::collections::BTreeMap;

use super::{Promise, Tally, order, words};
use crate::{
    base::Nanos,
    history::{History, SystemView},
};

pub(super) struct SenderReorder;

impl Promise for SenderReorder {
    fn name(&self) -> &'static str {
        "sender-reorder"
    }

    fn about(&self) -> &'static str {
        "what one device sent one after the other is seen in that order"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no device sent two messages to one conversation that were seen");
        for order in order::all(system) {
            // Of each sender, what was seen so far and was sent last.
            let mut latest: BTreeMap<u64, (Nanos, u64)> = BTreeMap::new();
            for (number, at) in &order.items {
                let Some(item) = system.items.get(number) else { continue };
                let Some((sent, before)) = latest.get(&item.session).copied() else {
                    latest.insert(item.session, (item.sent, *number));
                    continue;
                };
                tally.oblige(1);
                if item.acked.is_some_and(|acked| acked < sent) {
                    tally.broken(*at, || {
                        let late = words::message_by_number(system, before);
                        format!(
                            "{} saw {late} before {}, which its sender had sent first",
                            order.observer,
                            words::message(item)
                        )
                    });
                }
                if item.sent > sent {
                    latest.insert(item.session, (item.sent, *number));
                }
            }
        }
    }
}
