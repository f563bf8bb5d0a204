//! Shrinking history: what a session has seen of a conversation is not there any more when it looks again, across a
//! reconnection, a log-in, a failover or a migration. (Monotonic reads: Terry and others, Session Guarantees for Weakly
//! Consistent Replicated Data, 1994.) A list that says of itself that it isn't current may be older.

use std::collections::{BTreeMap, BTreeSet};

use super::{Promise, Tally, marks::Furthest, words};
use crate::{
    base::Nanos,
    history::{Answer, History, ReadItem, SystemView, Thread, Told},
};

pub(super) struct ShrinkingHistory;

/// A session in the generator, its user and its device.
type Session = (u64, u64, u32);

/// By log, when it was seen to go how far.
type Seen<'a> = BTreeMap<&'a str, Vec<(Nanos, u64)>>;

impl Promise for ShrinkingHistory {
    fn name(&self) -> &'static str {
        "shrinking-history"
    }

    fn about(&self) -> &'static str {
        "a session that looks again finds all that it has seen before"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no session looked at anything that it had seen before");
        let mut shown: BTreeMap<Session, Seen<'_>> = BTreeMap::new();
        for it in system.shown.iter().filter(|it| !it.repeated_on_wire) {
            let seen = shown.entry((it.session, it.user, it.device)).or_default();
            seen.entry(&it.log).or_default().push((it.at, it.position));
        }
        let mut told: BTreeMap<Session, Vec<&Told>> = BTreeMap::new();
        for it in &system.told {
            told.entry((it.session, it.user, it.device)).or_default().push(it);
        }
        let groups: BTreeSet<&str> = system
            .items
            .values()
            .filter(|it| it.group)
            .map(|it| it.log.as_str())
            .collect();
        for (session, answers) in &told {
            let mut seen = shown.remove(session).unwrap_or_default();
            lists(&mut seen, answers, tally);
            pages(system, &groups, answers, tally);
        }
    }
}

/// Every list that is current holds what the session was shown or listed before.
fn lists<'a>(seen: &mut Seen<'a>, answers: &[&'a Told], tally: &mut Tally) {
    for told in answers {
        for thread in threads(told).into_iter().flatten() {
            seen.entry(&thread.log)
                .or_default()
                .push((told.ended, thread.last_position));
        }
    }
    let seen: BTreeMap<&str, Furthest> = seen
        .iter_mut()
        .map(|(log, values)| (*log, Furthest::of(std::mem::take(values))))
        .collect();
    for told in answers {
        // A list that goes on says nothing of what it doesn't hold.
        let Some(threads) = threads(told).filter(|_| matches!(told.answer, Answer::Threads { more: false, .. })) else {
            continue;
        };
        let listed: BTreeMap<&str, u64> = threads.iter().map(|it| (it.log.as_str(), it.last_position)).collect();
        for (log, seen) in &seen {
            let Some(before) = seen.before(told.began) else {
                continue;
            };
            tally.oblige(1);
            let now = listed.get(log).copied().unwrap_or(0);
            if now < before {
                tally.broken(told.ended, || {
                    format!(
                        "{} opened its list at {} and {log} went to position {now}, after it had seen it go to {before}",
                        words::device(told.user, told.device),
                        words::at(told.ended)
                    )
                });
            }
        }
    }
}

/// The conversations of a list that is current.
fn threads(told: &Told) -> Option<&[Thread]> {
    match &told.answer {
        Answer::Threads {
            current: true, threads, ..
        } => Some(threads),
        _ => None,
    }
}

/// One look at a conversation after another.
fn pages(system: &SystemView, groups: &BTreeSet<&str>, answers: &[&Told], tally: &mut Tally) {
    let mut last: BTreeMap<&str, &Told> = BTreeMap::new();
    for told in answers {
        let Answer::Log {
            log,
            last_position,
            items,
            ..
        } = &told.answer
        else {
            continue;
        };
        let Some(before) = last.get(log.as_str()).copied() else {
            last.insert(log, told);
            continue;
        };
        // Two looks at one time may be answered in either order.
        if before.ended >= told.began {
            continue;
        }
        last.insert(log, told);
        let Answer::Log {
            last_position: ended_at,
            items: earlier,
            ..
        } = &before.answer
        else {
            continue;
        };
        // Whoever comes back to a group sees only what came since; of one that was not read to its end nothing is known.
        let one_stay = match system.groups.get(log) {
            Some(group) => group.reading(told.user, *ended_at) == group.reading(told.user, *last_position),
            None => !groups.contains(log.as_str()),
        };
        if !one_stay {
            continue;
        }
        tally.oblige(1);
        let gone = missing(earlier, items);
        if *last_position < *ended_at || gone.is_some() {
            tally.broken(told.ended, || {
                let what = gone.map_or_else(
                    || format!("it ended at {last_position} instead of {ended_at}"),
                    |item| format!("what stood at {} was gone", item.position),
                );
                format!(
                    "{} looked at {log} at {} and again at {}, and {what}",
                    words::device(told.user, told.device),
                    words::at(before.ended),
                    words::at(told.ended)
                )
            });
        }
    }
}

/// What an earlier page held and a later one doesn't. Both are first pages, which begin at the same place.
fn missing<'a>(earlier: &'a [ReadItem], later: &[ReadItem]) -> Option<&'a ReadItem> {
    let there: BTreeSet<u64> = later.iter().map(|item| item.position).collect();
    earlier.iter().find(|item| !there.contains(&item.position))
}
