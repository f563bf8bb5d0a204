//! Assumptions: the run was what it claims to be. What is wrong here is wrong with the harness, so it can make a run
//! unknown and never failed. (The assumptions verdict that comes first in etcd's robustness tests.)
//!
//! Among it: the system was empty when the run began, for what was there before would be taken for what the system made up;
//! and where a model goes by one request at a time, there was but one. A retry follows the attempt before it, or a second
//! message could be the generator's own making; a device has one stream, or its cursor would say nothing. Sends of one
//! session may overlap: the order of a sender is judged only between sends of which one was acknowledged before the other.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Promise, Tally, words};
use crate::{
    base::Nanos,
    history::{Class, History, Outcome, Phase, SessionChange, Subject, SystemView},
};

/// A timer may fire this much early.
const EARLY_MAX: Duration = Duration::from_millis(1);

pub(super) struct Assumptions;

impl Promise for Assumptions {
    fn name(&self) -> &'static str {
        "assumptions"
    }

    fn about(&self) -> &'static str {
        "the run was what it claims to be: empty at start, identities unique, one request at a time where that counts, times in order, read back in full"
    }

    fn judge(&self, history: &History, system: &SystemView, tally: &mut Tally) {
        tally.oblige(1);
        if let Some(item) = system.item_conflicts.first() {
            tally.unsure(|| format!("two operations carry the identity {item}"));
        }
        for attempt in &system.attempts {
            if attempt.done < attempt.sent || attempt.sent.plus(EARLY_MAX) < attempt.intended {
                tally.unsure(|| {
                    format!(
                        "operation {} was meant {}, sent {} and done {}: not in that order",
                        attempt.id,
                        words::at(attempt.intended),
                        words::at(attempt.sent),
                        words::at(attempt.done)
                    )
                });
                break;
            }
        }
        let phases = history.phases.all();
        if let Some(pair) = phases.windows(2).find(|pair| pair[1].0 <= pair[0].0) {
            tally.unsure(|| format!("phase {:?} follows phase {:?}", pair[1].0, pair[0].0));
        }
        if history.phases.start(Phase::TearDown).is_none() {
            tally.unsure(|| "the history breaks off before the run ended".to_owned());
        }
        empty_at_start(system, tally);
        one_attempt_at_a_time(system, tally);
        one_stream_at_a_time(system, tally);
    }
}

/// Nobody whom the run signed up was there before, and no log held anything before what the run put there.
fn empty_at_start(system: &SystemView, tally: &mut Tally) {
    let signed_up = || {
        let attempts = system.attempts.iter().filter(|it| it.class == Class::SignUp);
        attempts.filter_map(|it| match &it.subject {
            Subject::Account { phone, created, .. } => Some((phone.as_str(), *created, it)),
            _ => None,
        })
    };
    // The first attempt at each number that may have made its account. Two may be under way at once, and the later sent one
    // be carried out first: only an answer that came before any such attempt was sent tells of an account of before.
    let mut makers: BTreeMap<&str, Nanos> = BTreeMap::new();
    for (phone, created, attempt) in signed_up() {
        let may_have_made = match attempt.outcome {
            Outcome::Ok => created != Some(false),
            Outcome::Unknown => true,
            Outcome::Failed | Outcome::Shed => false,
        };
        if may_have_made {
            let first = makers.entry(phone).or_insert(attempt.sent);
            *first = attempt.sent.min(*first);
        }
    }
    let stranger = signed_up().find(|(phone, created, attempt)| {
        attempt.outcome == Outcome::Ok
            && *created == Some(false)
            && makers.get(phone).is_none_or(|sent| attempt.done < *sent)
    });
    if let Some((phone, _, attempt)) = stranger {
        let at = words::at(attempt.sent);
        tally.unsure(|| format!("the system was not empty: {phone} was signed up before this run did so ({at})"));
    }
    for read in system.reads.iter().filter(|read| read.complete) {
        let ours = |item: &Option<u64>| item.is_some_and(|item| system.items.contains_key(&item));
        let first = read
            .items
            .iter()
            .filter(|it| ours(&it.item))
            .map(|it| it.position)
            .min();
        let older = read
            .items
            .iter()
            .find(|it| !ours(&it.item) && first.is_none_or(|first| it.position < first));
        // A read of what is new says nothing of what stood there before.
        if let Some(older) = older.filter(|_| read.after.is_none()) {
            tally.unsure(|| {
                format!(
                    "the system was not empty, or made something up: position {} of {} holds what this run never put, before all that it did",
                    older.position, read.log
                )
            });
        }
    }
}

/// The attempts of one operation follow each other.
fn one_attempt_at_a_time(system: &SystemView, tally: &mut Tally) {
    let mut ended: BTreeMap<(Class, u64), (u32, Nanos)> = BTreeMap::new();
    let mut attempts: Vec<_> = system.attempts.iter().collect();
    attempts.sort_by_key(|it| (it.sent, it.attempt));
    for attempt in attempts {
        let before = ended.insert((attempt.class, attempt.id), (attempt.attempt, attempt.done));
        let Some((number, done)) = before else { continue };
        if attempt.sent < done || attempt.attempt <= number {
            tally.unsure(|| {
                format!(
                    "attempt {} of operation {} was sent {}, and attempt {number} was over only {}: two at a time",
                    attempt.attempt,
                    attempt.id,
                    words::at(attempt.sent),
                    words::at(done)
                )
            });
            return;
        }
    }
}

/// A device opens a stream only after it has lost the one before.
fn one_stream_at_a_time(system: &SystemView, tally: &mut Tally) {
    let mut open: BTreeMap<(u64, u32), u32> = BTreeMap::new();
    for event in &system.sessions {
        let device = (event.user, event.device);
        match event.change {
            SessionChange::Connected { connection, .. } => {
                if let Some(before) = open.insert(device, connection) {
                    tally.unsure(|| {
                        format!(
                            "{} opened stream {connection} {} and had not lost stream {before}: two at a time",
                            words::device(event.user, event.device),
                            words::at(event.at)
                        )
                    });
                    return;
                }
            }
            SessionChange::Lost { .. } | SessionChange::Fenced => {
                open.remove(&device);
            }
            SessionChange::Current { .. } | SessionChange::Dozed | SessionChange::Woke => {}
        }
    }
}
