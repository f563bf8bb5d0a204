//! False all-clear: the status page says that all is well before sessions are back and the backlog is gone, or says nothing
//! while it isn't. (Status pages that shared the fate of what they spoke of, or went green before the users were back, are
//! part of most stories of outages; the contract is ours.)
//!
//! How it really was is told by the clients: their sessions, what was acknowledged and not shown, and whether any message
//! was taken by each part of the service. The page may take [`NOTICE_WITHIN`] to see that something is wrong; towards an
//! all-clear it has no such grace.

use std::{collections::BTreeMap, time::Duration};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Announced, Class, History, Phase, SessionChange, SystemView, Word},
};

/// How long the page may take to see that something is wrong: for as long as it counts an answer, and one round of
/// questions more.
const NOTICE_WITHIN: Duration = Duration::from_secs(4);
/// How long it must have said nothing: one answer can be lost.
const SILENT_FOR: Duration = Duration::from_secs(2);
/// Of a thousand sessions that were there, those that are enough for all.
const SESSIONS_PER_MILLE: u64 = 990;
/// Deliveries that are always under way.
const CALM_MIN: i64 = 50;

pub(super) struct FalseAllClear;

impl Promise for FalseAllClear {
    fn name(&self) -> &'static str {
        "false-all-clear"
    }

    fn about(&self) -> &'static str {
        "the status page calls it well only once sessions are back and the backlog is gone, and is not silent before"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        if system.announced.is_empty() {
            tally.needs("the system has no status page");
            return;
        }
        tally.needs("the service was never unwell for longer than its status page may take to see it");
        let until = history.phases.start(Phase::Fence).unwrap_or(history.ended);
        let unwell = union(
            [
                sessions_missing(system, until),
                undelivered(history, system, until),
                // Nobody sends any more once the load is over.
                unserved(system, until.min(history.load_end())),
            ]
            .concat(),
        );
        for stretch in &unwell {
            let due = stretch.from.plus(NOTICE_WITHIN);
            let heard = system.announced.iter();
            let heard = heard.filter(|heard| heard.asked >= due && heard.at <= stretch.to);
            let mut silent: Option<&Announced> = None;
            for heard in heard {
                tally.oblige(1);
                let Some(statement) = &heard.statement else {
                    let since = *silent.get_or_insert(heard);
                    if heard.at.since(since.asked) >= SILENT_FOR {
                        tally.broken(since.asked, || {
                            format!(
                                "the status page said nothing from {} to {}, while {}",
                                words::at(since.asked),
                                words::at(heard.at),
                                stretch.words()
                            )
                        });
                    }
                    continue;
                };
                silent = None;
                if statement.said == Word::AllClear {
                    tally.broken(heard.at, || {
                        format!(
                            "the status page said at {} that all is well, while {}",
                            words::at(heard.at),
                            stretch.words()
                        )
                    });
                }
            }
        }
    }
}

/// A time in which all was not well.
#[derive(Clone, Debug)]
struct Stretch {
    from: Nanos,
    to: Nanos,
    why: String,
}

impl Stretch {
    fn words(&self) -> String {
        format!(
            "it was not from {} to {}: {}",
            words::at(self.from),
            words::at(self.to),
            self.why
        )
    }
}

/// Stretches that meet are one.
fn union(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_by_key(|it| (it.from, it.to));
    let mut union: Vec<Stretch> = Vec::new();
    for next in stretches {
        match union.last_mut() {
            Some(last) if next.from <= last.to => {
                last.to = last.to.max(next.to);
                if !last.why.contains(&next.why) {
                    last.why = format!("{}, {}", last.why, next.why);
                }
            }
            _ => union.push(next),
        }
    }
    union
}

