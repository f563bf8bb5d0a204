//! Outsider accepted: a group takes more than 200 members, or a message of somebody who doesn't belong to it. Both are
//! decided where the group's log is, so the log itself tells: coming, going and speaking stand in it in one order.

use super::{Promise, Tally, membership_leak::stays, words};
use crate::history::{History, Outcome, Subject, SystemView};

/// Most members of a group.
pub(super) const MEMBERS_MAX: u64 = 200;

pub(super) struct OutsiderAccepted;

impl Promise for OutsiderAccepted {
    fn name(&self) -> &'static str {
        "outsider-accepted"
    }

    fn about(&self) -> &'static str {
        "a group has at most 200 members, and only they speak in it"
    }

    fn judge(&self, _: &History, system: &SystemView, tally: &mut Tally) {
        tally.needs("no group was read to its end, and no change of one was acknowledged");
        for (log, read) in system.final_reads() {
            let Some(group) = system.groups.get(log) else { continue };
            for found in &read.items {
                tally.oblige(1);
                if group.stay(found.author, found.position).is_some() {
                    continue;
                }
                let item = found.item.and_then(|item| system.items.get(&item));
                let at = item.map_or(read.ended, |item| item.certain());
                tally.broken(at, || {
                    let message = found
                        .item
                        .map_or_else(|| "a message".to_owned(), |item| words::message_by_number(system, item));
                    format!(
                        "{message} of user {} stands at position {} of {log}, and that user belonged to the group {}",
                        found.author,
                        found.position,
                        stays(group, found.author)
                    )
                });
            }
            for (position, members) in group.counts() {
                tally.oblige(1);
                if members > MEMBERS_MAX {
                    tally.broken(read.ended, || {
                        format!("{log} has {members} members behind position {position}, at most {MEMBERS_MAX}")
                    });
                }
            }
        }
        for attempt in system.attempts.iter().filter(|it| it.outcome == Outcome::Ok) {
            let Subject::Change {
                log,
                actor,
                members: Some(members),
                ..
            } = &attempt.subject
            else {
                continue;
            };
            tally.oblige(1);
            if *members > MEMBERS_MAX {
                tally.broken(attempt.done, || {
                    format!(
                        "user {actor} was told at {} that {log} has {members} members now, at most {MEMBERS_MAX}",
                        words::at(attempt.done)
                    )
                });
            }
        }
    }
}
