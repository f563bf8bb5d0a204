//! Stored twice: one identity at two positions. (Exactly-once storage by the client's id: Ongaro, Raft thesis, 6.3.)
//! When a retry after an unknown attempt made the second one, that is [`RetryDuplicate`].

use std::collections::BTreeMap;

use super::{Promise, Tally, words};
use crate::history::{History, Item, SystemView};

pub(super) struct DuplicateStored;
pub(super) struct RetryDuplicate;

impl Promise for DuplicateStored {
    fn name(&self) -> &'static str {
        "duplicate-stored"
    }

    fn about(&self) -> &'static str {
        "one message has one position"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no position was answered or read");
        judge(system, tally, |item| !item.is_some_and(|i| i.retried_after_unknown));
    }
}

impl Promise for RetryDuplicate {
    fn name(&self) -> &'static str {
        "retry-duplicate"
    }

    fn about(&self) -> &'static str {
        "a retry after an unknown attempt makes no second message"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no attempt was repeated after an unknown one and then found");
        judge(system, tally, |item| item.is_some_and(|i| i.retried_after_unknown));
    }
}

fn judge(system: &SystemView, tally: &mut Tally, mine: impl Fn(Option<&Item>) -> bool) {
    let mut positions: BTreeMap<u64, (&str, u64)> = BTreeMap::new();
    let answered = system.items.values().flat_map(|i| {
        i.positions
            .iter()
            .map(|(position, at)| (i.item, i.log.as_str(), *position, *at))
    });
    let read = system.final_reads().into_values().flat_map(|r| {
        r.items
            .iter()
            .filter_map(|i| Some((i.item?, r.log.as_str(), i.position, r.ended)))
    });
    for (item, log, position, at) in answered.chain(read) {
        let known = system.items.get(&item);
        if !mine(known) {
            continue;
        }
        tally.oblige(1);
        let first = *positions.entry(item).or_insert((log, position));
        if first != (log, position) {
            tally.broken(at, || {
                let message = words::message_by_number(system, item);
                format!("{message} is at {}/{} and at {log}/{position}", first.0, first.1)
            });
        }
    }
}