/// When a count was out of bounds: `changes` are what is added to it and when, `wrong` says so of the count.
fn sweep(mut changes: Vec<(Nanos, i64)>, until: Nanos, mut wrong: impl FnMut(i64) -> bool, why: &str) -> Vec<Stretch> {
    changes.sort_unstable();
    let (mut count, mut since, mut found) = (0, None, Vec::new());
    let mut stretch = |from: Nanos, to: Nanos| {
        if from < to {
            let why = why.to_owned();
            found.push(Stretch { from, to, why });
        }
    };
    for (at, change) in changes.into_iter().take_while(|(at, _)| *at <= until) {
        count += change;
        match (wrong(count), since) {
            (true, None) => since = Some(at),
            (false, Some(from)) => {
                stretch(from, at);
                since = None;
            }
            _ => {}
        }
    }
    if let Some(from) = since {
        stretch(from, until);
    }
    found
}

/// When fewer sessions were there than had been.
fn sessions_missing(system: &SystemView, until: Nanos) -> Vec<Stretch> {
    let mut there: BTreeMap<u64, bool> = BTreeMap::new();
    let mut changes = Vec::new();
    for event in &system.sessions {
        let now = match event.change {
            SessionChange::Connected { .. } => true,
            SessionChange::Lost { .. } | SessionChange::Fenced => false,
            SessionChange::Current { .. } | SessionChange::Dozed | SessionChange::Woke => continue,
        };
        if there.insert(event.session, now).unwrap_or(false) != now {
            changes.push((event.at, if now { 1 } else { -1 }));
        }
    }
    let mut most = 0_i64;
    let missing = |count: i64| {
        most = most.max(count);
        u64::try_from(count).unwrap_or(0) * 1000 < u64::try_from(most).unwrap_or(0) * SESSIONS_PER_MILLE
    };
    sweep(changes, until, missing, "sessions were not back")
}

/// When more was acknowledged and not shown than in calm times.
fn undelivered(history: &History, system: &SystemView, until: Nanos) -> Vec<Stretch> {
    let mut changes = Vec::new();
    for delivery in &system.deliveries {
        let Some(acked) = delivery.acked else { continue };
        changes.push((acked, 1));
        if let Some(shown) = delivery.shown {
            changes.push((shown.max(acked), -1));
        }
    }
    let calm = match history.phases.window(Phase::Steady, history.ended) {
        Some((from, to)) => peak(&changes, from, to),
        None => 0,
    };
    let calm = CALM_MIN.max(calm.saturating_mul(2));
    sweep(
        changes,
        until,
        |count| count > calm,
        "acknowledged messages were not delivered",
    )
}

/// The most that a count came to from `from` to `to`.
fn peak(changes: &[(Nanos, i64)], from: Nanos, to: Nanos) -> i64 {
    let mut changes = changes.to_vec();
    changes.sort_unstable();
    let (mut count, mut peak) = (0, 0);
    for (at, change) in changes {
        count += change;
        if at >= from && at <= to {
            peak = peak.max(count);
        }
    }
    peak
}

/// When a part of the service took no message: from the sending of the first of several that came to nothing, to that of
/// the next that was taken.
fn unserved(system: &SystemView, until: Nanos) -> Vec<Stretch> {
    let mut failing: BTreeMap<&str, Nanos> = BTreeMap::new();
    let mut taken: BTreeMap<&str, Nanos> = BTreeMap::new();
    let mut found = Vec::new();
    let mut operations: Vec<_> = system.operations.iter().filter(|op| op.class == Class::Send).collect();
    operations.sort_by_key(|op| (op.done, op.id));
    let stretch = |part: &str, from: Nanos, to: Nanos| Stretch {
        from,
        to: to.max(from),
        why: format!(
            "no message was taken by {}",
            if part.is_empty() { "the service" } else { part }
        ),
    };
    for op in operations {
        let part = op.needs.as_str();
        let last = taken.entry(part).or_default();
        if !op.served() {
            // What was sent before something else that was taken says nothing of the time after.
            if op.sent > *last {
                failing.entry(part).or_insert(op.sent);
            }
            continue;
        }
        *last = op.decided_sent.max(*last);
        if let Some(from) = failing.remove(part) {
            found.push(stretch(part, from, op.decided_sent));
        }
    }
    found.extend(failing.into_iter().map(|(part, from)| stretch(part, from, until)));
    found
}
