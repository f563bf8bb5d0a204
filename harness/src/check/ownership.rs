//! Ownership: a part of the service is served by those who hold it, and by nobody else. (Epochs against two owners: the
//! fencing tokens of Kleppmann, Designing Data-Intensive Applications, chapter 8.) Who holds it is what the service's own
//! map of placement says: once a move is done, the node that the part left answers for it no more, and somebody does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Class, History, Move, MovePhase, Outcome, SystemView},
};

/// How long a part may have no owner that answers, once a move is done and somebody asks.
const SERVED_WITHIN: Duration = Duration::from_secs(5);

pub(super) struct Ownership;

impl Promise for Ownership {
    fn name(&self) -> &'static str {
        "ownership"
    }

    fn about(&self) -> &'static str {
        "a moved part has one owner: the node that it left answers for it no more, and somebody does"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no replica was moved to its end");
        for moved in ends(system) {
            answers(system, &moved, tally);
            claims(system, &moved, tally);
            somebody(history, system, &moved, tally);
        }
    }
}

/// A move that has ended.
struct Ended<'a> {
    it: &'a Move,
    /// When somebody was first heard to know that.
    done: Nanos,
    /// The epoch of the map of whoever said so.
    epoch: u64,
    /// From when on the part may be on its way back.
    back: Nanos,
}

impl Ended<'_> {
    fn words(&self) -> String {
        let Move { group, from, to, .. } = self.it;
        format!(
            "{group} had moved from {from} to {to} by {} (epoch {})",
            words::at(self.done),
            self.epoch
        )
    }
}

fn ends(system: &SystemView) -> Vec<Ended<'_>> {
    let mut done: BTreeMap<u64, Ended<'_>> = BTreeMap::new();
    let mut first: BTreeMap<u64, (Nanos, &Move)> = BTreeMap::new();
    for observed in &system.observed {
        let Some(placement) = observed.status.as_ref().and_then(|status| status.placement.as_ref()) else {
            continue;
        };
        for it in &placement.moves {
            first
                .entry(it.id)
                .or_insert((observed.asked.unwrap_or(observed.at), it));
            if it.phase == MovePhase::Done {
                done.entry(it.id).or_insert(Ended {
                    it,
                    done: observed.at,
                    epoch: placement.epoch,
                    back: Nanos(u64::MAX),
                });
            }
        }
    }
    for ended in done.values_mut() {
        let later = first.values().filter(|(_, other)| other.id > ended.it.id);
        let back = later.filter(|(_, other)| other.group == ended.it.group && other.to == ended.it.from);
        if let Some(at) = back.map(|(at, _)| *at).min() {
            ended.back = at;
        }
    }
    done.into_values().collect()
}

/// The groups that have left nodes for good, with the nodes: what these held is no replica any more.
pub(super) fn left(system: &SystemView) -> BTreeSet<(&str, &str)> {
    let mut left = BTreeSet::new();
    for Ended { it, .. } in ends(system) {
        left.insert((it.group.as_str(), it.from.as_str()));
        left.remove(&(it.group.as_str(), it.to.as_str()));
    }
    left
}

/// Answers that only an owner can give.
const fn is_owners(class: Class) -> bool {
    matches!(
        class,
        Class::SignUp | Class::LogIn | Class::Send | Class::Read | Class::Group | Class::Contacts
    )
}

fn answers(system: &SystemView, moved: &Ended<'_>, tally: &mut Tally) {
    let asked = system.attempts.iter().filter(|attempt| {
        attempt.needs == moved.it.group
            && attempt.outcome == Outcome::Ok
            && is_owners(attempt.class)
            && attempt.sent > moved.done
            && attempt.done < moved.back
    });
    for attempt in asked {
        tally.oblige(1);
        if attempt.answered_by.as_ref() == Some(&moved.it.from) {
            tally.broken(attempt.done, || {
                format!(
                    "{} answered a {} of {} that was sent at {}, though {}",
                    moved.it.from,
                    attempt.class.name(),
                    moved.it.group,
                    words::at(attempt.sent),
                    moved.words()
                )
            });
        }
    }
}

/// A node whose own map says that it holds the part no more does not call itself its leader.
fn claims(system: &SystemView, moved: &Ended<'_>, tally: &mut Tally) {
    for observed in system.observed.iter().filter(|it| it.node == moved.it.from) {
        let Some(status) = &observed.status else { continue };
        let knows = status.placement.as_ref().is_some_and(|placement| {
            let own = placement.moves.iter().find(|it| it.id == moved.it.id);
            own.is_some_and(|it| it.phase == MovePhase::Done)
        });
        if !knows || observed.at >= moved.back {
            continue;
        }
        let leads = status
            .groups
            .iter()
            .find(|group| group.group == moved.it.group && group.leader);
        tally.oblige(1);
        if let Some(group) = leads {
            tally.broken(observed.at, || {
                format!(
                    "{} said at {} that it leads {} in term {}, though it knows that {}",
                    moved.it.from,
                    words::at(observed.at),
                    group.group,
                    group.term,
                    moved.words()
                )
            });
        }
    }
}

fn somebody(history: &History, system: &SystemView, moved: &Ended<'_>, tally: &mut Tally) {
    let until = history.load_end().min(moved.back);
    let due = moved.done.plus(SERVED_WITHIN);
    // A fault that lasts may be what keeps everybody from answering, and so may one that has only just ended.
    let hit = history.faults_of(&system.name).any(|fault| {
        let ended = fault.ended().map_or(Nanos(u64::MAX), |at| at.plus(SERVED_WITHIN));
        fault.effective.is_some_and(|bit| bit < until) && ended > moved.done && fault.kind != "move_replica"
    });
    let asked: Vec<_> = system
        .attempts
        .iter()
        .filter(|it| it.needs == moved.it.group && is_owners(it.class) && it.sent > moved.done && it.done <= until)
        .collect();
    if hit || due > until || !asked.iter().any(|it| it.done >= due) {
        return;
    }
    tally.oblige(1);
    if asked.iter().all(|it| it.outcome != Outcome::Ok) {
        tally.broken(due, || {
            format!(
                "nobody answered for {} from {} to {}, though {}",
                moved.it.group,
                words::at(moved.done),
                words::at(until),
                moved.words()
            )
        });
    }
}
