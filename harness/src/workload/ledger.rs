//! What is owed, by our own model: each acknowledged message, to each device of its recipients, until it is shown there.
//!
//! The service's own count is compared with it later; it is never taken from there.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::base::Nanos;

/// Every message that is not yet done with.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<u64, Entry>,
    /// Acknowledged and not shown, as (message, device) pairs.
    owed: u64,
    /// Acknowledged messages by the time at which they are overdue.
    due: VecDeque<(Nanos, u64)>,
}

#[derive(Debug)]
struct Entry {
    intended: Nanos,
    acknowledged: bool,
    overdue: bool,
    /// The sessions that still have to show it.
    waiting: BTreeSet<u64>,
    /// While it isn't known who has to: the sessions that have shown it.
    early: Option<BTreeSet<u64>>,
}

impl Ledger {
    /// A message is about to be sent, to the devices of these sessions. One that is never acknowledged is never owed.
    pub(crate) fn intend(&mut self, item: u64, intended: Nanos, sessions: impl IntoIterator<Item = u64>) {
        let entry = Entry {
            intended,
            acknowledged: false,
            overdue: false,
            waiting: sessions.into_iter().collect(),
            early: None,
        };
        self.entries.insert(item, entry);
    }

    /// A message is about to be sent to a group: who is owed it is known once its position is.
    pub(crate) fn intend_for_group(&mut self, item: u64, intended: Nanos) {
        self.intend(item, intended, []);
        if let Some(entry) = self.entries.get_mut(&item) {
            entry.early = Some(BTreeSet::new());
        }
    }

    /// A group's log holds the message: it is owed to the devices of these sessions, as far as they haven't shown it.
    pub(crate) fn expect(&mut self, item: u64, sessions: impl IntoIterator<Item = u64>) {
        let Some(entry) = self.entries.get_mut(&item) else {
            return;
        };
        let Some(early) = entry.early.take() else { return };
        entry.acknowledged = true;
        entry.waiting = sessions
            .into_iter()
            .filter(|session| !early.contains(session))
            .collect();
        self.owed += entry.waiting.len() as u64;
        if entry.waiting.is_empty() {
            self.entries.remove(&item);
        }
    }

    /// A message was acknowledged. It is overdue `within` from now.
    pub(crate) fn acknowledged(&mut self, item: u64, now: Nanos, within: Duration) {
        let Some(entry) = self.entries.get_mut(&item) else {
            return;
        };
        if entry.acknowledged || entry.early.is_some() {
            return;
        }
        entry.acknowledged = true;
        self.owed += entry.waiting.len() as u64;
        if entry.waiting.is_empty() {
            self.entries.remove(&item);
        } else {
            self.due.push_back((now.plus(within), item));
        }
    }

    /// A message was shown. When that was its first time on this device, and it was not overdue: when it was meant.
    pub(crate) fn shown(&mut self, item: u64, session: u64) -> Option<Nanos> {
        let entry = self.entries.get_mut(&item)?;
        if let Some(early) = &mut entry.early {
            return early.insert(session).then_some(entry.intended);
        }
        if !entry.waiting.remove(&session) {
            return None;
        }
        let intended = (!entry.overdue).then_some(entry.intended);
        if entry.acknowledged {
            self.owed -= 1;
            if entry.waiting.is_empty() {
                self.entries.remove(&item);
            }
        }
        intended
    }

    /// The pairs that have become overdue: for each message, when it was meant and how many devices wait.
    pub(crate) fn overdue(&mut self, now: Nanos) -> Vec<(Nanos, usize)> {
        let mut found = Vec::new();
        while self.due.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, item)) = self.due.pop_front() else { break };
            if let Some(entry) = self.entries.get_mut(&item) {
                entry.overdue = true;
                found.push((entry.intended, entry.waiting.len()));
            }
        }
        found
    }

    /// Acknowledged and not shown, as (message, device) pairs.
    #[must_use]
    pub(crate) const fn owed(&self) -> u64 {
        self.owed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WITHIN: Duration = Duration::from_millis(100);

    #[test]
    fn a_message_is_owed_from_its_acknowledgement_until_every_device_shows_it() {
        let mut ledger = Ledger::default();
        ledger.intend(1, Nanos(5), [10, 11]);
        assert_eq!(ledger.owed(), 0, "not yet acknowledged");
        assert_eq!(ledger.shown(1, 10), Some(Nanos(5)), "shown before the answer came");
        ledger.acknowledged(1, Nanos(9), WITHIN);
        ledger.acknowledged(1, Nanos(9), WITHIN);
        assert_eq!(ledger.owed(), 1);
        assert_eq!(ledger.shown(1, 10), None, "twice on one device counts once");
        assert_eq!(ledger.shown(1, 12), None, "a device that is not owed");
        assert_eq!(ledger.shown(1, 11), Some(Nanos(5)));
        assert_eq!(ledger.owed(), 0);
    }

    #[test]
    fn an_overdue_pair_is_counted_once() {
        let mut ledger = Ledger::default();
        ledger.intend(1, Nanos(5), [10, 11]);
        ledger.acknowledged(1, Nanos(0), WITHIN);
        assert!(ledger.overdue(Nanos::from_millis(99)).is_empty());
        assert_eq!(ledger.overdue(Nanos::from_millis(100)), [(Nanos(5), 2)]);
        assert!(ledger.overdue(Nanos::from_millis(500)).is_empty());
        assert_eq!(ledger.shown(1, 10), None, "too late to count as delivered in time");
        assert_eq!(ledger.owed(), 1, "but no longer owed");
    }

    #[test]
    fn what_went_to_a_group_is_owed_once_it_is_known_to_whom() {
        let mut ledger = Ledger::default();
        ledger.intend_for_group(1, Nanos(5));
        assert_eq!(ledger.shown(1, 10), Some(Nanos(5)));
        assert_eq!(ledger.shown(1, 10), None, "twice on one device counts once");
        ledger.acknowledged(1, Nanos(9), WITHIN);
        assert_eq!(ledger.owed(), 0);
        assert!(ledger.overdue(Nanos::from_millis(500)).is_empty());
        ledger.expect(1, [10, 11, 12]);
        ledger.expect(1, [10, 11, 12]);
        assert_eq!(ledger.owed(), 2, "one had shown it before");
        ledger.shown(1, 11);
        ledger.shown(1, 12);
        assert_eq!(ledger.owed(), 0);
        ledger.expect(7, [10]);
        assert_eq!(ledger.owed(), 0, "a message that nobody meant");
    }

    proptest! {
        /// Whatever the order of answers and showings, what is owed is what a plain count says.
        #[test]
        fn it_agrees_with_a_plain_count(steps in proptest::collection::vec((0..4u8, 0..6u64, 0..3u64), 0..120)) {
            let mut ledger = Ledger::default();
            let (mut acked, mut shown) = (BTreeSet::new(), BTreeSet::new());
            for item in 0..6 {
                ledger.intend(item, Nanos(item), 0..3);
            }
            for (step, item, session) in steps {
                match step {
                    0 => { ledger.acknowledged(item, Nanos(0), WITHIN); acked.insert(item); }
                    1 => { ledger.overdue(Nanos::from_millis(200)); }
                    _ => { ledger.shown(item, session); shown.insert((item, session)); }
                }
                let plain: u64 = acked.iter().map(|i| (0..3).filter(|s| !shown.contains(&(*i, *s))).count() as u64).sum();
                prop_assert_eq!(ledger.owed(), plain);
            }
        }
    }
}
