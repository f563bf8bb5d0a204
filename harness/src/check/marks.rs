//! What several promises need to know of marks: who asked for what, and how far the messages of a log go.

use std::collections::BTreeMap;

use crate::{
    base::Nanos,
    history::{Marks, Operation, Outcome, Subject, SystemView},
};

/// An attempt to move marks.
pub(super) struct Acquittal<'a> {
    pub(super) attempt: &'a Operation,
    pub(super) log: &'a str,
    pub(super) user: u64,
    /// Up to where it says that it has read.
    pub(super) read: u64,
    /// Where the marks are by the answer, of one that was answered.
    pub(super) marks: Option<Marks>,
}

/// Every attempt to move marks, in the order of their ends.
pub(super) fn acquittals(system: &SystemView) -> impl Iterator<Item = Acquittal<'_>> {
    system.attempts.iter().filter_map(|attempt| match &attempt.subject {
        Subject::Receipt {
            log, user, read, marks, ..
        } => Some(Acquittal {
            attempt,
            log,
            user: *user,
            read: *read,
            marks: marks.filter(|_| attempt.outcome == Outcome::Ok),
        }),
        _ => None,
    })
}

/// What a log holds, by its complete final read.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The positions of messages.
    all: Vec<u64>,
    /// The same, by author.
    by_author: BTreeMap<u64, Vec<u64>>,
    /// The numbers of the messages, by position.
    items: BTreeMap<u64, u64>,
    /// The last position, whatever stands there.
    pub(super) last: u64,
}

impl Held {
    /// Every log that was read to its end.
    pub(super) fn of(system: &SystemView) -> BTreeMap<&str, Self> {
        let reads = system.final_reads().into_iter();
        let held = reads.map(|(log, read)| {
            let mut held = Self::default();
            for found in &read.items {
                held.all.push(found.position);
                held.by_author.entry(found.author).or_default().push(found.position);
                held.items.extend(found.item.map(|item| (found.position, item)));
            }
            held.all.sort_unstable();
            held.by_author.values_mut().for_each(|own| own.sort_unstable());
            let changed = read.changes.iter().map(|change| change.position).max();
            held.last = held.all.last().copied().max(changed).unwrap_or(0);
            (log, held)
        });
        held.collect()
    }

    /// How many messages of others than `user` stand behind `after`, up to `through`.
    pub(super) fn of_others(&self, user: u64, after: u64, through: u64) -> u64 {
        let within = |positions: &[u64]| {
            let upto = |bound: u64| positions.partition_point(|position| *position <= bound);
            upto(through).saturating_sub(upto(after)) as u64
        };
        let own = self.by_author.get(&user).map_or(0, |own| within(own));
        within(&self.all) - own
    }

    /// The number of the message that stands at `position`.
    pub(super) fn message_at(&self, position: u64) -> Option<u64> {
        self.items.get(&position).copied()
    }
}

/// The furthest that was asked for so far, told in the order of time.
#[derive(Debug, Default)]
pub(super) struct Furthest(Vec<(Nanos, u64)>);

impl Furthest {
    /// Sets of times and values become the largest value at or before each time.
    pub(super) fn of(mut values: Vec<(Nanos, u64)>) -> Self {
        values.sort_unstable();
        let mut most = 0;
        for (_, value) in &mut values {
            most = most.max(*value);
            *value = most;
        }
        Self(values)
    }

    /// The largest value at or before `at`; none when there was none.
    pub(super) fn by(&self, at: Nanos) -> Option<u64> {
        let before = self.0.partition_point(|(time, _)| *time <= at);
        self.0[..before].last().map(|(_, value)| *value)
    }

    /// The largest value before `at`; none when there was none.
    pub(super) fn before(&self, at: Nanos) -> Option<u64> {
        let before = self.0.partition_point(|(time, _)| *time < at);
        self.0[..before].last().map(|(_, value)| *value)
    }
}
