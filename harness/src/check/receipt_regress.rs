//! Receipt regress: how far somebody was given and has read a conversation never goes back: not from one receipt to the next
//! in one device's stream, and not for somebody who asks after having had an answer.

use std::collections::BTreeMap;

use super::{
    Promise, Tally,
    marks::{Furthest, acquittals},
    words,
};
use crate::{
    base::Nanos,
    history::{Answer, History, Notice, SystemView},
};

pub(super) struct ReceiptRegress;

impl Promise for ReceiptRegress {
    fn name(&self) -> &'static str {
        "receipt-regress"
    }

    fn about(&self) -> &'static str {
        "what was delivered or read once stays so"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("nobody was told twice how far somebody is");
        streams(system, tally);
        answers(system, tally);
    }
}

/// The device that heard: its user, its number and the incarnation of its stream; and the log and the user it heard of.
type Heard<'a> = (u64, u32, u64, &'a str, u64);

/// One receipt after another, as a device was sent them.
fn streams(system: &SystemView, tally: &mut Tally) {
    let mut last: BTreeMap<Heard<'_>, (u64, u64)> = BTreeMap::new();
    for noticed in system.noticed.iter().filter(|it| !it.repeated_on_wire) {
        let Notice::Receipt {
            log,
            user,
            delivered,
            read,
            ..
        } = &noticed.notice
        else {
            continue;
        };
        let key = (noticed.user, noticed.device, noticed.incarnation, log.as_str(), *user);
        let Some(before) = last.insert(key, (*delivered, *read)) else {
            continue;
        };
        tally.oblige(1);
        if *delivered < before.0 || *read < before.1 {
            tally.broken(noticed.at, || {
                format!(
                    "{} was told at {} that user {user} was given {log} up to {delivered} and read it up to {read}, after {} \
                     and {}",
                    words::device(noticed.user, noticed.device),
                    words::at(noticed.at),
                    before.0,
                    before.1
                )
            });
        }
    }
}

/// A user's own marks, by answers that were asked for after others had come.
struct Claim<'a> {
    log: &'a str,
    user: u64,
    asked: Nanos,
    told: Nanos,
    delivered: u64,
    read: u64,
    /// Whether it says how things are, or how they were on some replica.
    current: bool,
}

fn answers(system: &SystemView, tally: &mut Tally) {
    let moved = acquittals(system).filter_map(|it| {
        let marks = it.marks?;
        Some(Claim {
            log: it.log,
            user: it.user,
            asked: it.attempt.sent,
            told: it.attempt.done,
            delivered: marks.delivered,
            read: marks.read,
            current: true,
        })
    });
    let listed = system.told.iter().flat_map(|told| {
        let (current, threads) = match &told.answer {
            Answer::Threads { current, threads, .. } => (*current, &threads[..]),
            _ => (false, &[][..]),
        };
        threads.iter().map(move |thread| Claim {
            log: &thread.log,
            user: told.user,
            asked: told.began,
            told: told.ended,
            delivered: thread.marks.delivered,
            read: thread.marks.read,
            current,
        })
    });
    let mut by_log: BTreeMap<(&str, u64), Vec<Claim<'_>>> = BTreeMap::new();
    for claim in moved.chain(listed) {
        by_log.entry((claim.log, claim.user)).or_default().push(claim);
    }
    for claims in by_log.values() {
        let known = |mark: fn(&Claim<'_>) -> u64| Furthest::of(claims.iter().map(|it| (it.told, mark(it))).collect());
        let (delivered, read) = (known(|it| it.delivered), known(|it| it.read));
        for claim in claims.iter().filter(|it| it.current) {
            let before = (delivered.before(claim.asked), read.before(claim.asked));
            let (Some(was_delivered), Some(was_read)) = before else {
                continue;
            };
            tally.oblige(1);
            if claim.delivered < was_delivered || claim.read < was_read {
                tally.broken(claim.told, || {
                    format!(
                        "user {} asked at {} and was told that it was given {} up to {} and read it up to {}, and it had \
                         been {was_delivered} and {was_read} before",
                        claim.user,
                        words::at(claim.asked),
                        claim.log,
                        claim.delivered,
                        claim.read
                    )
                });
            }
        }
    }
}
